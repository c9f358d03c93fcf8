"""On which side of the head a lesion is, by the plane in which the brain mirrors itself.

A head lies askew in most scanners, so that the middle of the images is not the middle of the
head. The brain is laid over its own mirror image; what that leaves in place is the midline.

Source: Ardekani et al. 1997, IEEE Trans Med Imaging 16:947-952 (mid-sagittal plane by the
symmetry of the head); the search here is by ``registration.align``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipelines.codes import LEFT, RIGHT
from pipelines.contract import Volume
from pipelines.registration import align

if TYPE_CHECKING:
    from pipelines.contract import Code, Grid
    from pipelines.outline import Mask

ONE_SIDED = 0.95
"""Part of a lesion on one side of the midline from which that is its side."""
LEAST_SYMMETRY = 0.7
"""Correlation of a brain with its mirror image below which no side is named; see the card."""


def left_distance_mm(brain: npt.NDArray[np.float32], grid: Grid) -> npt.NDArray[np.float32] | None:
    """Return how far each voxel is to the left of the brain's midline; negative to the right.

    Args:
        brain: Grey values of the brain, 0 outside of it; columns run nearest to the left.
        grid: Where it is.

    Returns:
        Shape of the grid; None where the brain is not symmetric enough to have a midline.
    """
    mirrored = align(Volume(np.ascontiguousarray(brain[..., ::-1]), grid), Volume(brain, grid))
    if mirrored.similarity < LEAST_SYMMETRY or not mirrored.is_good:
        return None
    to_patient = grid.affine
    flip = np.diag([1.0, 1.0, -1.0, 1.0])
    flip[2, 3] = grid.shape[2] - 1
    reflection = mirrored.matrix @ to_patient @ flip @ np.linalg.inv(to_patient)
    # A voxel and its mirror image are equally far from the midline, on either side of it.
    apart = (np.eye(4) - reflection)[:3]
    normal = np.array(grid.axes[2])
    normal = normal - reflection[:3, :3] @ normal
    normal /= np.linalg.norm(normal)
    slices, rows, columns = (np.arange(size, dtype=np.float32) for size in grid.shape)
    # normal . (p - reflection(p)) / 2 is linear in the index.
    weights = normal @ apart @ to_patient / 2.0
    distance = (
        weights[0] * slices[:, None, None] + weights[1] * rows[:, None] + weights[2] * columns
    )
    left: npt.NDArray[np.float32] = (distance + weights[3]).astype(np.float32)
    return left


def side_of(
    mask: Mask, left_mm: npt.NDArray[np.float32] | None
) -> tuple[Code | None, float | None]:
    """Return the side of a lesion, and which part of it is left of the midline.

    Args:
        mask: With a voxel at least.
        left_mm: As ``left_distance_mm`` returns it; None: neither is known.

    Returns:
        No side where it lies on both.
    """
    if left_mm is None:
        return None, None
    share = float((left_mm[mask] > 0).mean())
    if share >= ONE_SIDED:
        return LEFT, share
    return (RIGHT if share <= 1.0 - ONE_SIDED else None), share
