"""A pipeline that finds every lesion of the body phantom, installed as ``pip`` would.

Each connected thing brighter than bone is a nodule of its own, numbered from the largest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NAME = "spots-ct"
DENSITY_HU = 900.0
"""Of a lesion that it finds."""

SOURCE = '''\
"""Anything brighter than 650 HU."""

import numpy as np
import SimpleITK

from pipelines.codes import MORPHOLOGICALLY_ABNORMAL, NODULE, VOLUME
from pipelines.contract import CouldNotLook, Finding, Measurement, Model, Result, Segment


class Spots:
    name = "spots-ct"
    version = "1.0.0"
    title = "Spots"
    input = {"Modality": "CT", "ImageType": "ORIGINAL"}
    report = "measurement_report"
    model = Model("threshold", "1", "radnode tests", "0" * 64, "nothing: a fixed threshold")
    parameters = {"threshold_hu": "650"}
    deadline_s = 120.0

    def warm_up(self):
        pass

    def run(self, ct):
        if ct.voxels.max() > 2000.0:
            raise CouldNotLook("Metal is in the images.")
        bright = SimpleITK.GetImageFromArray((ct.voxels > 650.0).astype(np.uint8))
        things = SimpleITK.RelabelComponent(SimpleITK.ConnectedComponent(bright))
        labels = SimpleITK.GetArrayFromImage(things)
        findings, segments = [], []
        for number in range(1, int(labels.max()) + 1):
            mask, label = labels == number, f"spot {number}"
            volume = Measurement(VOLUME, float(mask.sum()) * ct.grid.voxel_volume_ml, "mL")
            findings.append(Finding(NODULE, segment=label, measurements=(volume,)))
            segments.append(Segment(label, MORPHOLOGICALLY_ABNORMAL, NODULE, mask))
        return Result(tuple(findings), tuple(segments))
'''


def install(folder: Path) -> dict[str, str]:
    """Install the pipeline into ``folder``; the environment in which it is found."""
    (folder / "spots.py").write_text(SOURCE)
    record = folder / "spots-1.0.0.dist-info"
    record.mkdir(exist_ok=True)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: spots\nVersion: 1.0.0\n")
    (record / "entry_points.txt").write_text(f"[radnode.pipelines]\n{NAME} = spots:Spots\n")
    return {"PYTHONPATH": str(folder)}
