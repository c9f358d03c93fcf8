"""``python -m tests.bench.encode``: building and writing a segmentation, beside plain highdicom.

Both get the same masks and headers. "highdicom" is ``highdicom.seg.Segmentation`` with its own
defaults, then ``save_as``: it leaves empty frames out, as radnode does of a segmentation this long.
"All frames" makes both keep them. "Bare bytes" is ``numpy.packbits`` of the same frames and a write
of what comes out. Files are written, not synced.
"""

from __future__ import annotations

import argparse
import gc
import math
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import highdicom as hd
import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.uid import CTImageStorage
from rich.console import Console
from rich.table import Table

from node.domain import Role
from node.encode import segmentation
from node.encode.write import write
from node.load.source import Source
from node.uids import derived_uid
from pipelines import codes
from pipelines.contract import Grid, Segment, Volume
from sr_templates.codes import ARTIFICIAL_INTELLIGENCE
from sr_templates.items import concept
from tests.bench import goals
from tests.sr_templates import made

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

GOAL = 3.0
"""Times as fast as plain highdicom with its defaults."""

Masks = npt.NDArray[np.bool_]
Make = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """One kind of segmentation, and three ways to make its file."""

    name: str
    highdicom: Make
    radnode: Make
    bare: Make


def main() -> int:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description="Seconds to build and write a segmentation.")
    parser.add_argument("--segments", type=int, default=40)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument(
        "--side", type=int, default=512, help="rows and columns of a slice, a multiple of 8"
    )
    parser.add_argument("--runs", type=int, default=3, help="the best counts")
    given = parser.parse_args()
    shape = (given.slices, given.side, given.side)
    judged = measure(Console(), given.segments, shape, given.runs)["goals"]
    Console().print(goals.table(judged))
    return 0 if goals.met(judged) else 1


def measure(
    console: Console,
    segments: int = 40,
    shape: tuple[int, int, int] = (300, 512, 512),
    runs: int = 1,
) -> dict[str, Any]:
    """Measure, print, and return seconds of each way, and the goal: times as fast as highdicom."""
    masks = ellipsoids(segments, shape)
    table = Table(title=f"{segments} segments, {shape} voxels: seconds, best of {runs}", box=None)
    for column in ("", "frames", "MB", "highdicom", "radnode", "ratio", "bare bytes"):
        table.add_column(column, justify="right" if column else "left")
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(source_of(shape), masks):
            row = measured[case.name] = _measure(case, Path(folder), runs)
            table.add_row(
                case.name,
                f"{row['frames']:,.0f}",
                f"{row['bytes'] / 1e6:.1f}",
                f"{row['highdicom']:.2f}",
                f"{row['radnode']:.2f}",
                f"{row['highdicom'] / row['radnode']:.1f}",
                f"{row['bare']:.2f}",
            )
    console.print(table)
    first = next(iter(measured.values()))
    return {
        "seconds": measured,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "goals": [
            goals.at_least("encode, of highdicom", first["highdicom"] / first["radnode"], GOAL)
        ],
    }


def cases(source: Source, masks: Masks) -> Iterator[Case]:
    """Yield what is measured; the first decides."""
    segments = tuple(
        Segment(f"Organ {number}", codes.ANATOMICAL_STRUCTURE, codes.BRAIN, mask)
        for number, mask in enumerate(masks, start=1)
    )
    here = [frame for mask in masks for frame in mask if frame.any()]

    def ours(role: Role = Role.SEG, dense_frames: int = 0) -> Make:
        def make(path: Path) -> None:
            with mock.patch.object(segmentation, "DENSE_FRAMES", dense_frames):
                write(segmentation.encode_segmentation(source, segments, made.work(), role), path)

        return make

    def stacked() -> Masks:
        # A view: copied to the last axis they would take a second and as much memory again.
        return np.moveaxis(masks, 0, -1)

    def theirs(pixels: Callable[[], npt.NDArray[Any]], **options: Any) -> Make:
        return lambda path: with_highdicom(source, segments, pixels(), path, **options)

    def labels() -> npt.NDArray[np.uint8]:
        combined = np.zeros(masks.shape[1:], np.uint8)
        for number, mask in enumerate(masks, start=1):
            np.copyto(combined, number, where=mask)
        return combined

    def bare(frames: Iterable[Masks]) -> Make:
        return lambda path: path.write_bytes(
            b"".join(np.packbits(frame, bitorder="little").data for frame in frames)
        )

    yield Case("binary", theirs(stacked), ours(), bare(here))
    yield Case("binary, highdicom from labels", theirs(labels), ours(), bare(here))
    yield Case(
        "binary, all frames",
        theirs(stacked, omit_empty_frames=False),
        ours(dense_frames=masks.size),
        bare([frame for mask in masks for frame in mask]),
    )
    yield Case(
        "label map, all frames",
        theirs(labels, segmentation_type="LABELMAP", omit_empty_frames=False),
        ours(Role.LABELMAP),
        lambda path: path.write_bytes(np.zeros(masks.shape[1:], np.uint8).tobytes()),
    )


