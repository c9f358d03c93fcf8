"""From a study to the array that a network takes, and from its answer back to the source's grid.

Both ways are linear interpolation between two grids in the patient, so that orientation, spacing
and a fixed size are one step, and none where the network takes voxels as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK

from pipelines.contract import CouldNotLook, Grid, Images, Study, Volume
from pipelines.geometry import Reorder, Vector, reorder_towards

if TYPE_CHECKING:
    import numpy.typing as npt

    from pipelines.runtimes.sections import Input

    Floats = npt.NDArray[np.float32]

_TOWARDS: dict[str, Vector] = {
    "L": (1.0, 0.0, 0.0),
    "R": (-1.0, 0.0, 0.0),
    "P": (0.0, 1.0, 0.0),
    "A": (0.0, -1.0, 0.0),
    "S": (0.0, 0.0, 1.0),
    "I": (0.0, 0.0, -1.0),
}
"""Patient coordinates are LPS (PS3.3 C.7.6.2.1.1)."""
_IMAGE_AXES = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
_LEAST_SHARED = 0.5
"""Part of the first series' field that each further one must cover."""
_GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Luma of ITU-R BT.601, as YBR_FULL (PS3.3 C.7.6.3.1.2)."""
_FEWEST = 3
_PAIR = 2


@dataclass(frozen=True)
class Prepared:
    """The network's array of a study, and the way back.

    Attributes:
        array: float32, shape (channels, *axes); of slices and images the first axis counts them.
        source: The grid of the study; images lie on one in pixels or millimetres of their own.
        grid: Where the array lies, before it was padded.
        before: Voxels that were padded in front of each axis.
        reorder: How the source's axes were exchanged.
    """

    array: Floats
    source: Grid
    grid: Grid
    before: tuple[int, int, int]
    reorder: Reorder

    def to_source(self, values: Floats) -> Floats:
        """Return numbers of the network's voxels, without channels, on the source's grid."""
        inside = values[
            tuple(
                slice(first, first + size)
                for first, size in zip(self.before, self.grid.shape, strict=True)
            )
        ]
        if self.grid == self.reorder.regrid(self.source):
            return np.ascontiguousarray(self.reorder.undo(inside))
        return resample(inside, self.grid, self.source)

    def source_index(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return (slice, row, column) in the source of places in the network's array.

        Args:
            points: Shape (n, 3); 0 is the centre of the first voxel.
        """
        affine = np.linalg.inv(self.source.affine) @ self.grid.affine
        inside = points - np.array(self.before)
        return np.asarray(inside @ affine[:3, :3].T + affine[:3, 3])


def prepare(series: tuple[Study, ...], to: Input) -> Prepared:
    """Return the array of one or several series, the others laid over the first.

    Raises:
        CouldNotLook: They are not what the network takes, or do not show the same field.
    """
    first, *others = (_stack(one, to) for one in series)
    reorder = orient(first.grid, to.orientation)
    turned = reorder.regrid(first.grid)
    grid = _network_grid(turned, to)
    if grid == turned and not others:
        channels = [reorder.apply(first.voxels)]
    else:
        channels = [resample(first.voxels, first.grid, grid)]
    for other in others:
        _require_same_field(first.grid, other.grid)
        channels.append(resample(other.voxels, other.grid, grid))
    normalised = np.stack([normalise(channel, to, at) for at, channel in enumerate(channels)])
    if to.channels == _FEWEST:
        normalised = np.repeat(normalised, _FEWEST, axis=0)
    array, before = _pad(normalised, to)
    return Prepared(array, first.grid, grid, before, reorder)


def orient(grid: Grid, orientation: str | None) -> Reorder:
    """Return the exchange of axes after which an array lies as three letters say."""
    if orientation in (None, "as-acquired"):
        return Reorder((0, 1, 2), (False, False, False))
    first, second, third = (_TOWARDS[letter] for letter in str(orientation))
    return reorder_towards(grid, (first, second, third))


def ras_affine(grid: Grid) -> npt.NDArray[np.float64]:
    """Return the affine of a grid as NIfTI has it: x to the right, y to the front."""
    return np.asarray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine)


