"""Outline against outline: overlap, and how far apart the surfaces are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import SimpleITK

if TYPE_CHECKING:
    from pipelines.outline import Mask


class SurfaceDistance(NamedTuple):
    """Between two surfaces, in millimetres, counted from both."""

    mean_mm: float
    percentile_95_mm: float


def dice(said: Mask, truth: Mask) -> float:
    """Return 2 |A and B| / (|A| + |B|) (Dice 1945); 1 where both are empty."""
    size = int(said.sum()) + int(truth.sum())
    return 1.0 if size == 0 else 2.0 * int((said & truth).sum()) / size


def surface_distance(said: Mask, truth: Mask, spacing_mm: tuple[float, ...]) -> SurfaceDistance:
    """Return how far the surfaces are apart; NaN where one of them is not there.

    From the centre of each surface voxel of one mask to the nearest of the other, and back: the
    mean (average symmetric surface distance) and the 95th percentile (robust Hausdorff distance,
    Huttenlocher et al. 1993). A voxel of the surface has a face that the mask does not cover.

    Args:
        said: bool, any number of dimensions.
        truth: Ditto, same shape.
        spacing_mm: Distance of voxel centres along each axis.
    """
    if not said.any() or not truth.any():
        return SurfaceDistance(math.nan, math.nan)
    box = _box(said | truth)
    ours, theirs = _surface(said[box]), _surface(truth[box])
    distances = np.concatenate(
        (_distance_to(theirs, spacing_mm)[ours], _distance_to(ours, spacing_mm)[theirs])
    )
    return SurfaceDistance(float(distances.mean()), float(np.percentile(distances, 95)))


def _box(mask: Mask) -> tuple[slice, ...]:
    box = []
    for axis in range(mask.ndim):
        across = tuple(other for other in range(mask.ndim) if other != axis)
        (there,) = np.nonzero(mask.any(axis=across))
        box.append(slice(int(there[0]), int(there[-1]) + 1))
    return tuple(box)


def _surface(mask: Mask) -> Mask:
    padded = np.pad(mask, 1)
    inside = padded.copy()
    for axis in range(mask.ndim):
        inside &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
    surface: Mask = (padded & ~inside)[(slice(1, -1),) * mask.ndim]
    return surface


def _distance_to(surface: Mask, spacing_mm: tuple[float, ...]) -> npt.NDArray[np.float64]:
    image = SimpleITK.GetImageFromArray(surface.astype(np.uint8))
    image.SetSpacing(spacing_mm[::-1])
    distance = SimpleITK.SignedMaurerDistanceMap(
        image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True
    )
    return np.abs(np.asarray(SimpleITK.GetArrayFromImage(distance), dtype=np.float64))