def with_highdicom(
    source: Source,
    segments: Sequence[Segment],
    pixels: npt.NDArray[Any],
    path: Path,
    **options: Any,
) -> None:
    """Build and write what highdicom makes of masks, or of labels, by default."""
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=segment.label,
            segmented_property_category=concept(segment.category),
            segmented_property_type=concept(segment.property),
            algorithm_type="AUTOMATIC",
            algorithm_identification=hd.AlgorithmIdentificationSequence(
                name="phantom-net", family=concept(ARTIFICIAL_INTELLIGENCE), version="2.1"
            ),
        )
        for number, segment in enumerate(segments, start=1)
    ]
    required: dict[str, Any] = {
        "source_images": source.instances,
        "pixel_array": pixels,
        "segmentation_type": "BINARY",
        "segment_descriptions": descriptions,
        "series_instance_uid": hd.UID(),
        "series_number": 1,
        "sop_instance_uid": hd.UID(),
        "instance_number": 1,
        "manufacturer": "bench",
        "manufacturer_model_name": "bench",
        "software_versions": "1",
        "device_serial_number": "1",
    }
    hd.seg.Segmentation(**(required | options)).save_as(path)


def source_of(shape: tuple[int, ...]) -> Source:
    """Return the headers of an axial CT."""
    slices, rows, columns = shape
    grid = Grid(
        (slices, rows, columns), (-180.0, -180.0, -400.0), made.AXES["axial"], (1.5, 0.7, 0.7)
    )
    instances = []
    for k in range(slices):
        header = made.identity()
        header.SOPClassUID = CTImageStorage
        header.SOPInstanceUID = derived_uid("bench", "ct", str(k))
        header.Modality = "CT"
        header.FrameOfReferenceUID = derived_uid("bench", "frame of reference")
        header.PositionReferenceIndicator = ""
        header.Rows, header.Columns = rows, columns
        header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        header.ImagePositionPatient = [-180, -180, -400 + 1.5 * k]
        header.PixelSpacing = [0.7, 0.7]
        header.SliceThickness = 1.5
        instances.append(header)
    return Source(Volume(np.empty((0, 0, 0), np.float32), grid), tuple(instances))


def ellipsoids(count: int, shape: tuple[int, int, int]) -> Masks:
    """Return masks of organs side by side, each through a fifth to nearly half of the slices.

    Returns:
        bool, shape (count, slices, rows, columns).
    """
    masks = np.zeros((count, *shape), bool)
    masks.fill(False)  # or pages that no one wrote to would cost nothing to read
    random = np.random.default_rng(0)
    across = math.ceil(math.sqrt(count))
    slices, rows, columns = shape
    for number, mask in enumerate(masks):
        cell = np.array([slices, rows / across, columns / across])
        place = np.array(
            [random.uniform(0.25, 0.75), number // across + 0.5, number % across + 0.5]
        )
        radii = cell * random.uniform((0.1, 0.3, 0.3), (0.22, 0.48, 0.48))
        if number == 0:
            place[0], radii[0] = 0.5, cell[0] * 0.5  # one, like the spine, goes all the way
        _fill_ellipsoid(mask, centre=cell * place, radii=radii)
    return masks


def _fill_ellipsoid(
    mask: Masks, centre: npt.NDArray[np.float64], radii: npt.NDArray[np.float64]
) -> None:
    low = np.maximum(np.floor(centre - radii), 0).astype(int)
    high = np.minimum(np.ceil(centre + radii) + 1, mask.shape).astype(int)
    box = tuple(slice(first, last) for first, last in zip(low, high, strict=True))
    index = np.ogrid[box]
    distance = sum(
        ((axis - middle) / radius) ** 2
        for axis, middle, radius in zip(index, centre, radii, strict=True)
    )
    mask[box] = distance <= 1.0


def _measure(case: Case, folder: Path, runs: int) -> dict[str, float]:
    """Return the best seconds of each way, in turn, and the size of radnode's file."""
    ways = {"bare": case.bare, "radnode": case.radnode, "highdicom": case.highdicom}
    seconds = [
        {way: _seconds(make, folder / f"{way}.dcm") for way, make in ways.items()}
        for _ in range(runs)
    ]
    header = dcmread(folder / "radnode.dcm", stop_before_pixels=True)
    return {
        **{way: min(run[way] for run in seconds) for way in ways},
        "frames": int(header.NumberOfFrames),
        "bytes": (folder / "radnode.dcm").stat().st_size,
    }


def _seconds(make: Make, path: Path) -> float:
    path.unlink(missing_ok=True)
    gc.collect()
    start = time.perf_counter()
    make(path)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
