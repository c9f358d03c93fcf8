"""Sources that make no volume, and results with something to show of each kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    UltrasoundMultiFrameImageStorage,
)

from node.encode.write import write
from node.load.source import Source
from node.uids import derived_uid
from pipelines.contract import Images
from tests.sr_templates import made

if TYPE_CHECKING:
    from pathlib import Path

ROWS, COLUMNS = 48, 64


def ct() -> Source:
    """A CT that says how its values are windowed, with a name that old tools can read."""
    source = made.classic()
    for number, header in enumerate(source.instances, start=1):
        header.SOPClassUID, header.Modality, header.InstanceNumber = CTImageStorage, "CT", number
        header.PatientName = "Mueller^Aenne"
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
        header.PixelRepresentation = 0
        header.RescaleSlope, header.RescaleIntercept, header.RescaleType = 2, -1024, "HU"
        header.WindowCenter, header.WindowWidth = [40, 300], [400, 1500]
    return source


def write_image(header: Dataset, stored: np.ndarray, path: Path) -> None:
    """Write an image with its pixels as they are stored."""
    image = Dataset()
    image.update(header)
    image.PixelData = stored.astype("<u2").tobytes()
    write(image, path)


def _header(sop_class_uid: str, modality: str, name: str) -> Dataset:
    header = made.identity()
    header.SOPClassUID = sop_class_uid
    header.SOPInstanceUID = derived_uid("test", name)
    header.Modality = modality
    header.Rows, header.Columns = ROWS, COLUMNS
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
    header.PixelRepresentation = 0
    return header


def radiograph(photometric: str = "MONOCHROME2") -> Source:
    """A radiograph twice as finely sampled along its columns as along its rows."""
    header = _header(DigitalXRayImageStorageForPresentation, "DX", "radiograph")
    header.PhotometricInterpretation = photometric
    header.PatientOrientation = ["L", "F"]
    header.PixelSpacing = [0.4, 0.2]
    ramp = np.linspace(0.0, 4095.0, ROWS * COLUMNS, dtype=np.float32)
    return Source(Images(ramp.reshape(1, ROWS, COLUMNS), (0.4, 0.2)), (header,))


def clip() -> Source:
    """Five colour frames of ultrasound, not calibrated."""
    header = _header(UltrasoundMultiFrameImageStorage, "US", "clip")
    header.SamplesPerPixel, header.PhotometricInterpretation = 3, "RGB"
    header.PlanarConfiguration = 0
    header.BitsAllocated = header.BitsStored = 8
    header.HighBit = 7
    header.NumberOfFrames = 5
    frames = np.full((5, ROWS, COLUMNS, 3), (20, 40, 60), np.uint8)
    return Source(Images(frames), (header,), (1, 2, 3, 4, 5))
