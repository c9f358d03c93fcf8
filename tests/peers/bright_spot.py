"""A pipeline as a researcher would write it, in a package of its own, and a CT for it.

``install`` lays it out as ``pip install`` would; a node finds it by its entry point. Beside it
lie two that a test needs: one that contradicts itself, one that waits until it is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from node.uids import derived_uid

if TYPE_CHECKING:
    from pathlib import Path

NAME = "bright-spot-ct"
CONTRADICTS = "contradiction-ct"
"""Reports twice the volume that it outlines."""
WAITS = "waiting-ct"
"""Finds nothing, once somebody has written to the FIFO named by ``GATE_VARIABLE``."""
GATE_VARIABLE = "WAITING_CT_GATE"

SOURCE = '''\
"""Anything brighter than 300 HU."""

import os
from pathlib import Path

from pipelines.codes import ANATOMICAL_STRUCTURE, BRAIN, VOLUME
from pipelines.contract import Finding, Measurement, Model, Result, Segment


class BrightSpot:
    name = "bright-spot-ct"
    version = "1.0.0"
    title = "Bright spot"
    input = {"Modality": "CT", "ImageType": "ORIGINAL"}
    report = "measurement_report"
    model = Model("threshold", "1", "radnode tests", "0" * 64, "nothing: a fixed threshold")
    parameters = {"threshold_hu": "300"}
    deadline_s = 60.0
    exaggeration = 1.0

    def warm_up(self):
        pass

    def run(self, ct):
        mask = ct.voxels > 300.0
        if not mask.any():
            return Result(notes=("No voxel above 300 HU.",))
        volume_ml = self.exaggeration * float(mask.sum()) * ct.grid.voxel_volume_ml
        volume = Measurement(VOLUME, volume_ml, "mL")
        finding = Finding(BRAIN, segment="bright spot", measurements=(volume,))
        return Result((finding,), (Segment("bright spot", ANATOMICAL_STRUCTURE, BRAIN, mask),))


class Contradiction(BrightSpot):
    name = "contradiction-ct"
    exaggeration = 2.0


class Waiting(BrightSpot):
    name = "waiting-ct"

    def run(self, ct):
        Path(os.environ["WAITING_CT_GATE"]).read_bytes()
        return Result()
'''


def install(folder: Path) -> dict[str, str]:
    """Install the pipeline into ``folder``; the environment in which it is found."""
    (folder / "bright_spot.py").write_text(SOURCE)
    record = folder / "bright_spot-1.0.0.dist-info"
    record.mkdir(exist_ok=True)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: bright-spot\nVersion: 1.0.0\n")
    (record / "entry_points.txt").write_text(
        "[radnode.pipelines]\n"
        f"{NAME} = bright_spot:BrightSpot\n"
        f"{CONTRADICTS} = bright_spot:Contradiction\n"
        f"{WAITS} = bright_spot:Waiting\n"
    )
    return {"PYTHONPATH": str(folder)}


def ct_series(root: str, slices: int = 6, *, spot: bool = True) -> list[Dataset]:
    """Return a small CT with a cube of 500 HU in water; all UIDs derive from ``root``."""
    volume = np.zeros((slices, 32, 32), np.int16)
    if spot:
        volume[2:4, 10:20, 10:20] = 500
    return [_image(root, number, pixels) for number, pixels in enumerate(volume, start=1)]


def _image(root: str, number: int, pixels: np.ndarray) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = derived_uid(root, "instance", str(number))
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.StudyInstanceUID = derived_uid(root, "study")
    image.SeriesInstanceUID = derived_uid(root, "series")
    image.FrameOfReferenceUID = derived_uid(root, "frame of reference")
    image.PatientName, image.PatientID = "Phantom^Bright", root[:64]
    image.PatientBirthDate, image.PatientSex = "19700101", "O"
    image.StudyDate = image.SeriesDate = "20260102"
    image.StudyTime = image.SeriesTime = "101112"
    image.StudyID, image.AccessionNumber, image.ReferringPhysicianName = "1", "A1", ""
    image.Modality, image.SeriesNumber, image.InstanceNumber = "CT", 1, number
    image.Manufacturer, image.PositionReferenceIndicator = "Phantom", ""
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.BodyPartExamined, image.PatientPosition = "HEAD", "HFS"
    image.KVP, image.SliceThickness, image.AcquisitionNumber = "120", "2", "1"
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = "0", "1", "HU"
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.ImagePositionPatient = [0, 0, 2 * number]
    image.PixelSpacing = [1, 1]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = pixels.shape
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation = 1
    image.PixelData = pixels.astype("<i2").tobytes()
    return image
