"""A pipeline that needs two series of a study, installed as ``pip`` would, and such a study.

It outlines what is brighter after contrast agent than before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.uids import derived_uid
from tests.peers.bright_spot import ct_series

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset

NAME = "enhancement-ct"

SOURCE = '''\
"""What takes up contrast agent."""

from pipelines.codes import ANATOMICAL_STRUCTURE, BRAIN, VOLUME
from pipelines.contract import CouldNotLook, Finding, Measurement, Model, Result, Segment


class Enhancement:
    name = "enhancement-ct"
    version = "1.0.0"
    title = "Enhancement"
    inputs = {
        "contrast": {"Modality": "CT", "SeriesDescription": "CONTRAST*"},
        "native": {"Modality": "CT", "SeriesDescription": "NATIVE*"},
    }
    report = "measurement_report"
    model = Model("difference", "1", "radnode tests", "0" * 64, "nothing: a fixed threshold")
    parameters = {"threshold_hu": "300"}
    deadline_s = 60.0
    priority = "stat"

    def warm_up(self):
        pass

    def run(self, *, contrast, native):
        if contrast.shape != native.shape:
            raise CouldNotLook("The two series differ in size.")
        mask = contrast.voxels - native.voxels > 300.0
        if not mask.any():
            return Result()
        volume = Measurement(VOLUME, float(mask.sum()) * contrast.grid.voxel_volume_ml, "mL")
        finding = Finding(BRAIN, segment="enhancing", measurements=(volume,))
        return Result((finding,), (Segment("enhancing", ANATOMICAL_STRUCTURE, BRAIN, mask),))
'''


def install(folder: Path) -> dict[str, str]:
    """Install the pipeline into ``folder``; the environment in which it is found."""
    (folder / "two_series.py").write_text(SOURCE)
    record = folder / "two_series-1.0.0.dist-info"
    record.mkdir(exist_ok=True)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: two-series\nVersion: 1.0.0\n")
    (record / "entry_points.txt").write_text(
        f"[radnode.pipelines]\n{NAME} = two_series:Enhancement\n"
    )
    return {"PYTHONPATH": str(folder)}


def series(root: str, description: str, number: int, *, slices: int = 6) -> list[Dataset]:
    """Return one series of the study of ``root``; with a spot where the agent is given."""
    images = ct_series(root, slices, spot=description.startswith("CONTRAST"))
    for image in images:
        image.SeriesInstanceUID = derived_uid(root, "series", str(number))
        image.SOPInstanceUID = derived_uid(root, str(number), str(image.InstanceNumber))
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.SeriesDescription, image.SeriesNumber = description, number
    return images
