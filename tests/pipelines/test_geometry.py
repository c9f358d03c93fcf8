"""Slices to a grid, and a grid to other orders of its axes: the truth is known in each case."""

from __future__ import annotations

import re
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pipelines.contract import CouldNotLook, Grid
from pipelines.geometry import RAS, Plane, Reorder, reorder_towards, stack

REORDERS = [
    Reorder((one, two, 3 - one - two), (first, second, third))
    for one, two in permutations(range(3), 2)
    for first, second, third in product((False, True), repeat=3)
]
counts = st.integers(2, 9)
spacings_mm = st.floats(0.3, 6.0)
positions_mm = st.floats(-500.0, 500.0)
angles = st.floats(-180.0, 180.0)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Any right-handed grid: as ``stack`` makes them, normal = column axis x row axis."""
    turn = Rotation.from_euler("xyz", [draw(angles) for _ in range(3)], degrees=True).as_matrix()
    column_axis, row_axis, normal = turn.T
    return Grid(
        shape=(draw(counts), draw(counts), draw(counts)),
        origin_mm=(draw(positions_mm), draw(positions_mm), draw(positions_mm)),
        axes=(tuple(normal), tuple(row_axis), tuple(column_axis)),
        spacing_mm=(draw(spacings_mm), draw(spacings_mm), draw(spacings_mm)),
    )


def planes_of(grid: Grid, decimals: int = 9) -> list[Plane]:
    """The headers of the grid's slices, positions rounded as a scanner would."""
    positions = [(grid.affine @ (number, 0, 0, 1))[:3] for number in range(grid.shape[0])]
    return [
        Plane(
            tuple(np.round(position, decimals)),
            (*grid.axes[2], *grid.axes[1]),
            grid.spacing_mm[1:],
            grid.shape[1:],
        )
        for position in positions
    ]


def straight_stack(count: int = 8, spacing_mm: float = 1.5) -> list[Plane]:
    """Axial slices from z = -3 mm upwards."""
    return [
        Plane((-10.0, -20.0, -3.0 + spacing_mm * number), (1, 0, 0, 0, 1, 0), (0.5, 0.5), (4, 5))
        for number in range(count)
    ]


