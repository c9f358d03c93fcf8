"""Measure ``brain-mr-tumour`` on a real glioma: one command, the card's figures.

    python -m tests.clinical.evaluate_tumour --data DIR --weights DIR [--card FILE] [--picture FILE]

DIR of the data holds ``glioma_tcga_fg6692`` (T1, T1c, T2, FLAIR as NIfTI; nobody outlined the
tumour), DIR of the weights ``brats17_wang``. The images become DICOM series, in the planes and
order stated, and go through the node's own loader.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from scipy.spatial.transform import Rotation

from node.load.source import load
from node.models.add import from_catalogue
from pipelines import catalogue, models
from pipelines.brain_mr_tumour import codes, coregistration, pipeline
from pipelines.brain_mr_tumour.findings import PARTS
from pipelines.codes import MAXIMUM_3D_DIAMETER, VOLUME
from pipelines.contract import Volume
from pipelines.evaluation.report import write_card
from pipelines.geometry import reorder_towards
from tests.peers.tumour_study import Sequence, read_glioma, tumour_study

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from pipelines.contract import Result
    from tests.peers.head_phantom import AcquisitionPlane

    Planes = dict[str, AcquisitionPlane]

THREADS = 2
MARGIN_PIXELS = 60
"""Shown on either side of the tumour's middle."""
ONE_CASE = (
    "One glioma (TCGA-FG-6692; T1, T1c, T2, FLAIR, slices 5.5 mm apart), as four DICOM series; "
    "nobody outlined it, so that no accuracy can be stated."
)
CONTRAST = (
    "How much brighter each part is than the brain outside of the tumour, in standard deviations "
    "of that:"
)
AXIAL: Planes = dict.fromkeys(("t1c", "t1", "t2", "flair"), "axial")
REPLANED: Planes = {"t1c": "coronal", "t1": "sagittal", "t2": "coronal", "flair": "sagittal"}
MOTIONS = {
    "t1": ((3.0, -4.0, 6.0), (4.0, -7.0, 5.0)),
    "t2": ((-5.0, 3.0, 4.0), (-8.0, 3.0, 6.0)),
    "flair": ((4.0, 6.0, -5.0), (6.0, 5.0, -9.0)),
}
"""Degrees about x, y, z and millimetres by which the patient moves before a series."""


class Reading(NamedTuple):
    """One run: what went in, what came out, how long it took."""

    series: Mapping[str, Volume]
    result: Result
    seconds: float

    def mask(self, label: str) -> npt.NDArray[np.bool_]:
        """Return the mask of a part, empty where it was not found."""
        found = {segment.label: segment.mask for segment in self.result.segments}
        return found.get(label, np.zeros(self.series["t1c"].shape, np.bool_))

    def whole(self) -> npt.NDArray[np.bool_]:
        """Return all parts together."""
        return np.any([self.mask(part.label) for part in PARTS], axis=0)

    def value(self, label: str | None, name: object) -> float:
        """Return what was measured of a part, or of the tumour; NaN where it was not."""
        return next(
            (
                measured.value
                for finding in self.result.findings
                if finding.segment == label
                for measured in finding.measurements
                if measured.name == name
            ),
            float("nan"),
        )

    def side(self) -> str:
        """Return the side of the tumour in a word."""
        side = self.result.findings[0].laterality
        return "none" if side is None else side.meaning.lower()


def read(volumes: Mapping[str, Volume], planes: Planes, seed: int) -> Reading:
    """Write the series as DICOM files, shuffled, and run the pipeline on what the node loads."""
    instances = tumour_study({name: Sequence(one, planes[name]) for name, one in volumes.items()})
    with TemporaryDirectory() as folder:
        files: dict[str, list[Path]] = {}
        numbers = list(range(len(instances)))
        random.Random(seed).shuffle(numbers)
        for number, instance in zip(numbers, instances, strict=True):
            path = Path(folder) / f"{number:04d}.dcm"
            instance.save_as(path, enforce_file_format=True)
            files.setdefault(instance.SeriesInstanceUID, []).append(path)
        loaded = [load(sorted(paths)).study for paths in files.values()]
    tumour = pipeline.BrainMrTumour()
    series = {
        tumour.input_of(one.attributes) or "": one for one in loaded if isinstance(one, Volume)
    }
    start = time.perf_counter()
    result = tumour.run(**series)
    return Reading(series, result, time.perf_counter() - start)


