"""A head on FreeSurfer's grid, 256 voxels of 1 mm each way, and labels back on the head's own.

Source: ``mri_convert --conform`` of FreeSurfer, as its manual describes it: axes to the left, the
feet and the front, grey values 0 to 255, the brightest 0.1 % of what is not zero clipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import SimpleITK

from pipelines.study import Grid

if TYPE_CHECKING:
    from pipelines.geometry import Vector
    from pipelines.study import Volume

SIZE = 256
LIA: tuple[Vector, Vector, Vector] = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, -1.0, 0.0))
"""Array axes growing to the left, the feet and the front."""
_BRIGHTEST = 0.999
"""Quantile of the grey values that are not zero, which becomes 255."""
_FINEST_STEP_MM = 1.0
"""Thicker voxels are looked up in as many places as they are millimetres thick."""

Box = tuple[slice, slice, slice]
BoolArray = npt.NDArray[np.bool_]
LabelArray = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Conformed:
    """A head on the 1 mm grid.

    Attributes:
        voxels: uint8, shape (256, 256, 256), axes as ``LIA``; 0 where there was no image.
        grid: Where the voxels are in the patient.
    """

    voxels: LabelArray
    grid: Grid


def conform(volume: Volume, centre_mm: Vector | None = None) -> Conformed:
    """Return the head on the 1 mm grid, interpolated linearly.

    Args:
        volume: One head.
        centre_mm: Middle of the new grid in the patient; by default that of the volume. A brain
            that may lie far from the middle of a tall image gives its own.
    """
    if centre_mm is None:
        middle = (np.array(volume.grid.shape) - 1) / 2
        centre_mm = _vector((volume.grid.affine @ np.array([*middle, 1.0]))[:3])
    half = (SIZE - 1) / 2
    grid = Grid(
        shape=(SIZE, SIZE, SIZE),
        origin_mm=_vector(np.array(centre_mm) - half * np.sum(LIA, axis=0)),
        axes=LIA,
        spacing_mm=(1.0, 1.0, 1.0),
    )
    low, high = _range(volume.voxels)
    scale = 255.0 / (high - low) if high > low else 0.0
    moved = resampled(volume.voxels, volume.grid, grid, outside=low)
    grey = np.rint(np.clip((moved - low) * scale, 0.0, 255.0)).astype(np.uint8)
    return Conformed(grey, grid)


def resampled(
    values: npt.NDArray[Any], grid: Grid, onto: Grid, outside: float = 0.0
) -> npt.NDArray[np.float32]:
    """Return the values on another grid, interpolated linearly; ``outside`` beyond the old one."""
    moved = SimpleITK.Resample(
        _image(values.astype(np.float32, copy=False), grid),
        _frame(onto),
        SimpleITK.Transform(),
        SimpleITK.sitkLinear,
        outside,
        SimpleITK.sitkFloat32,
    )
    return np.asarray(SimpleITK.GetArrayFromImage(moved), dtype=np.float32)


def box_around(mask: BoolArray, grid: Grid, onto: Grid, margin_mm: float) -> Box:
    """Return the box on the grid ``onto`` that holds a mask, and a margin, as far as it reaches.

    Raises:
        ValueError: The mask is empty, or lies wholly beside that grid.
    """
    corners = _corners(resampled(mask, grid, onto) > 0)
    if corners is None:
        raise ValueError("Nothing of the mask lies on the grid.")
    margin = np.ceil(margin_mm / np.array(onto.spacing_mm)).astype(int)
    return _box(
        np.clip(corners[:, 0] - margin, 0, onto.shape),
        np.clip(corners[:, 1] + margin + 1, 0, onto.shape),
    )


def labels_onto(labels: LabelArray, grid: Grid, onto: Grid) -> LabelArray:
    """Return labels on another grid; each voxel gets the label with the largest share of it.

    Every label is interpolated linearly by itself, so that its edge is smooth on a finer grid;
    in voxels thicker than 1 mm the share is averaged over the voxel, so that thick slices
    neither skip nor widen what is thin. A label that wins no voxel although it is there keeps
    the one that it fills most: no structure is lost between two grids.

    Args:
        labels: 0 is the background.
        grid: Where they are.
        onto: Where they are wanted.
    """
    found: LabelArray = np.zeros(onto.shape, dtype=np.uint8)
    largest = np.zeros(onto.shape, dtype=np.float32)
    total = np.zeros(onto.shape, dtype=np.float32)
    places = _places(labels, grid, onto)
    for label, (source, target) in places.items():
        share = _share(labels[source] == label, cropped(grid, source), cropped(onto, target))
        total[target] += share
        wins = share > largest[target]
        found[target][wins] = label
        largest[target][wins] = share[wins]
    found[largest <= 1.0 - total] = 0
    for label in places.keys() - set(np.unique(found).tolist()):
        source, target = places[label]
        share = _share(labels[source] == label, cropped(grid, source), cropped(onto, target))
        if share.max() > 0:
            found[target][np.unravel_index(int(share.argmax()), share.shape)] = label
    return found


def cropped(grid: Grid, box: Box) -> Grid:
    """Return where the voxels of ``array[box]`` are; the slices have a start and a stop."""
    first = [part.start for part in box]
    rows, columns, slices = (part.stop - part.start for part in box)
    return Grid(
        shape=(rows, columns, slices),
        origin_mm=_vector((grid.affine @ np.array([*first, 1.0]))[:3]),
        axes=grid.axes,
        spacing_mm=grid.spacing_mm,
    )


def _places(labels: LabelArray, grid: Grid, onto: Grid) -> dict[int, tuple[Box, Box]]:
    """Return, for each label but the background, its box on both grids, with a margin."""
    margin_mm = max(*grid.spacing_mm, *onto.spacing_mm)
    places = {}
    for label in range(1, int(labels.max()) + 1):
        corners = _corners(labels == label)
        if corners is None:
            continue
        target = _box_of(corners, grid, onto, margin_mm)
        if target is not None:
            low, high = np.clip(corners.T + np.array([[-2], [3]]), 0, grid.shape)
            places[label] = (_box(low, high), target)
    return places


def _corners(mask: BoolArray) -> npt.NDArray[np.int64] | None:
    """Return the first and the last index along each axis, shape (3, 2); None: it is empty."""
    corners = []
    for axis in range(3):
        (along,) = np.nonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if not along.size:
            return None
        corners.append((int(along[0]), int(along[-1])))
    return np.array(corners, dtype=np.int64)


def _box_of(corners: npt.NDArray[np.int64], grid: Grid, onto: Grid, margin_mm: float) -> Box | None:
    """Return the box on the grid ``onto`` around these indices of ``grid``; None: beside it."""
    eight = np.array([[*index, 1.0] for index in product(*corners)])
    inside = (np.linalg.inv(onto.affine) @ grid.affine @ eight.T)[:3]
    margin = margin_mm / np.array(onto.spacing_mm)
    low = np.clip(np.floor(inside.min(axis=1) - margin).astype(int), 0, onto.shape)
    high = np.clip(np.ceil(inside.max(axis=1) + margin).astype(int) + 1, 0, onto.shape)
    return _box(low, high) if (low < high).all() else None


def _box(low: npt.NDArray[np.int64], high: npt.NDArray[np.int64]) -> Box:
    first, second, third = (
        slice(int(start), int(stop)) for start, stop in zip(low, high, strict=True)
    )
    return first, second, third


def _share(mask: BoolArray, grid: Grid, onto: Grid) -> npt.NDArray[np.float32]:
    """Return which part of each voxel of ``onto`` a mask fills, 0..1."""
    steps = [max(1, round(spacing / _FINEST_STEP_MM)) for spacing in onto.spacing_mm]
    if max(steps) == 1:
        return resampled(mask, grid, onto)
    fine = _subdivided(onto, steps)
    parts = [number for pair in zip(onto.shape, steps, strict=True) for number in pair]
    mean: npt.NDArray[np.float32] = resampled(mask, grid, fine).reshape(parts).mean(axis=(1, 3, 5))
    return mean


def _subdivided(grid: Grid, steps: list[int]) -> Grid:
    """Return a grid of ``steps`` voxels along each axis for each voxel of ``grid``."""
    first = [(1 / step - 1) / 2 for step in steps]
    slices, rows, columns = (count * step for count, step in zip(grid.shape, steps, strict=True))
    return Grid(
        shape=(slices, rows, columns),
        origin_mm=_vector((grid.affine @ np.array([*first, 1.0]))[:3]),
        axes=grid.axes,
        spacing_mm=_vector(np.array(grid.spacing_mm) / steps),
    )


def _range(voxels: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Return the grey values that become 0 and 255."""
    shown = voxels[voxels != 0]
    if not shown.size:
        return 0.0, 0.0
    return float(voxels.min()), float(np.quantile(shown, _BRIGHTEST))


def _image(values: npt.NDArray[Any], grid: Grid) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(values)
    _place(image, grid)
    return image


def _frame(grid: Grid) -> SimpleITK.Image:
    """Return an empty image that only says where its voxels are."""
    slices, rows, columns = grid.shape
    frame = SimpleITK.Image(columns, rows, slices, SimpleITK.sitkUInt8)
    _place(frame, grid)
    return frame


def _place(image: SimpleITK.Image, grid: Grid) -> None:
    image.SetDirection(np.array(grid.axes[::-1]).T.ravel().tolist())
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetOrigin(grid.origin_mm)


def _vector(values: npt.NDArray[np.float64]) -> Vector:
    return (float(values[0]), float(values[1]), float(values[2]))
