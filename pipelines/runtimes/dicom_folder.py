"""A volume as DICOM slices without a patient, and the segmentation that a container makes of it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SegmentationStorage,
)

from pipelines.contract import CouldNotLook
from pipelines.runtimes.network import NetworkFault

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from pipelines.contract import Volume

_CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage}
_STORED = 65535
_TECHNICAL = ("BodyPartExamined", "KVP", "ConvolutionKernel", "SliceThickness")
"""Attributes handed on; the node lets none that identifies a patient into a volume."""


def write(volume: Volume, folder: Path) -> list[str]:
    """Write one file a slice and return their SOP Instance UIDs, in the order of the slices.

    Raises:
        CouldNotLook: It is neither CT nor MR.
    """
    modality = volume.attributes.get("Modality", "")
    if modality not in _CLASSES:
        raise CouldNotLook("This container takes CT and MR; the series is neither.")
    lowest, highest = float(volume.voxels.min()), float(volume.voxels.max())
    # Whole numbers stay exact where they fit, as those of a CT do.
    exact = np.array_equal(volume.voxels, np.rint(volume.voxels)) and highest - lowest <= _STORED
    slope = 1.0 if exact else float(f"{max(highest - lowest, 1e-6) / _STORED:.10g}")
    common = _common(volume, modality)
    common.RescaleSlope, common.RescaleIntercept = f"{slope:.10g}", f"{lowest:.10g}"
    instances = []
    for number, plane in enumerate(volume.voxels):
        stored = np.clip(np.rint((plane - np.float64(lowest)) / slope), 0, _STORED)
        instances.append(_write_slice(common, volume, number, stored.astype("<u2"), folder))
    return instances


def _common(volume: Volume, modality: str) -> Dataset:
    common = Dataset()
    common.SOPClassUID = _CLASSES[modality]
    common.StudyInstanceUID, common.SeriesInstanceUID = _uid(), _uid()
    common.FrameOfReferenceUID = _uid()
    common.PatientName, common.PatientID = "Anonymous", "ANONYMOUS"
    common.PatientBirthDate = common.PatientSex = common.StudyDate = common.StudyTime = ""
    common.StudyID = common.AccessionNumber = common.ReferringPhysicianName = ""
    common.Modality, common.SeriesNumber, common.Manufacturer = modality, 1, ""
    common.ImageType = ["DERIVED", "SECONDARY"]
    common.PatientIdentityRemoved, common.DeidentificationMethod = "YES", "arrays only"
    slice_mm, row_mm, column_mm = volume.spacing_mm
    common.PixelSpacing = [_decimal(row_mm), _decimal(column_mm)]
    common.SliceThickness = _decimal(slice_mm)
    common.ImageOrientationPatient = [
        _decimal(one) for axis in volume.grid.axes[:0:-1] for one in axis
    ]
    for keyword in _TECHNICAL:
        if keyword in volume.attributes:
            setattr(common, keyword, volume.attributes[keyword].split("\\")[0])
    common.SamplesPerPixel, common.PhotometricInterpretation = 1, "MONOCHROME2"
    _, common.Rows, common.Columns = volume.shape
    common.BitsAllocated = common.BitsStored = 16
    common.HighBit, common.PixelRepresentation = 15, 0
    return common


def _write_slice(
    common: Dataset, volume: Volume, number: int, stored: npt.NDArray[Any], folder: Path
) -> str:
    image = Dataset()
    image.update(common)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = common.SOPClassUID
    image.SOPInstanceUID = _uid()
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.InstanceNumber = number + 1
    place = (volume.grid.affine @ np.array([number, 0.0, 0.0, 1.0]))[:3]
    image.ImagePositionPatient = [_decimal(one) for one in place]
    image.PixelData = stored.tobytes()
    image.save_as(folder / f"{number + 1:05}.dcm", enforce_file_format=True)
    return str(image.SOPInstanceUID)


def is_segmentation(path: Path) -> bool:
    """Whether a file is a DICOM segmentation."""
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    except (InvalidDicomError, OSError):
        return False
    return bool(header.get("SOPClassUID") == SegmentationStorage)


def read_segmentation(
    path: Path, instances: list[str], shape: tuple[int, int, int]
) -> dict[int, npt.NDArray[np.bool_]]:
    """Return the mask of each segment by its number, on the slices that were written.

    Raises:
        NetworkFault: It lies on other images, or cannot be read.
    """
    from highdicom.seg import segread  # noqa: PLC0415 - its import takes seconds

    try:
        segmentation = segread(path)
        numbers = list(segmentation.segment_numbers)
        pixels = segmentation.get_pixels_by_source_instance(
            source_sop_instance_uids=instances,
            segment_numbers=numbers,
            combine_segments=False,
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
        )
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError):
        raise NetworkFault("The container wrote a segmentation of other images.") from None
    if pixels.shape[:3] != shape:
        raise NetworkFault(
            f"The container wrote a segmentation of {pixels.shape[:3]}, not {shape}."
        )
    return {
        int(number): np.ascontiguousarray(pixels[..., at] > 0) for at, number in enumerate(numbers)
    }


def _uid() -> UID:
    """Return a UID that leads back to nothing (PS3.5 annex B.2)."""
    return UID(f"2.25.{uuid.uuid4().int}")


def _decimal(value: float) -> str:
    """Return a number as VR DS holds it: at most 16 characters (PS3.5 section 6.2)."""
    return f"{value:.9g}"[:16]
