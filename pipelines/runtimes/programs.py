"""Programs of the site that read one folder and write another, and what passes through them."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK

from pipelines.runtimes.network import NetworkFault, RuntimeMissing
from pipelines.runtimes.prepare import direction_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pipelines.contract import Grid, Volume

_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "XDG_RUNTIME_DIR", "CUDA_VISIBLE_DEVICES")
"""Of the environment: never what may hold the password of a database or broker."""
_LARGEST_BYTES = 4 * 1024**3
_SAME_MM = 0.05
"""NIfTI holds places as 32-bit numbers."""


def find_program(command: str) -> str:
    """Return the path of a program.

    Raises:
        RuntimeMissing: It is not installed.
    """
    path = shutil.which(command)
    if path is None:
        raise RuntimeMissing(f"The program {command} is not on this host's path.")
    return path


def run_program(arguments: Sequence[str], timeout_s: float, extra: Sequence[str] = ()) -> str:
    """Run a program to its end and return what it printed.

    Raises:
        NetworkFault: It failed or took too long. What it printed is not quoted: it may name files.
    """
    passed_on = (*_PASSED_ON, *extra)
    # The node kills an inference process past its deadline: what that started must not live on.
    dies_with_us = shutil.which("setpriv")
    fence = [dies_with_us, "--pdeathsig", "KILL"] if dies_with_us else []
    environment = {name: os.environ[name] for name in passed_on if name in os.environ}
    try:
        done = subprocess.run(
            [*fence, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NetworkFault(f"{arguments[0]} took longer than {timeout_s:.0f} s.") from None
    if done.returncode:
        raise NetworkFault(f"{arguments[0]} failed with exit status {done.returncode}.")
    return done.stdout.decode("utf-8", "replace")


def write_nifti(volume: Volume, path: Path) -> None:
    """Write a volume as NIfTI, with its place in the patient and nothing else."""
    image = SimpleITK.GetImageFromArray(volume.voxels)
    image.SetOrigin(volume.grid.origin_mm)
    image.SetSpacing(volume.grid.spacing_mm[::-1])
    image.SetDirection(direction_of(volume.grid))
    SimpleITK.WriteImage(image, str(path))


def read_labels(path: Path, grid: Grid) -> npt.NDArray[np.int32]:
    """Return a label map on the grid that was given to the program.

    Raises:
        NetworkFault: It is no label map, or lies on another grid.
    """
    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError:
        raise NetworkFault("The program wrote an image that cannot be read.") from None
    values: npt.NDArray[Any] = SimpleITK.GetArrayFromImage(image)
    if values.shape != grid.shape or not _lies_on(image, grid):
        raise NetworkFault(
            f"The program wrote an image of {values.shape} on another grid than the one it was "
            f"given, {grid.shape}."
        )
    labels = np.asarray(np.rint(values), np.int32)
    if not np.array_equal(labels, values) or labels.min() < 0:
        raise NetworkFault("The program wrote numbers that are no labels.")
    return labels


def written(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files that a program wrote, by name; links are not followed.

    Raises:
        NetworkFault: It wrote a link, or more than any result has.
    """
    found = sorted(folder.rglob("*"))
    if any(path.is_symlink() for path in (folder, *found)):
        raise NetworkFault("The program wrote a link; only files are read.")
    files = [path for path in found if path.is_file()]
    if sum(path.stat().st_size for path in files) > _LARGEST_BYTES:
        raise NetworkFault("The program wrote more than 4 GB.")
    return [path for path in files if path.name.lower().endswith(suffixes)]


def _lies_on(image: SimpleITK.Image, grid: Grid) -> bool:
    """Whether the corners of an image are where those of a grid are."""
    last = [size - 1 for size in grid.shape]
    for corner in np.ndindex(2, 2, 2):
        index = [int(at * end) for at, end in zip(corner, last, strict=True)]
        there = np.array(image.TransformIndexToPhysicalPoint(index[::-1]))
        here = (grid.affine @ np.array([*index, 1.0]))[:3]
        if np.abs(there - here).max() > _SAME_MM:
            return False
    return True
