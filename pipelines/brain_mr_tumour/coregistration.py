"""The four sequences on one grid of 1 mm, as the networks expect them.

A patient moves between sequences, and sites cut them in different planes, so that the scanner's
coordinates alone do not suffice. Each is moved rigidly onto the T1-weighted images with contrast
agent, on whose grid the result will lie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import SimpleITK

from pipelines.contract import CouldNotLook, Grid, Volume
from pipelines.geometry import reorder_towards
from pipelines.registration import Alignment, align

if TYPE_CHECKING:
    from collections.abc import Mapping

VOXEL_MM = 1.0
AXIAL = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
"""Slices grow to the head, rows to the back, columns to the left, as in BraTS."""

LEAST_SHARED = 0.5
"""Part of the smaller head that two sequences must both show."""
LEAST_PEAK = 1.3
"""How often more two sequences must tell of each other in their place than 5 mm beside it.
Measured on a glioma with slices of 5.5 mm: 2.0 to 2.6 in place, at most 1.2 from 5 mm beside it."""

_BESIDE_VOXELS = 5
_EVERY = 2
"""Of the voxels along each axis that are compared."""
_BINS = 32

Voxels = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def working_grid(grid: Grid) -> Grid:
    """Return the grid of 1 mm over the same box, its axes those of ``grid``, nearest to axial.

    Keeping the axes keeps the slices of the series sharp where they are.
    """
    axial = reorder_towards(grid, AXIAL).regrid(grid)
    extent_mm = np.array(axial.shape) * axial.spacing_mm
    slices, rows, columns = (max(1, int(np.ceil(one / VOXEL_MM))) for one in extent_mm)
    # The outer faces of the first voxels stay where they are.
    first = (VOXEL_MM - np.array(axial.spacing_mm)) / 2.0
    x, y, z = (np.array(axial.origin_mm) + first @ np.array(axial.axes)).tolist()
    return Grid((slices, rows, columns), (x, y, z), axial.axes, (VOXEL_MM,) * 3)


def onto(volume: Volume, grid: Grid, alignment: Alignment | None = None) -> Voxels:
    """Return the voxels of ``volume`` on ``grid``, interpolated linearly, 0 outside of it.

    Args:
        volume: What is resampled.
        grid: Where to.
        alignment: How the volume lies in the patient of ``grid``; None: as its header says.
    """
    return _resampled(_image(volume.voxels, volume.grid), grid, _back(alignment))


def covered(of_grid: Grid, grid: Grid, alignment: Alignment | None = None) -> Mask:
    """Return which voxels of ``grid`` lie within another one, as ``onto`` puts it there."""
    everywhere = np.ones(of_grid.shape, np.float32)
    return _resampled(_image(everywhere, of_grid), grid, _back(alignment)) > 0.5


def moved_mask(mask: Mask, grid: Grid, onto_grid: Grid) -> Mask:
    """Return a mask on another grid of the same patient, halfway between in and out of it."""
    values = _resampled(_image(mask.astype(np.float32), grid), onto_grid)
    return values > 0.5


def moved_map(values: Voxels, grid: Grid, onto_grid: Grid) -> Voxels:
    """Return a map on another grid of the same patient, interpolated linearly."""
    return _resampled(_image(values, grid), onto_grid)


def aligned(fixed: Volume, others: Mapping[str, Volume]) -> dict[str, Alignment]:
    """Return how each of the other series lies in the patient of ``fixed``.

    Raises:
        CouldNotLook: Two of them do not show the same head.
    """
    found = {}
    for name, other in others.items():
        found[name] = align(other, fixed)
        if found[name].shared < LEAST_SHARED:
            raise CouldNotLook(
                "The series could not be laid over each other: they show different parts of "
                "the body."
            )
    return found


def require_agreement(fixed: Voxels, moved: Voxels, brain: Mask) -> None:
    """Check two co-registered sequences inside the brain.

    Raises:
        CouldNotLook: They do not match.
    """
    if peak(fixed, moved, brain) < LEAST_PEAK:
        raise CouldNotLook("The series could not be laid over each other: their brains differ.")


def peak(fixed: Voxels, moved: Voxels, brain: Mask) -> float:
    """Return how often more two images tell of each other in their place than beside it.

    The information as such depends on contrast, noise and slices; that it is at its highest
    where the images match does not.
    """
    steps = (slice(None, None, _EVERY),) * 3
    compared = brain[steps]
    here = fixed[steps][compared]
    beside = [
        mutual_information(here, np.roll(moved, shift, axis)[steps][compared])
        for axis in range(3)
        for shift in (-_BESIDE_VOXELS, _BESIDE_VOXELS)
    ]
    in_place = mutual_information(here, moved[steps][compared])
    return in_place / max(float(np.mean(beside)), 1e-9)


def mutual_information(one: Voxels, other: Voxels) -> float:
    """Return how much the grey values of one image tell of another's, 0 (nothing) to 1.

    Twice the mutual information over the sum of entropies. Grey values are sorted into bins of
    equal counts first, so that no brightness or contrast matters.

    Source: Studholme et al. 1999, Pattern Recognit 32:71-86, less 1 and in 0..1.
    """
    if one.size < _BINS:
        return 0.0
    counts = np.zeros((_BINS, _BINS))
    np.add.at(counts, (_binned(one), _binned(other)), 1.0)
    joint, first, second = (
        _entropy(part) for part in (counts, counts.sum(axis=0), counts.sum(axis=1))
    )
    both = first + second
    return 2.0 * (both - joint) / both if both else 0.0


def _binned(values: Voxels) -> npt.NDArray[np.intp]:
    limits = np.quantile(values, np.linspace(0.0, 1.0, _BINS + 1)[1:-1])
    return np.searchsorted(limits, values, side="right")


def _entropy(counts: npt.NDArray[np.float64]) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _back(alignment: Alignment | None) -> Any:
    """Return the transform from the new grid back to the volume, as ITK resamples."""
    transform = SimpleITK.AffineTransform(3)
    if alignment is not None:
        back = alignment.inverse.matrix
        transform.SetMatrix(back[:3, :3].ravel().tolist())
        transform.SetTranslation(back[:3, 3].tolist())
    return transform


def _image(voxels: Voxels, grid: Grid) -> Any:
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(voxels))
    x, y, z = (np.array(axis) for axis in grid.axes[::-1])
    image.SetDirection(np.column_stack((x, y, z)).ravel().tolist())
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetOrigin(grid.origin_mm)
    return image


def _resampled(image: Any, grid: Grid, transform: Any = None) -> Voxels:
    resample = SimpleITK.ResampleImageFilter()
    resample.SetSize(grid.shape[::-1])
    x, y, z = (np.array(axis) for axis in grid.axes[::-1])
    resample.SetOutputDirection(np.column_stack((x, y, z)).ravel().tolist())
    resample.SetOutputSpacing(grid.spacing_mm[::-1])
    resample.SetOutputOrigin(grid.origin_mm)
    resample.SetInterpolator(SimpleITK.sitkLinear)
    resample.SetDefaultPixelValue(0.0)
    if transform is not None:
        resample.SetTransform(transform)
    voxels: Voxels = SimpleITK.GetArrayFromImage(resample.Execute(image))
    return voxels