def moved(volume: Volume, degrees: tuple[float, ...], shift_mm: tuple[float, ...]) -> Volume:
    """Return the same head elsewhere in the scanner: its voxels stay, its place does not."""
    turn = Rotation.from_euler("xyz", degrees, degrees=True)
    x, y, z = (turn.apply(volume.grid.origin_mm) + shift_mm).tolist()
    one, two, three = (tuple(turn.apply(axis).tolist()) for axis in volume.grid.axes)
    axes = (one, two, three)
    return replace(volume, grid=replace(volume.grid, origin_mm=(x, y, z), axes=axes))


def mirrored(volume: Volume) -> Volume:
    """Return the head with left and right exchanged: columns run from right to left."""
    return replace(volume, voxels=np.ascontiguousarray(volume.voxels[..., ::-1]))


def dice(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    """Return the overlap of two masks, 1 where both are empty."""
    both = float(one.sum() + other.sum())
    return 2.0 * float((one & other).sum()) / both if both else 1.0


def in_the_patient(
    reading: Reading, mask: npt.NDArray[np.bool_], like: Reading
) -> npt.NDArray[np.bool_]:
    """Return a mask of one reading on the grid of another's T1c."""
    return coregistration.moved_mask(mask, reading.series["t1c"].grid, like.series["t1c"].grid)


def size_rows(reading: Reading) -> Iterator[str]:
    """Yield what was measured of each part, as table rows."""
    yield "| part | volume, mL | longest diameter in 3D, mm |"
    yield "|---|---|---|"
    for part in PARTS:
        volume, diameter = (
            reading.value(part.label, name) for name in (VOLUME, MAXIMUM_3D_DIAMETER)
        )
        yield f"| {part.label} | {volume:.1f} | {diameter:.0f} |"
    volume, diameter = (
        reading.value(None, name) for name in (codes.WHOLE_VOLUME, MAXIMUM_3D_DIAMETER)
    )
    yield f"| all | {volume:.1f} | {diameter:.0f} |"
    agreement = reading.value(None, codes.PLANE_AGREEMENT)
    yield ""
    yield (
        f"Side: {reading.side()}. Mean Dice overlap of the networks of the three planes: "
        f"{agreement:.2f}."
    )


def contrast_rows(reading: Reading) -> Iterator[str]:
    """Yield how much brighter each part is than the brain around, in its standard deviations."""
    head = pipeline._prepared(reading.series, 0.5)
    grid = reading.series["t1c"].grid
    masks = {
        part.label: coregistration.moved_mask(reading.mask(part.label), grid, head.grid)
        for part in PARTS
    }
    tumour = coregistration.moved_mask(reading.whole(), grid, head.grid)
    normal = head.brain & ~tumour
    yield "| part | T1c | T1 | T2 | FLAIR |"
    yield "|---|---|---|---|---|"
    for label, mask in masks.items():
        cells = []
        for name in ("t1c", "t1", "t2", "flair"):
            image = head.images[name]
            away = (image[mask].mean() - image[normal].mean()) / image[normal].std()
            cells.append(f"{away:+.1f}")
        yield f"| {label} | " + " | ".join(cells) + " |"


def repeat_rows(first: Reading, others: Mapping[str, Reading]) -> Iterator[str]:
    """Yield how much the result differs where the same head comes another way."""
    yield "| the same head | Dice whole | Dice core | Dice enhancing | volume, mL | side |"
    yield "|---|---|---|---|---|---|"
    core = ("Enhancing tumour", "Necrotic or non-enhancing core")
    for words, other in others.items():
        overlaps = [
            dice(mask(first), in_the_patient(other, mask(other), first))
            for mask in (
                Reading.whole,
                lambda one: np.any([one.mask(label) for label in core], axis=0),
                lambda one: one.mask(core[0]),
            )
        ]
        cells = [f"{overlap:.3f}" for overlap in overlaps]
        volume = other.value(None, codes.WHOLE_VOLUME)
        yield f"| {words} | " + " | ".join(cells) + f" | {volume:.1f} | {other.side()} |"


def report(volumes: Mapping[str, Volume]) -> tuple[str, Reading]:
    """Return all figures as the card prints them (Markdown), and the plain reading."""
    first = read(volumes, AXIAL, seed=0)
    shifted = dict(volumes) | {
        name: moved(volumes[name], *motion) for name, motion in MOTIONS.items()
    }
    replaned = read(volumes, REPLANED, seed=1)
    in_motion = read(shifted, AXIAL, seed=2)
    mirror = read({name: mirrored(one) for name, one in volumes.items()}, AXIAL, seed=3)
    # Mirrored voxels on the same grid: the mask is compared after it is mirrored back.
    back = Reading(
        first.series,
        replace(
            mirror.result,
            segments=tuple(
                replace(one, mask=one.mask[:, :, ::-1]) for one in mirror.result.segments
            ),
        ),
        mirror.seconds,
    )
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    times = [one.seconds for one in (first, replaned, in_motion, mirror)]
    cost = (
        f"On a CPU with {THREADS} threads, shared with other work: {min(times):.0f} to "
        f"{max(times):.0f} s a study, {peak_gb:.1f} GB of memory at most (with the test's own "
        "copies of the images)."
    )
    lines = [
        ONE_CASE,
        "",
        *size_rows(first),
        "",
        CONTRAST,
        "",
        *contrast_rows(first),
        "",
        *repeat_rows(
            first,
            {
                "files in another order, T1c and T2 as coronal, T1 and FLAIR as sagittal series": (
                    replaned
                ),
                "T1, T2, FLAIR moved by up to 10 mm and 9 degrees": in_motion,
                "left and right exchanged (mask mirrored back)": back,
            },
        ),
        "",
        cost,
    ]
    return "\n".join(lines), first


def draw(reading: Reading, path: Path) -> None:
    """Draw the outlines on T1c and FLAIR, around the tumour, in slices where it is largest.

    As radiologists look at it: the patient's right is on the left, the front on top.
    """
    t1c, flair = reading.series["t1c"], reading.series["flair"]
    alignment = coregistration.aligned(t1c, {"flair": flair})["flair"]
    images = {"T1c": t1c.voxels, "FLAIR": coregistration.onto(flair, t1c.grid, alignment)}
    axial = reorder_towards(t1c.grid, coregistration.AXIAL)
    whole = axial.apply(reading.whole())
    largest = int(whole.sum(axis=(1, 2)).argmax())
    middle = np.argwhere(whole[largest]).mean(axis=0).astype(int)
    around = tuple(slice(max(0, at - MARGIN_PIXELS), at + MARGIN_PIXELS) for at in middle)
    mpl.use("Agg")
    figure, axes = plt.subplots(2, 3, figsize=(9.0, 6.4), facecolor="black")
    for row, (name, image) in zip(axes, images.items(), strict=True):
        slices = axial.apply(image)
        brightest = float(np.quantile(image, 0.995))
        for axis, number in zip(row, (largest - 2, largest, largest + 2), strict=True):
            axis.imshow(slices[number][around], cmap="gray", vmin=0.0, vmax=brightest)
            for part in reversed(PARTS):
                mask = axial.apply(reading.mask(part.label))[number][around]
                if mask.any():
                    color = np.array(part.color) / 255.0
                    axis.contour(mask, [0.5], colors=[color], linewidths=1.0)
            axis.set_title(f"{name}, slice {number + 1}", color="white", fontsize=9)
            axis.axis("off")
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=54, facecolor="black")
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of the MR images")
    parser.add_argument("--weights", type=Path, required=True, help="folder of the weights")
    parser.add_argument("--card", type=Path, help="card whose measured part is to be rewritten")
    parser.add_argument("--picture", type=Path, help="PNG to draw")
    asked = parser.parse_args()
    torch.set_num_threads(THREADS)
    with TemporaryDirectory() as folder:
        from_catalogue(Path(folder), catalogue.entries()["brats17"], folder=asked.weights)
        models.use(Path(folder))
        figures, first = report(read_glioma(asked.data / "glioma_tcga_fg6692"))
    print(figures)
    if asked.card is not None:
        write_card(asked.card, figures)
    if asked.picture is not None:
        draw(first, asked.picture)


if __name__ == "__main__":
    main()
