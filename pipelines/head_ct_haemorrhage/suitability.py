"""Whether a series is a head on plain CT, by its headers and by the ring of bone around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipelines.contract import CouldNotLook, Volume
from pipelines.geometry import RAS, reorder_towards

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.contract import Grid

LARGEST_SPACING_MM = 8.0
"""Own limit: slices of 5 mm are usual, and up to 8 mm were in use when scanners took one a turn."""
SMALLEST_FIELD_MM = 100.0
"""A head's skull is longer than this from the base to the top, and wider."""

BONE_HU, BODY_HU = 250.0, -200.0
RINGED = 0.9
"""Part of the directions from the middle of a slice in which bone must be met near the skin."""
RIND_MM = 30.0
"""How deep below the skin bone counts: scalp, muscle and fat over a skull, not over ribs' heart."""
RING_HEIGHT_MM = 40.0
"""How much of the slices' height must be ringed: a neck, a thorax or a limb never is."""
_DIRECTIONS = 72
_DERIVED = {"DERIVED", "PROJECTION", "MIP", "MINIP", "MPR", "3D", "SUBTRACTION", "PERFUSION"}


def require_plain(attributes: Mapping[str, str]) -> None:
    """Raise CouldNotLook for derived images, and after contrast agent, which looks like blood.

    Dual-energy and perfusion maps are derived, too.
    """
    kinds = set(attributes.get("ImageType", "").upper().split("\\"))
    if kinds & _DERIVED:
        raise CouldNotLook("The images are derived from others; this model looks at originals.")
    if attributes.get("ContrastBolusAgent", "").strip():
        raise CouldNotLook(
            "Contrast agent was given, which looks like blood; this model looks at plain CT."
        )


def require_field(grid: Grid) -> None:
    """Raise CouldNotLook unless the slices are thin enough and cover a head."""
    coarsest = max(grid.spacing_mm)
    if coarsest > LARGEST_SPACING_MM:
        raise CouldNotLook(
            f"The slices or pixels are {coarsest:.1f} mm apart, more than the "
            f"{LARGEST_SPACING_MM:.0f} mm up to which this model is used."
        )
    extent = min(
        count * spacing for count, spacing in zip(grid.shape, grid.spacing_mm, strict=True)
    )
    if extent < SMALLEST_FIELD_MM:
        raise CouldNotLook(
            f"The images cover only {extent:.0f} mm in one direction: no whole head."
        )


def require_skull(volume: Volume) -> None:
    """Raise CouldNotLook unless a closed ring of bone lies below the skin, as in heads only."""
    to_ras = reorder_towards(volume.grid, RAS)
    grid = to_ras.regrid(volume.grid)
    voxels = to_ras.apply(volume.voxels)
    ringed_mm = grid.spacing_mm[2] * sum(
        ringed_share(voxels[:, :, k], grid.spacing_mm[:2]) >= RINGED for k in range(grid.shape[2])
    )
    if ringed_mm < RING_HEIGHT_MM:
        raise CouldNotLook(
            "No skull is in the images: bone does not surround what they show, as it does a brain."
        )


def ringed_share(plane: npt.NDArray[np.float32], spacing_mm: tuple[float, float]) -> float:
    """Return in which part of all directions bone is met within ``RIND_MM`` of the skin.

    Args:
        plane: One axial slice in HU.
        spacing_mm: Along its two axes.
    """
    body = plane > BODY_HU
    if not body.any():
        return 0.0
    middle = np.argwhere(plane > BONE_HU).mean(axis=0) if (plane > BONE_HU).any() else None
    if middle is None:
        return 0.0
    longest_mm = float(np.hypot(*(np.array(plane.shape) * spacing_mm)))
    steps_mm = np.arange(0.0, longest_mm, min(spacing_mm))
    angles = np.linspace(0.0, 2.0 * np.pi, _DIRECTIONS, endpoint=False)
    ways = np.stack((np.cos(angles), np.sin(angles)), axis=1)
    places = middle + (steps_mm[:, None, None] * ways) / np.array(spacing_mm)
    index = np.rint(places).astype(np.intp)
    inside = ((index >= 0) & (index < plane.shape)).all(axis=2)
    index = np.clip(index, 0, np.array(plane.shape) - 1)
    values = np.where(inside, plane[index[..., 0], index[..., 1]], -np.inf)
    bone, tissue = values > BONE_HU, values > BODY_HU
    skin = np.where(tissue.any(axis=0), len(steps_mm) - 1 - np.argmax(tissue[::-1], axis=0), 0)
    outermost = np.where(bone.any(axis=0), len(steps_mm) - 1 - np.argmax(bone[::-1], axis=0), -1)
    near = (outermost >= 0) & ((skin - outermost) * min(spacing_mm) <= RIND_MM)
    return float(near.mean())
