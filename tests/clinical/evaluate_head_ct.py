"""Measure what ``head-ct-haemorrhage`` makes of a real head without lesion weights.

    python -m tests.clinical.evaluate_head_ct --data DIR --weights DIR [--write]

DIR of the data holds ``ct/head_ge_tilted``: a head of 28 slices, 4 and 7 mm apart, with a tilted
gantry. The node refuses it as it is, for its slices are unevenly spaced; here they are straightened
and interpolated to 1 mm, so that the cavity can be measured.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydicom import dcmread

from node.models.add import from_catalogue
from pipelines import catalogue, models
from pipelines.contract import Grid, Volume
from pipelines.evaluation.report import write_card
from pipelines.head_ct_haemorrhage.pipeline import CAVITY_MODEL, HeadCtHaemorrhage

if TYPE_CHECKING:
    from pipelines.geometry import Vector

CARD = Path(__file__).parents[2] / "pipelines" / "head_ct_haemorrhage" / "card.md"
BONE_HU = 200.0
DATA = "1 head (dcm_qa_ct, GE, tilted 18.5 degrees), straightened and interpolated to 1 mm"


def triple(values: npt.NDArray[np.float64]) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])


def straightened(folder: Path) -> Volume:
    """Return the head in slices of 1 mm, moved upright and interpolated linearly."""
    slices = sorted(
        (dcmread(path) for path in folder.glob("*.dcm")),
        key=lambda one: float(one.ImagePositionPatient[2]),
    )
    cosines = np.array(slices[0].ImageOrientationPatient, dtype=np.float64)
    column, row = cosines[:3], cosines[3:]
    normal = np.cross(column, row)
    positions = np.array([one.ImagePositionPatient for one in slices], dtype=np.float64)
    heights_mm = positions @ normal
    pixel_mm = np.array(slices[0].PixelSpacing, dtype=np.float64)
    sideways = (positions - positions[0]) @ np.array([row, column]).T
    moved = np.rint(sideways / pixel_mm).astype(int)
    moved -= moved.min(axis=0)
    rows, columns = slices[0].Rows, slices[0].Columns
    upright = np.full(
        (len(slices), rows + moved[:, 0].max(), columns + moved[:, 1].max()), -1000.0, np.float32
    )
    for plane, one, (down, right) in zip(upright, slices, moved, strict=True):
        hounsfield = one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept)
        plane[down : down + rows, right : right + columns] = np.maximum(hounsfield, -1000.0)
    wanted_mm = np.arange(heights_mm[0], heights_mm[-1], 1.0)
    below = np.clip(np.searchsorted(heights_mm, wanted_mm, side="right") - 1, 0, len(slices) - 2)
    share = (wanted_mm - heights_mm[below]) / (heights_mm[below + 1] - heights_mm[below])
    weight = share.astype(np.float32)[:, None, None]
    voxels = upright[below] * (1.0 - weight) + upright[below + 1] * weight
    corner = np.rint(sideways.min(axis=0) / pixel_mm) * pixel_mm
    origin = positions[0] + corner @ np.array([row, column])
    grid = Grid(
        voxels.shape,
        triple(origin),
        (triple(normal), triple(row), triple(column)),
        (1.0, float(pixel_mm[0]), float(pixel_mm[1])),
    )
    return Volume(voxels, grid, {"Modality": "CT"})


def report(data: Path, weights: Path) -> str:
    """Return the figures as the card prints them."""
    head = straightened(data / "ct" / "head_ge_tilted")
    with TemporaryDirectory() as folder:
        from_catalogue(Path(folder), catalogue.entries()[CAVITY_MODEL], folder=weights)
        models.use(Path(folder))
        pipeline = HeadCtHaemorrhage()
        pipeline.warm_up()
        started, used = time.perf_counter(), time.process_time()
        result = pipeline.run(head)
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
    (segment,) = result.segments
    volume_ml = float(segment.mask.sum()) * head.grid.voxel_volume_ml
    bone = float((head.voxels[segment.mask] > BONE_HU).mean())
    memory_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    cost = f"{cpu:.0f} s of CPU, {seconds:.0f} s by the clock, {memory_gb:.1f} GB at most"
    return "\n".join(
        (
            "| question | data | result |",
            "|---|---|---|",
            f"| Cranial cavity | {DATA} | {volume_ml:.0f} mL; {bone:.1%} of it is bone |",
            f"| Time and memory | the same, MindGrab alone | {cost} |",
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--write", action="store_true", help="put them into the card")
    arguments = parser.parse_args()
    measured = report(arguments.data, arguments.weights)
    print(measured)
    if arguments.write:
        write_card(CARD, measured)


if __name__ == "__main__":
    main()
