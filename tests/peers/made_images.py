"""Image objects around given pixels. They say what readers of pixels and geometry need, no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)
from pydicom.valuerep import format_number_as_ds

from node.uids import IMPLEMENTATION_CLASS_UID, derived_uid

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

_MODALITIES = {
    CTImageStorage: "CT",
    EnhancedCTImageStorage: "CT",
    MRImageStorage: "MR",
    EnhancedMRImageStorage: "MR",
    UltrasoundImageStorage: "US",
    UltrasoundMultiFrameImageStorage: "US",
}


def made_image(
    pixels: npt.NDArray[np.uint8 | np.uint16], sop_class: UID, name: str = "1", **attributes: Any
) -> Dataset:
    """Return one object of a made-up patient.

    Args:
        pixels: Shape (rows, columns) or (frames, rows, columns), for colour with RGB last.
        sop_class: Which object.
        name: What its SOP Instance UID derives from; all are of one series.
        attributes: What else it says, or says otherwise.
    """
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    image.SOPClassUID = sop_class
    image.SOPInstanceUID = UID(derived_uid("made image", name))
    image.StudyInstanceUID = UID(derived_uid("made image", "study"))
    image.SeriesInstanceUID = UID(derived_uid("made image", "series"))
    image.PatientName, image.PatientID = "Phantom^Geometry", "PHANTOM-GEOMETRY"
    image.PatientBirthDate, image.PatientSex = "19700101", "O"
    image.StudyDate, image.StudyTime = "20260105", "101500"
    image.StudyID, image.AccessionNumber, image.ReferringPhysicianName = "1", "PH0002", ""
    image.Modality = _MODALITIES.get(sop_class, "DX")
    if image.Modality in ("CT", "MR"):
        image.FrameOfReferenceUID = UID(derived_uid("made image", "frame of reference"))
        image.PositionReferenceIndicator = ""
    image.Manufacturer, image.SeriesNumber, image.InstanceNumber = "Phantom", 1, 1
    colour = pixels.shape[-1] == 3
    shape = pixels.shape[:-1] if colour else pixels.shape
    if len(shape) == 3:
        image.NumberOfFrames = shape[0]
    image.Rows, image.Columns = shape[-2:]
    image.SamplesPerPixel = 3 if colour else 1
    image.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        image.PlanarConfiguration = 0
    image.BitsAllocated = 8 * pixels.dtype.itemsize
    image.BitsStored = min(image.BitsAllocated, 12)
    image.HighBit, image.PixelRepresentation = image.BitsStored - 1, 0
    image.PixelData = pixels.tobytes() + bytes(pixels.nbytes % 2)
    image["PixelData"].VR = "OW" if image.BitsAllocated == 16 else "OB"
    for keyword, value in attributes.items():
        setattr(image, keyword, value)
    return image


def item(**attributes: Any) -> list[Dataset]:
    """Return a sequence of one item."""
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return [made]


def ds(*values: float) -> list[str]:
    """Format for VR DS, which holds 16 characters (PS3.5 section 6.2)."""
    return [format_number_as_ds(float(value)) for value in values]


def save(image: Dataset, folder: Path) -> Path:
    """Write an object to a file whose name says nothing of it."""
    path = folder / f"{len(list(folder.iterdir()))}.dcm"
    image.save_as(path, enforce_file_format=True)
    return path