def centres_mm(grid: Grid) -> np.ndarray:
    """Where every voxel is, shape (slices, rows, columns, 3)."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    return index @ grid.affine[:3, :3].T + grid.affine[:3, 3]


@given(grid=grids(), random=st.randoms(use_true_random=False))
def test_slices_in_any_order_stack_to_the_grid_they_were_cut_from(grid, random):
    planes = planes_of(grid)
    shuffled = list(enumerate(planes))
    random.shuffle(shuffled)
    stacked, order, shifts_px, _ = stack([plane for _, plane in shuffled])
    assert [shuffled[index][0] for index in order] == list(range(len(planes)))
    assert shifts_px == ()
    assert stacked.shape == grid.shape
    np.testing.assert_allclose(stacked.affine, grid.affine, atol=1e-6)


@given(grid=grids())
def test_positions_written_with_two_decimals_still_stack(grid):
    stacked = stack(planes_of(grid, decimals=2))
    assert stacked.shifts_px == ()
    assert np.abs(centres_mm(stacked.grid) - centres_mm(grid)).max() < 0.1


@settings(max_examples=50)
@given(grid=grids(), reorder=st.sampled_from(REORDERS))
def test_reordering_moves_no_voxel(grid, reorder):
    after = np.moveaxis(centres_mm(reorder.regrid(grid)), -1, 0)
    for coordinate, reordered in zip(np.moveaxis(centres_mm(grid), -1, 0), after, strict=True):
        np.testing.assert_allclose(reordered, reorder.apply(coordinate), atol=1e-9)
        assert np.array_equal(reorder.undo(reorder.apply(coordinate)), coordinate)


@given(grid=grids(), reorder=st.sampled_from(REORDERS))
def test_the_canonical_order_does_not_depend_on_how_the_slices_were_cut(grid, reorder):
    voxels = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    cut_otherwise = reorder.regrid(grid)
    canonical = reorder_towards(grid, RAS).apply(voxels)
    assert np.array_equal(
        reorder_towards(cut_otherwise, RAS).apply(reorder.apply(voxels)), canonical
    )


def test_the_canonical_order_is_the_one_of_nifti():
    axial = Grid((2, 3, 4), (0.0, 0.0, 0.0), ((0, 0, 1), (0, 1, 0), (1, 0, 0)), (1.0, 1.0, 1.0))
    assert reorder_towards(axial, RAS) == Reorder((2, 1, 0), (True, True, False))


def refusal(planes: list[Plane]) -> str:
    with pytest.raises(CouldNotLook) as refused:
        stack(planes)
    return refused.value.reason


def test_a_single_image_is_no_volume():
    assert refusal(straight_stack(1)) == (
        "The series holds a single image; a volume needs two or more slices."
    )


@pytest.mark.parametrize("number", range(1, 7))
def test_a_missing_slice_is_named_by_its_place(number):
    planes = straight_stack(8)
    below, above = planes[number - 1].position_mm[2], planes[number + 1].position_mm[2]
    del planes[number]
    assert refusal(planes) == (
        f"1 of 8 slices are missing, the first between {below:.1f} mm and {above:.1f} mm along "
        "the slice axis, where slices are 1.50 mm apart."
    )


def test_all_missing_slices_are_counted():
    planes = straight_stack(20)
    del planes[4:6], planes[10]
    assert refusal(planes).startswith("3 of 20 slices are missing, the first between 1.5 mm")


def test_two_images_at_one_place_are_not_one_volume():
    planes = straight_stack(5)
    assert refusal([*planes, planes[2]]) == (
        "1 of 6 images repeat the position of another one, the first at 0.0 mm along the slice "
        "axis; the series holds duplicates or several phases or echoes, not one volume."
    )


def test_uneven_spacing_is_given_in_millimetres():
    planes = straight_stack(6)
    planes[3] = planes[3]._replace(position_mm=(-10.0, -20.0, 1.9))
    assert refusal(planes) == "The slices are unevenly spaced: 1.10 mm to 1.90 mm apart."


def test_spacing_that_drifts_is_uneven_although_each_gap_is_close_to_the_next():
    heights = np.cumsum(np.linspace(1.0, 1.03, 60))
    planes = [straight_stack()[0]._replace(position_mm=(0.0, 0.0, z)) for z in heights]
    assert refusal(planes).startswith("The slices are unevenly spaced: 1.00 mm to 1.03 mm")


def sheared_stack(degrees: float, count: int = 30) -> list[Plane]:
    """Leaning to the back (y), or to the front if negative."""
    shift = np.tan(np.radians(degrees))
    return [
        plane._replace(
            position_mm=(-10.0, -20.0 + shift * plane.position_mm[2], plane.position_mm[2])
        )
        for plane in straight_stack(count)
    ]


@pytest.mark.parametrize("degrees", [0.5, -18.5, 30.0])
def test_the_pixels_of_sheared_slices_are_where_their_shifts_lead_on_the_grid(degrees):
    planes = sheared_stack(degrees)
    grid, order, shifts_px, tilt_degrees = stack(planes[::-1])
    assert tilt_degrees == pytest.approx(abs(degrees))
    for number, (index, (down, right)) in enumerate(zip(order, shifts_px, strict=True)):
        plane = planes[::-1][index]
        for row, column in product(range(plane.shape[0]), range(plane.shape[1])):
            there = (grid.affine @ (number, row + down, column + right, 1))[:3]
            here = plane.position_mm + np.array([0.5 * column, 0.5 * row, 0.0])
            np.testing.assert_allclose(there, here, atol=1e-6)


@pytest.mark.parametrize("degrees", [0.5, -18.5, 30.0])
def test_the_grid_of_sheared_slices_is_as_large_as_they_reach_and_no_larger(degrees):
    grid, _, shifts_px, _ = stack(sheared_stack(degrees))
    reach_px = 1.5 * 29 * np.tan(np.radians(abs(degrees))) / 0.5
    assert grid.shape == (30, 4 + np.ceil(reach_px), 5)
    assert np.ptp(shifts_px, axis=0) == pytest.approx((reach_px, 0.0))
    assert np.min(shifts_px) == 0.0


def test_slices_that_jump_sideways_are_no_stack():
    planes = sheared_stack(10.0)
    x, y, z = planes[7].position_mm
    planes[7] = planes[7]._replace(position_mm=(x + 3.0, y, z))
    assert refusal(planes) == (
        "The slices shift sideways unevenly, by up to 3.0 mm off the line through the first and "
        "the last; a volume needs slices along a straight line."
    )


def test_slices_sheared_more_than_any_gantry_tilts_are_no_stack():
    assert refusal(sheared_stack(50.0)) == (
        "The slices are sheared by 50.0 degrees, more than any gantry tilts."
    )


def test_a_missing_slice_of_a_sheared_stack_is_missed():
    planes = sheared_stack(18.5)
    del planes[4]
    assert refusal(planes).startswith("1 of 30 slices are missing, the first between 1.5 mm and")


def test_slices_in_different_planes_are_no_stack():
    planes = straight_stack()
    planes[2] = planes[2]._replace(orientation=(0, 1, 0, 0, 0, -1))
    assert refusal(planes) == (
        "The images lie in different planes, up to 90.0 degrees apart; a volume needs parallel "
        "slices."
    )


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("shape", (8, 5), "The images differ in size: 4 x 5 and 8 x 5 pixels (rows x columns)."),
        (
            "spacing_mm",
            (0.5, 0.6),
            "The images differ in pixel spacing: from 0.500 x 0.500 mm to 0.500 x 0.600 mm.",
        ),
        (
            "spacing_mm",
            (0.0, 0.5),
            "The pixel spacing in the headers is not a pair of positive numbers.",
        ),
        (
            "orientation",
            (1, 0, 0, 1, 0, 0),
            "The image orientation in the headers is not a pair of perpendicular unit vectors.",
        ),
        (
            "position_mm",
            (0.0, 0.0, float("nan")),
            "The image positions in the headers are not numbers.",
        ),
    ],
)
def test_an_image_that_does_not_fit_the_others_is_named_by_what_differs(field, value, reason):
    planes = straight_stack()
    planes[3] = planes[3]._replace(**{field: value})
    assert re.sub(r"\s+", " ", refusal(planes)) == reason
