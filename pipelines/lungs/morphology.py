"""Mathematical morphology and connected pieces with lengths in millimetres (SimpleITK)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import SimpleITK

if TYPE_CHECKING:
    from collections.abc import Sequence

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint32]


def distance_mm(mask: Mask, spacing_mm: Sequence[float]) -> npt.NDArray[np.float32]:
    """Return the distance of each voxel's centre to the nearest one in the mask; 0 within it.

    Args:
        mask: bool, of any number of dimensions, with a voxel at least.
        spacing_mm: Distance between voxel centres along each array axis.

    Source: Maurer et al. 2003, IEEE Trans Pattern Anal Mach Intell 25:265-270.
    """
    distances = SimpleITK.SignedMaurerDistanceMap(
        _image(mask, spacing_mm), squaredDistance=False, useImageSpacing=True
    )
    outside: npt.NDArray[np.float32] = SimpleITK.GetArrayFromImage(distances)
    # The filter measures to the mask's outermost voxels, so that inside it is negative or 0.
    return np.where(mask, np.float32(0), outside)


def dilated(mask: Mask, spacing_mm: Sequence[float], radius_mm: float) -> Mask:
    """Return the voxels at most ``radius_mm`` from one in the mask."""
    if not mask.any():
        return mask.copy()
    return distance_mm(mask, spacing_mm) <= radius_mm


def eroded(mask: Mask, spacing_mm: Sequence[float], radius_mm: float) -> Mask:
    """Return the voxels more than ``radius_mm`` from any outside of the mask."""
    if mask.all():
        return mask.copy()
    return distance_mm(~mask, spacing_mm) > radius_mm


def interior(mask: Mask) -> Mask:
    """Return the voxels of the mask whose six neighbours belong to it, too.

    Beyond the array nothing is known, and nothing taken away.
    """
    worn = SimpleITK.BinaryErode(_image(mask), [1] * mask.ndim, SimpleITK.sitkCross)
    inside: Mask = SimpleITK.GetArrayFromImage(worn).astype(bool)
    return inside


def closed(mask: Mask, spacing_mm: Sequence[float], radius_mm: float) -> Mask:
    """Return the mask with what a ball of that radius cannot enter from outside; never less.

    Beyond the array there is nothing of the mask.
    """
    margin = [int(radius_mm / step) + 1 for step in spacing_mm]
    padded = np.pad(mask, [(add, add) for add in margin])
    shut = eroded(dilated(padded, spacing_mm, radius_mm), spacing_mm, radius_mm)
    return mask | shut[tuple(slice(add, -add) for add in margin)]


def pieces(mask: Mask) -> tuple[Labels, npt.NDArray[np.int64]]:
    """Return the face-connected pieces, numbered from 1, and how many voxels each has.

    The second array is indexed by the number; that of 0, the rest, is 0.
    """
    labels = SimpleITK.GetArrayFromImage(SimpleITK.ConnectedComponent(_image(mask), False))
    sizes = np.bincount(labels.ravel(), minlength=1)
    sizes[0] = 0
    return labels.astype(np.uint32, copy=False), sizes


def filled_in_slices(mask: Mask) -> Mask:
    """Return the mask with the holes that each slice of it has."""
    filled = np.empty_like(mask)
    for k, plane in enumerate(mask):
        image = SimpleITK.BinaryFillhole(_image(plane), False, 1)
        filled[k] = SimpleITK.GetArrayViewFromImage(image)
    return filled


def _image(mask: Mask, spacing_mm: Sequence[float] = ()) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(mask).astype(np.uint8))
    if spacing_mm:
        image.SetSpacing([float(step) for step in reversed(spacing_mm)])
    return image
