"""A pipeline that costs nothing beside what the node does for it, and a CT of full size for it.

It is installed as a researcher's package would be (``tests.peers.bright_spot`` tells how).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from node.uids import derived_uid
from tests.bench.encode import ellipsoids
from tests.peers import bright_spot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pydicom import Dataset

NAME = "five-regions-ct"
REGIONS = 5

SOURCE = f'''\
"""Tells apart the regions of a phantom whose n-th one has 100 n HU."""

from pipelines.codes import ANATOMICAL_STRUCTURE, BRAIN, VOLUME
from pipelines.contract import Finding, Measurement, Model, Result, Segment


class FiveRegions:
    name = "{NAME}"
    version = "1.0.0"
    title = "Five regions"
    input = {{"Modality": "CT", "ImageType": "ORIGINAL"}}
    report = "measurement_report"
    model = Model("threshold", "1", "radnode bench", "0" * 64, "nothing: fixed thresholds")
    parameters = {{"step_hu": "100"}}
    deadline_s = 60.0

    def warm_up(self):
        pass

    def run(self, ct):
        findings, segments = [], []
        for n in range(1, {REGIONS + 1}):
            mask = ct.voxels == 100.0 * n
            volume_ml = float(mask.sum()) * ct.grid.voxel_volume_ml
            volume = Measurement(VOLUME, volume_ml, "mL")
            findings.append(Finding(BRAIN, segment=f"region {{n}}", measurements=(volume,)))
            segments.append(Segment(f"region {{n}}", ANATOMICAL_STRUCTURE, BRAIN, mask))
        return Result(tuple(findings), tuple(segments))
'''


def install(folder: Path) -> dict[str, str]:
    """Install the pipeline into ``folder``; the environment in which it is found."""
    record = folder / "five_regions-1.0.0.dist-info"
    record.mkdir(parents=True)
    (folder / "five_regions.py").write_text(SOURCE)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: five-regions\nVersion: 1.0.0\n")
    (record / "entry_points.txt").write_text(
        f"[radnode.pipelines]\n{NAME} = five_regions:FiveRegions\n"
    )
    return {"PYTHONPATH": str(folder)}


def studies(slices: int = 300, side: int = 512) -> Callable[[int], Sequence[Dataset]]:
    """Return a maker of CT studies of one axial series; all have the same pixels."""
    masks = ellipsoids(REGIONS, (slices, side, side))
    voxels = np.zeros(masks.shape[1:], "<i2")
    for number, mask in enumerate(masks, start=1):
        voxels[mask] = 100 * number
    pixels = [plane.tobytes() for plane in voxels]
    (header,) = bright_spot.ct_series("bench", slices=1, spot=False)

    def make(number: int) -> Sequence[Dataset]:
        study = copy.deepcopy(header)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
            setattr(study, keyword, derived_uid("bench CT", keyword, str(number)))
        study.Rows = study.Columns = side
        return [_slice(study, k, plane) for k, plane in enumerate(pixels)]

    return make


def _slice(study: Dataset, k: int, pixels: bytes) -> Dataset:
    image = copy.deepcopy(study)
    image.SOPInstanceUID = derived_uid("bench CT", str(study.SeriesInstanceUID), str(k))
    image.InstanceNumber = k + 1
    image.ImagePositionPatient = [0, 0, 2 * k]
    image.PixelData = pixels
    return image
