"""``python -m tests.bench.load``: from files to a volume, beside other readers and the limit.

All get the same files of a 512 x 512 series, read before, so that they come from memory.
"pydicom" is ``dcmread`` and ``pixel_array`` of each, sorted by position and rescaled into float32;
"SimpleITK" is its series reader. The limit of what is uncompressed is to read as many bytes into
one array; of what is compressed a loop of the C library over the frames, and nothing else.
Megabytes are those of the stored values. One thread or two is how many fill the volume.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import jpeg_ls
import numpy as np
import openjpeg
import SimpleITK
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless
from rich.console import Console
from rich.table import Table
from rle.utils import decode_frame

from node.load import volume
from node.load.source import load
from pipelines.contract import Grid, Volume
from tests.bench import goals
from tests.peers.head_phantom import to_mr_series

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SIDE = 512
SLICES = 300
COMPRESSED_SLICES = 6
"""Decoders take tens of milliseconds a slice, the first and the last alike."""
ROUNDS = 5

_C_LIBRARY: dict[UID, Callable[[bytes], Any]] = {
    JPEGLSLossless: jpeg_ls.decode_pixel_data,
    JPEG2000Lossless: openjpeg.decode_pixel_data,
    RLELossless: lambda frame: decode_frame(frame, SIDE * SIDE, 16, "<"),
}

_PEAK = """
import sys
from pathlib import Path
from node.load.source import load
from tests.bench.load import peak_mb
paths = sorted(Path(sys.argv[1]).glob("*.dcm"))
load(paths[:2])
before = peak_mb()
load(paths)
print(peak_mb() - before)
"""


def measure(console: Console) -> dict[str, Any]:
    """Measure, print, and return megabytes a second of each way, the peak of memory, and goals."""
    table = Table(title=f"Load: MB/s, median of {ROUNDS}", box=None)
    rates: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for syntax in (ExplicitVRLittleEndian, *_C_LIBRARY):
            slices = SLICES if syntax == ExplicitVRLittleEndian else COMPRESSED_SLICES
            paths = write_series(Path(folder) / syntax, syntax, slices)
            rates[syntax.name] = _rates(_ways(paths, syntax), slices * SIDE * SIDE * 2 / 1e6)
        peak = _peak_mb(Path(folder) / ExplicitVRLittleEndian)
    table.add_column("")
    for way in next(iter(rates.values())):
        table.add_column(way, justify="right")
    for name, row in rates.items():
        table.add_row(name, *(f"{rate:,.0f}" for rate in row.values()))
    console.print(table)
    volume_mb = SLICES * SIDE * SIDE * 4 / 1e6
    console.print(f"Peak of memory: {peak:.0f} MB for a volume of {volume_mb:.0f} MB.")
    plain = rates[ExplicitVRLittleEndian.name]
    return {
        "rates": rates,
        "peak_mb": peak,
        "goals": [
            goals.at_least("load, of pydicom", plain["2 threads"] / plain["pydicom"], 2.0),
            goals.at_least("load, of SimpleITK", plain["2 threads"] / plain["SimpleITK"], 1.0),
            goals.at_most("load, peak of memory, of the volume", peak / volume_mb, 1.25),
        ],
    }


def write_series(folder: Path, syntax: UID, slices: int) -> list[Path]:
    """Write a series of noise around a ball, as compressible as images are."""
    grid = Grid(
        shape=(slices, SIDE, SIDE),
        origin_mm=(-180.0, -180.0, 0.0),
        axes=((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
        spacing_mm=(1.5, 0.7, 0.7),
    )
    random = np.random.default_rng(0)
    row, column = np.ogrid[:SIDE, :SIDE]
    inside = (row - SIDE / 2) ** 2 + (column - SIDE / 2) ** 2 < (0.4 * SIDE) ** 2
    voxels = np.where(inside, 1000, 30) + random.integers(0, 30, grid.shape)
    folder.mkdir()
    paths = []
    for number, instance in enumerate(to_mr_series(voxels.astype(np.uint16), grid)):
        instance.RescaleSlope, instance.RescaleIntercept = 1, -1024
        if syntax != ExplicitVRLittleEndian:
            instance.compress(syntax, generate_instance_uid=False)
        paths.append(folder / f"{number:04}.dcm")
        instance.save_as(paths[-1], enforce_file_format=True)
    return paths


def peak_mb() -> float:
    """Return the highest resident memory of this process so far.

    Not ``ru_maxrss``, which begins with that of the process that started this one.
    """
    (stated,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(stated) / 1000


def _ways(paths: Sequence[Path], syntax: UID) -> dict[str, Callable[[], object]]:
    def ours(threads: int) -> Callable[[], object]:
        def read() -> Volume:
            with mock.patch.object(volume, "_THREADS", threads):
                study = load(paths).study
            assert isinstance(study, Volume)
            return study

        return read

    return {
        "1 thread": ours(1),
        "2 threads": ours(2),
        "pydicom": lambda: _with_pydicom(paths),
        "SimpleITK": lambda: _with_simpleitk(paths),
        "limit": _limit(paths, syntax),
    }


def _with_pydicom(paths: Sequence[Path]) -> object:
    datasets = sorted(map(dcmread, paths), key=lambda one: float(one.ImagePositionPatient[2]))
    return np.stack([_rescaled(one) for one in datasets])


def _rescaled(dataset: Dataset) -> Any:
    slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
    return dataset.pixel_array.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _with_simpleitk(paths: Sequence[Path]) -> object:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in paths])
    reader.SetOutputPixelType(SimpleITK.sitkFloat32)
    return SimpleITK.GetArrayViewFromImage(reader.Execute())


def _limit(paths: Sequence[Path], syntax: UID) -> Callable[[], object]:
    if syntax == ExplicitVRLittleEndian:

        def read() -> object:
            stored = np.empty((len(paths), SIDE * SIDE), np.uint16)
            for path, values in zip(paths, stored, strict=True):
                with path.open("rb", buffering=0) as file:
                    file.seek(-values.nbytes, 2)
                    file.readinto(values.data.cast("B"))
            return stored

        return read
    frames = [frame for path in paths for frame in generate_frames(dcmread(path).PixelData)]
    return lambda: [_C_LIBRARY[syntax](frame) for frame in frames]


def _rates(ways: dict[str, Callable[[], object]], megabytes: float) -> dict[str, float]:
    """Return how fast each way is; they take turns."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, read in ways.items():
            begun = time.perf_counter()
            read()
            seconds[way].append(time.perf_counter() - begun)
    return {way: megabytes / statistics.median(taken) for way, taken in seconds.items()}


def _peak_mb(folder: Path) -> float:
    """Return by how much the memory of a process grows at most that reads a series."""
    asked = subprocess.run(
        [sys.executable, "-c", _PEAK, str(folder)], capture_output=True, text=True, check=True
    )
    return float(asked.stdout)


def main() -> int:
    """Measure and print."""
    judged = measure(Console())["goals"]
    Console().print(goals.table(judged))
    return 0 if goals.met(judged) else 1


if __name__ == "__main__":
    sys.exit(main())