def grid_of(affine: npt.NDArray[np.float64], shape: tuple[int, ...]) -> Grid:
    """Return the grid of an affine as NIfTI has it; its axes are those of the array."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    first, second, third = ((lps[:3, :3] / spacing).T).tolist()
    return Grid(
        (shape[0], shape[1], shape[2]),
        (float(lps[0, 3]), float(lps[1, 3]), float(lps[2, 3])),
        (tuple(first), tuple(second), tuple(third)),
        (float(spacing[0]), float(spacing[1]), float(spacing[2])),
    )


def laid_over(series: tuple[Volume, ...]) -> list[Floats]:
    """Return the voxels of each series on the grid of the first.

    Raises:
        CouldNotLook: They do not show the same part of the body.
    """
    first, *others = series
    voxels = [first.voxels]
    for other in others:
        _require_same_field(first.grid, other.grid)
        voxels.append(resample(other.voxels, other.grid, first.grid))
    return voxels


def resample(values: Floats, source: Grid, target: Grid) -> Floats:
    """Return numbers on another grid, linearly; beyond the border those of the border."""
    filter_ = SimpleITK.ResampleImageFilter()
    filter_.SetSize([int(size) for size in target.shape[::-1]])
    filter_.SetOutputOrigin(target.origin_mm)
    filter_.SetOutputSpacing(target.spacing_mm[::-1])
    filter_.SetOutputDirection(direction_of(target))
    filter_.SetInterpolator(SimpleITK.sitkLinear)
    filter_.SetUseNearestNeighborExtrapolator(True)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(values, np.float32))
    image.SetOrigin(source.origin_mm)
    image.SetSpacing(source.spacing_mm[::-1])
    image.SetDirection(direction_of(source))
    moved: Floats = SimpleITK.GetArrayFromImage(filter_.Execute(image))
    return moved


def normalise(values: Floats, to: Input, channel: int = 0) -> Floats:
    """Return voxel values as the network takes them.

    Statistics are of what the network is given at once: a volume, or one slice or image.

    Raises:
        CouldNotLook: There is nothing to take statistics of, or everything has one value.
    """
    if to.dimensions == _PAIR and to.normalisation not in (None, "none"):
        return np.stack([_normalise(image, to, channel) for image in values])
    return _normalise(values, to, channel)


def _normalise(values: Floats, to: Input, channel: int) -> Floats:
    low, high = to.scale_to
    result = np.asarray(values, np.float32)
    if to.window is not None:
        bottom, top = to.window
        result = (np.clip(result, bottom, top) - bottom) / np.float32(top - bottom)
        if to.normalisation in (None, "none"):
            return (result * np.float32(high - low) + np.float32(low)).astype(np.float32)
    if to.normalisation in (None, "none"):
        return result
    if to.normalisation == "z-score" and to.mean is not None and to.std is not None:
        mean, std = (one[channel] if isinstance(one, tuple) else one for one in (to.mean, to.std))
        return ((result - np.float32(mean)) / np.float32(std)).astype(np.float32)
    inside = _region(np.asarray(values), result, to)
    if to.normalisation == "z-score":
        bottom, width = float(inside.mean(dtype=np.float64)), float(inside.std(dtype=np.float64))
    elif to.normalisation == "min-max":
        bottom, width = float(inside.min()), float(np.ptp(inside))
    else:
        bottom, top = (float(one) for one in np.percentile(inside, to.percentiles))
        width = top - bottom
    if not width > 0.0:
        raise CouldNotLook("All voxels have the same value; there is no image to judge.")
    scaled = (result - np.float32(bottom)) / np.float32(width)
    if to.normalisation == "z-score":
        return np.asarray(np.where(_outside(np.asarray(values), to), 0.0, scaled), np.float32)
    clipped = np.clip(scaled, 0.0, 1.0)
    return np.asarray(clipped * np.float32(high - low) + np.float32(low), np.float32)


def _outside(values: Floats, to: Input) -> npt.NDArray[np.bool_]:
    if to.region == "whole":
        return np.zeros(values.shape, np.bool_)
    if to.region == "non-zero":
        return np.asarray(values == 0.0)
    return np.asarray(values <= np.float32(to.region))


def _region(values: Floats, result: Floats, to: Input) -> Floats:
    inside: Floats = result[~_outside(values, to)]
    if not inside.size:
        raise CouldNotLook("No voxel is in the range over which this model normalises.")
    return inside


def _stack(study: Study, to: Input) -> Volume:
    """Return any study as a volume: images get a grid of their own.

    Raises:
        CouldNotLook: It is not the kind of image that the network takes.
    """
    if to.view == "images":
        if not isinstance(study, Images):
            raise CouldNotLook("This model looks at single images or clips, and this is none.")
        frames = np.asarray(study.frames, np.float32)
        grey = frames @ _GREY if frames.ndim > _FEWEST else frames
        spacing = study.spacing_mm
        if spacing is None:
            if to.spacing_mm not in (None, "as-acquired"):
                raise CouldNotLook("The images have no pixel spacing, which this model needs.")
            spacing = (1.0, 1.0)
        grid = Grid(study.shape, (0.0, 0.0, 0.0), _IMAGE_AXES, (1.0, *spacing))
        return Volume(grey, grid, study.attributes)
    if not isinstance(study, Volume):
        raise CouldNotLook("This model looks at a volume of slices, and this is none.")
    return study


def _network_grid(turned: Grid, to: Input) -> Grid:
    """Return the grid that the network sees, of the same middle as the source's.

    Raises:
        CouldNotLook: The study shows more than the network's size holds.
    """
    moving = slice(3 - to.dimensions, 3)
    shape, spacing = np.array(turned.shape), np.array(turned.spacing_mm)
    extent = (shape * spacing)[moving]
    if to.spacing_mm not in (None, "as-acquired"):
        spacing[moving] = np.array(to.spacing_mm)
        shape[moving] = np.maximum(1, np.round(extent / spacing[moving]).astype(int))
    if to.size:
        size = np.array(to.size)
        if to.fit == "stretch":
            shape[moving], spacing[moving] = size, extent / size
        elif to.spacing_mm in (None, "as-acquired"):
            scale = float((shape[moving] / size).max())
            shape[moving] = np.maximum(1, np.floor(shape[moving] / scale + 1e-6).astype(int))
            spacing[moving] = extent / shape[moving]
        elif (shape[moving] > size).any():
            raise CouldNotLook(
                "The images show a larger field than this model takes: "
                f"{' x '.join(f'{one:.0f}' for one in extent)} mm."
            )
    half = (np.array(turned.shape) - 1) / 2.0
    middle = (turned.affine @ np.append(half, 1.0))[:3]
    steps = np.array(turned.axes).T * spacing
    origin = middle - steps @ ((shape - 1) / 2.0)
    if (shape == turned.shape).all() and np.allclose(spacing, turned.spacing_mm, rtol=1e-6):
        return turned
    return Grid(
        (int(shape[0]), int(shape[1]), int(shape[2])),
        (float(origin[0]), float(origin[1]), float(origin[2])),
        turned.axes,
        (float(spacing[0]), float(spacing[1]), float(spacing[2])),
    )


def _pad(array: Floats, to: Input) -> tuple[Floats, tuple[int, int, int]]:
    """Return the array with zeros around it where the network takes no less, and how many."""
    shape = np.array(array.shape[1:])
    moving = slice(3 - to.dimensions, 3)
    goal = shape.copy()
    if to.size:
        goal[moving] = np.array(to.size)
    elif to.patch:
        goal[moving] = np.maximum(shape[moving], np.array(to.patch))
    else:
        goal[moving] = -(-shape[moving] // to.divisible_by) * to.divisible_by
    before = (goal - shape) // 2
    widths = [
        (0, 0),
        *((int(b), int(g - s - b)) for b, g, s in zip(before, goal, shape, strict=True)),
    ]
    return np.pad(array, widths), (int(before[0]), int(before[1]), int(before[2]))


def _require_same_field(first: Grid, other: Grid) -> None:
    """Refuse a series that shows another part of the body, by where the scanner says it is."""
    shape = np.array(first.shape)
    steps = [np.linspace(0.0, size - 1.0, min(size, 16)) for size in shape]
    points = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
    patient = points @ first.affine[:3, :3].T + first.affine[:3, 3]
    inverse = np.linalg.inv(other.affine)
    index = patient @ inverse[:3, :3].T + inverse[:3, 3]
    inside = ((index >= -0.5) & (index <= np.array(other.shape) - 0.5)).all(axis=1)
    if inside.mean() < _LEAST_SHARED:
        raise CouldNotLook(
            "The series do not show the same part of the body: they share "
            f"{100.0 * inside.mean():.0f} % of the first one's field."
        )


def direction_of(grid: Grid) -> list[float]:
    """Return the directions of a grid's axes as SimpleITK takes them: columns first."""
    slices, rows, columns = (np.array(axis) for axis in grid.axes)
    return list(np.column_stack((columns, rows, slices)).ravel().tolist())
