"""A T1-weighted head whose brain is known, and the DICOM objects a scanner would send of it.

The brain is the MNI152 template that nilearn ships (ICBM 2009a nonlinear symmetric, copyright
1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill
University). It comes without a skull, so cerebrospinal fluid, skull with marrow and scalp are
simulated around it as shells, and Rician noise over it. The patient is made up.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import SimpleITK
from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import format_number_as_ds
from scipy.spatial.transform import Rotation

from node.uids import IMPLEMENTATION_CLASS_UID, derived_uid
from pipelines.contract import Grid
from pipelines.geometry import RAS, Vector, reorder_towards

Voxels = npt.NDArray[np.uint16]
Mask = npt.NDArray[np.bool_]
AcquisitionPlane = Literal["axial", "sagittal", "coronal"]

_BRIGHTEST_TISSUE = 1000.0
_SHELLS_MM = ((0.0, 2.0, 180), (2.0, 4.5, 40), (4.5, 8.0, 550), (8.0, 9.5, 40), (9.5, 15.0, 950))
"""From, to (distance from the brain), signal: fluid, inner table, marrow, outer table, scalp."""
_MARGIN_MM = 24
_NOISE = 20.0

_LEFT, _BACK, _HEAD, _FEET = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, -1.0)
_PLANES: dict[AcquisitionPlane, tuple[Vector, Vector, Vector]] = {
    "axial": (_HEAD, _BACK, _LEFT),
    "sagittal": (_LEFT, _FEET, _BACK),
    "coronal": (_BACK, _FEET, _LEFT),
}
"""Where slices, rows and columns grow to, as a reader expects to see them."""


@cache
def head_phantom(seed: int = 0) -> tuple[Voxels, Mask, Grid]:
    """Return a head in axial slices of 1 mm voxels, its brain, and where both are.

    Made once in a process, in seconds: whoever changes it changes a copy, and is told so.

    Args:
        seed: Of the noise, and of the few degrees by which the head lies askew in the scanner.
    """
    random = np.random.default_rng(seed)
    brain = load_mni152_brain_mask(resolution=1).get_fdata(dtype=np.float32) > 0
    tissue = load_mni152_template(resolution=1).get_fdata(dtype=np.float32)
    box = tuple(slice(int(index.min()), int(index.max()) + 1) for index in np.nonzero(brain))
    truth = np.pad(brain[box], _MARGIN_MM)
    # What the template shows beside the brain is left out: the shells take its place.
    signal = np.where(truth, _BRIGHTEST_TISSUE * np.pad(tissue[box], _MARGIN_MM), 0.0)
    outside_mm = _distance_mm(truth)
    for nearest, farthest, level in _SHELLS_MM:
        signal[(outside_mm > nearest) & (outside_mm <= farthest)] = level
    real, imaginary = _NOISE * random.standard_normal((2, *truth.shape), dtype=np.float32)
    voxels = np.rint(np.hypot(signal + real, imaginary)).astype(np.uint16)
    askew = Rotation.from_euler("xyz", random.uniform(-6.0, 6.0, size=3), degrees=True)
    axes = askew.apply(np.array(RAS))
    x, y, z = (_vector(axis) for axis in axes)
    centre = (np.array(truth.shape) - 1) / 2
    grid = Grid(truth.shape, _vector(-centre @ axes), (x, y, z), spacing_mm=(1.0, 1.0, 1.0))
    axial = reorder_towards(grid, _PLANES["axial"])
    voxels, truth = axial.apply(voxels), axial.apply(truth)
    voxels.flags.writeable = truth.flags.writeable = False
    return voxels, truth, axial.regrid(grid)


def to_mr_series(
    voxels: Voxels, grid: Grid, plane: AcquisitionPlane = "axial", root: str = "head-phantom"
) -> list[Dataset]:
    """Return the head as one MR Image Storage instance a slice, from first to last.

    Args:
        voxels: Grey values, shape ``grid.shape``.
        grid: Where they are.
        plane: How the scanner cut the slices; every voxel stays where it is in the patient.
        root: What all UIDs derive from; the planes of one ``root`` are series of one study.
    """
    reorder = reorder_towards(grid, _PLANES[plane])
    slices, grid = reorder.apply(voxels), reorder.regrid(grid)
    instances = []
    for number, pixels in enumerate(slices, start=1):
        instance = _image(root, f"{plane}-{number}", plane, grid)
        instance.file_meta.MediaStorageSOPClassUID = instance.SOPClassUID = MRImageStorage
        instance.InstanceNumber = number
        instance.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        instance.ScanningSequence = ["GR", "IR"]
        instance.SequenceVariant = ["SK", "SP", "MP"]
        instance.ScanOptions = ""
        instance.MRAcquisitionType = "3D"
        instance.SequenceName = "*tfl3d1_16ns"
        instance.RepetitionTime, instance.EchoTime, instance.InversionTime = 2300, 2.98, 900
        instance.EchoTrainLength, instance.FlipAngle = 1, 9
        instance.SliceThickness = instance.SpacingBetweenSlices = _ds(grid.spacing_mm[0])
        instance.PixelSpacing = [_ds(value) for value in grid.spacing_mm[1:]]
        instance.ImageOrientationPatient = _orientation(grid)
        instance.ImagePositionPatient = _position(grid, number - 1)
        instance.PixelData = np.ascontiguousarray(pixels, dtype="<u2").tobytes()
        instances.append(instance)
    return instances


def to_enhanced_mr(
    voxels: Voxels, grid: Grid, plane: AcquisitionPlane = "axial", root: str = "head-phantom"
) -> Dataset:
    """Return the head as one Enhanced MR Image Storage instance; arguments as ``to_mr_series``."""
    reorder = reorder_towards(grid, _PLANES[plane])
    slices, grid = reorder.apply(voxels), reorder.regrid(grid)
    instance = _image(root, f"{plane}-enhanced", f"{plane}-enhanced", grid)
    instance.file_meta.MediaStorageSOPClassUID = instance.SOPClassUID = EnhancedMRImageStorage
    instance.InstanceNumber = 1
    kind = {
        "PixelPresentation": "MONOCHROME",
        "VolumetricProperties": "VOLUME",
        "VolumeBasedCalculationTechnique": "NONE",
        "ComplexImageComponent": "MAGNITUDE",
        "AcquisitionContrast": "T1",
    }
    instance.update(_item(ImageType=["DERIVED", "PRIMARY", "T1", "NONE"], **kind))
    instance.ContentQualification = "RESEARCH"
    instance.ApplicableSafetyStandardAgency = "IEC"
    instance.BurnedInAnnotation = "NO"
    instance.LossyImageCompression = "00"
    instance.PresentationLUTShape = "IDENTITY"
    instance.AcquisitionContextSequence = []
    instance.NumberOfFrames = len(slices)
    organization = derived_uid(root, plane, "dimensions")
    instance.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=organization)]
    instance.DimensionIndexSequence = [
        _item(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=pointer,
            FunctionalGroupPointer=0x00209111,  # Frame Content Sequence
        )
        for pointer in (0x00209056, 0x00209057)  # Stack ID, In-Stack Position Number
    ]
    brain = _item(CodeValue="12738006", CodingSchemeDesignator="SCT", CodeMeaning="Brain")
    shared = {
        "PixelMeasuresSequence": _item(
            SliceThickness=_ds(grid.spacing_mm[0]),
            SpacingBetweenSlices=_ds(grid.spacing_mm[0]),
            PixelSpacing=[_ds(value) for value in grid.spacing_mm[1:]],
        ),
        "PlaneOrientationSequence": _item(ImageOrientationPatient=_orientation(grid)),
        "FrameAnatomySequence": _item(FrameLaterality="B", AnatomicRegionSequence=[brain]),
        "PixelValueTransformationSequence": _item(
            RescaleIntercept="0", RescaleSlope="1", RescaleType="US"
        ),
        "FrameVOILUTSequence": _item(WindowCenter="500", WindowWidth="1000"),
        "MRImageFrameTypeSequence": _item(FrameType=["DERIVED", "PRIMARY", "T1", "NONE"], **kind),
        "MREchoSequence": _item(EffectiveEchoTime=2.98),
        "MRModifierSequence": _item(
            InversionRecovery="YES",
            InversionTimes=[900.0],
            FlowCompensation="NONE",
            T2Preparation="NO",
            Spoiling="RF",
            SpectrallySelectedExcitation="NONE",
            SpatialPresaturation="NONE",
            PartialFourier="NO",
            ParallelAcquisition="NO",
        ),
    }
    instance.SharedFunctionalGroupsSequence = [
        _item(**{keyword: [group] for keyword, group in shared.items()})
    ]
    instance.PerFrameFunctionalGroupsSequence = [
        _item(
            FrameContentSequence=[
                _item(
                    StackID="1",
                    InStackPositionNumber=number + 1,
                    DimensionIndexValues=[1, number + 1],
                )
            ],
            PlanePositionSequence=[_item(ImagePositionPatient=_position(grid, number))],
        )
        for number in range(len(slices))
    ]
    instance.PixelData = np.ascontiguousarray(slices, dtype="<u2").tobytes()
    return instance


def _image(root: str, instance: str, series: str, grid: Grid) -> Dataset:
    """Return what every image of the head says: patient, study, series, equipment, pixels."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    image.SOPInstanceUID = UID(derived_uid(root, instance))
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.StudyInstanceUID = UID(derived_uid(root, "study"))
    image.SeriesInstanceUID = UID(derived_uid(root, "series", series))
    image.FrameOfReferenceUID = UID(derived_uid(root, "frame of reference"))
    image.PatientName, image.PatientID = "Phantom^Head", "PHANTOM-HEAD"
    image.PatientBirthDate, image.PatientSex, image.PatientAge = "19700101", "O", "056Y"
    image.StudyDate = image.SeriesDate = image.ContentDate = "20260105"
    image.StudyTime = image.SeriesTime = image.ContentTime = "101500"
    image.AcquisitionDateTime = "20260105101500"
    image.StudyID, image.AccessionNumber = "1", "PH0001"
    image.StudyDescription, image.SeriesDescription = "MR head", "T1 MPRAGE phantom"
    image.SeriesNumber, image.AcquisitionNumber = 1, 1
    image.ReferringPhysicianName = ""
    image.PositionReferenceIndicator = ""
    image.Modality, image.BodyPartExamined, image.PatientPosition = "MR", "HEAD", "HFS"
    image.Manufacturer, image.ManufacturerModelName = "Phantom", "Head phantom"
    image.DeviceSerialNumber, image.SoftwareVersions = "1", "1"
    image.MagneticFieldStrength = "3"
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = grid.shape[1:]
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation = 0
    return image


def _item(**elements: object) -> Dataset:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def _orientation(grid: Grid) -> list[str]:
    return [_ds(cosine) for axis in (grid.axes[2], grid.axes[1]) for cosine in axis]


def _position(grid: Grid, number: int) -> list[str]:
    return [_ds(value) for value in (grid.affine @ (number, 0, 0, 1))[:3]]


def _ds(value: float) -> str:
    """Format for VR DS, which holds 16 characters (PS3.5 section 6.2)."""
    return format_number_as_ds(float(value))


def _distance_mm(mask: Mask) -> npt.NDArray[np.float32]:
    """Return how far each 1 mm voxel is from ``mask``; negative inside."""
    image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
    distance: npt.NDArray[np.float32] = SimpleITK.GetArrayFromImage(
        SimpleITK.SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False)
    )
    return distance


def _vector(values: npt.NDArray[np.float64]) -> Vector:
    return (float(values[0]), float(values[1]), float(values[2]))
