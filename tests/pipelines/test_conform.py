"""A head on the 1 mm grid, and labels back on its own."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.conform import LIA, SIZE, box_around, conform, labels_onto
from pipelines.contract import Grid, Volume
from pipelines.geometry import RAS, Reorder

AXIAL = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))


def grid_of(shape, spacing_mm, axes=AXIAL):
    middle = (np.array(shape) - 1) / 2 * np.array(spacing_mm)
    x, y, z = (float(value) for value in -middle @ np.array(axes))
    return Grid(shape, (x, y, z), axes, spacing_mm)


def points_of(grid):
    index = np.stack([*np.indices(grid.shape), np.ones(grid.shape)])
    return np.tensordot(grid.affine, index, axes=1)[:3]


def ball(grid, centre_mm, radius_mm):
    distance = points_of(grid) - np.array(centre_mm).reshape(3, 1, 1, 1)
    return np.linalg.norm(distance, axis=0) <= radius_mm


@pytest.fixture(scope="module")
def two_balls():
    """A large one to the left, front and head; a small one to the right, back and feet."""
    grid = grid_of((60, 100, 100), (2.0, 1.5, 1.5))
    voxels = np.zeros(grid.shape, dtype=np.float32)
    voxels[ball(grid, (30, -25, 20), 14)] = 300
    voxels[ball(grid, (-35, 20, -30), 9)] = 500
    return Volume(voxels, grid)


def test_axes_run_to_the_left_the_feet_and_the_front(two_balls):
    head = conform(two_balls)
    assert head.voxels.shape == (SIZE, SIZE, SIZE)
    assert head.grid.axes == LIA
    small = np.array([index.mean() for index in np.nonzero(head.voxels > 200)])
    left, feet, front = small - (SIZE - 1) / 2
    assert (left, feet, front) == pytest.approx((-35, 30, -20), abs=0.5)


def test_the_order_of_the_axes_it_came_in_does_not_matter(two_balls):
    reorder = Reorder((2, 0, 1), (True, False, True))
    turned = Volume(reorder.apply(two_balls.voxels), reorder.regrid(two_balls.grid))
    difference = conform(turned).voxels.astype(int) - conform(two_balls).voxels
    assert np.abs(difference).max() <= 1


def test_the_brightest_thousandth_is_clipped_and_zeros_do_not_count():
    grid = grid_of((40, 50, 50), (2.0, 2.0, 2.0))
    voxels = np.zeros(grid.shape, dtype=np.float32)
    voxels[5:35, 5:45, 5:45] = 100.0
    voxels[20, 20, 20:24] = 10_000.0
    assert conform(Volume(voxels, grid)).voxels[SIZE // 2, SIZE // 2, SIZE // 2] == 255


@pytest.mark.parametrize("spacing_mm", [(0.7, 0.7, 0.7), (1.0, 1.0, 1.0), (4.0, 0.9, 0.9)])
def test_volumes_stay_on_a_finer_and_on_a_thicker_grid(spacing_mm):
    fine = grid_of((90, 90, 90), (1.0, 1.0, 1.0), RAS)
    labels = np.zeros(fine.shape, dtype=np.uint8)
    labels[ball(fine, (10, 5, 0), 20)] = 1
    labels[ball(fine, (10, 5, 0), 12)] = 2
    shape = tuple(int(90 / spacing) for spacing in spacing_mm)
    onto = grid_of(shape, spacing_mm)
    found = labels_onto(labels, fine, onto)
    for label in (1, 2):
        volume_mm3 = (found == label).sum() * np.prod(spacing_mm)
        assert volume_mm3 == pytest.approx((labels == label).sum(), rel=0.02)
    centre = [index.mean() for index in np.nonzero(found)]
    assert (onto.affine @ [*centre, 1])[:3] == pytest.approx((10, 5, 0), abs=0.3)


def test_a_structure_smaller_than_the_new_voxels_is_not_lost():
    fine = grid_of((40, 40, 40), (1.0, 1.0, 1.0))
    labels = np.ones(fine.shape, dtype=np.uint8)
    labels[19:21, 19:21, 19:21] = 7
    found = labels_onto(labels, fine, grid_of((8, 8, 8), (5.0, 5.0, 5.0)))
    assert (found == 7).sum() == 1
    assert (found == 1).sum() > 300


def test_the_box_holds_the_mask_and_its_margin(two_balls):
    head = conform(two_balls)
    mask = two_balls.voxels > 400
    box = box_around(mask, two_balls.grid, head.grid, 6.0)
    assert (head.voxels[box] > 200).sum() == (head.voxels > 200).sum()
    assert [part.stop - part.start for part in box] == pytest.approx([31, 31, 31], abs=4)
    with pytest.raises(ValueError, match="Nothing of the mask"):
        box_around(np.zeros_like(mask), two_balls.grid, head.grid, 6.0)
