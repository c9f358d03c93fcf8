"""Longest and perpendicular diameter, against analytic bodies and a search of all pairs."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pipelines.diameters import diameters, hull
from pipelines.outline import outlines

masks = arrays(bool, array_shapes(min_dims=3, max_dims=3, max_side=7))
spacings_mm = st.tuples(st.floats(0.2, 3.0), st.floats(0.2, 3.0))


def ellipse(half_axes_mm, degrees, centre_mm, spacing_mm, side_mm=40.0):
    """Pixels whose centre is in an ellipse."""
    rows, columns = (round(side_mm / step) for step in spacing_mm)
    y = (np.arange(rows)[:, None] + 0.5) * spacing_mm[0] - side_mm / 2 - centre_mm[1]
    x = (np.arange(columns)[None] + 0.5) * spacing_mm[1] - side_mm / 2 - centre_mm[0]
    turn = np.radians(degrees)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    return ((along / half_axes_mm[0]) ** 2 + (across / half_axes_mm[1]) ** 2 <= 1.0)[None]


def in_mm(chord, spacing_mm):
    return np.array([chord.start, chord.end]) * spacing_mm[::-1]


@pytest.mark.parametrize(("rows", "columns"), [(3, 8), (8, 3), (5, 5), (1, 9)])
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0), (0.7, 0.4)])
def test_a_rectangle_is_exact(rows, columns, spacing_mm):
    """Its diagonal d; across that, from long side to long side, b d / a."""
    mask = np.zeros((3, 12, 12), bool)
    mask[1, 2 : 2 + rows, 3 : 3 + columns] = True
    found = diameters(mask, spacing_mm)
    b, a = sorted((rows * spacing_mm[0], columns * spacing_mm[1]))
    assert found.image == 1
    assert found.long.length_mm == pytest.approx(np.hypot(a, b))
    assert found.short.length_mm == pytest.approx(b * np.hypot(a, b) / a)


def test_a_turned_ellipse_is_found_to_within_pixels():
    """A pixel whose centre is inside reaches half a diagonal beyond, and centres end before.

    Over 3000 such ellipses, in diagonals of a pixel: the long axis is 0.60 too long on average
    (-0.33 to 0.97), the short one, which turns with it, 0.32 (-0.61 to 0.96).
    """
    random = np.random.default_rng(1)
    for _ in range(200):
        long_mm = random.uniform(6.0, 18.0)
        half_axes_mm = (long_mm, long_mm * random.uniform(0.4, 1.0))
        spacing_mm = tuple(random.uniform(0.4, 1.0, 2))
        mask = ellipse(half_axes_mm, random.uniform(0, 180), random.uniform(-1, 1, 2), spacing_mm)
        found = diameters(mask, spacing_mm)
        for chord, half_mm in zip((found.long, found.short), half_axes_mm, strict=True):
            assert abs(chord.length_mm - 2 * half_mm) < np.hypot(*spacing_mm)


@settings(deadline=None)
@given(mask=masks, spacing_mm=spacings_mm)
def test_no_pair_of_points_on_one_piece_is_farther_apart(mask, spacing_mm):
    assume(mask.any())
    found = diameters(mask, spacing_mm)
    scale = np.array(spacing_mm[::-1])
    longest = max(
        np.hypot(*((one - other) * scale))
        for image in mask
        for polygon in outlines(image).outer
        for one, other in combinations(polygon, 2)
    )
    assert found.long.length_mm == pytest.approx(longest)


@settings(deadline=None)
@given(mask=masks, spacing_mm=spacings_mm, places=st.lists(st.floats(0.0, 1.0), max_size=5))
def test_no_line_across_the_longest_diameter_is_longer(mask, spacing_mm, places):
    """Lines at every corner of the piece, and anywhere between, edge by edge."""
    assume(mask.any())
    found = diameters(mask, spacing_mm)
    assert found
    image, long, short = found
    start, end = in_mm(long, spacing_mm)
    along = (end - start) / long.length_mm
    turn = np.array([along, (-along[1], along[0])])
    widest = 0.0
    for polygon in outlines(mask[image]).outer:
        corners = (polygon * spacing_mm[::-1]) @ turn.T
        if not np.isclose(np.ptp(corners[:, 0]), long.length_mm):
            continue  # another piece
        between = corners[:, 0].min() + np.array(places) * long.length_mm
        for place in (*corners[:, 0], *between):
            heights = [
                y0 + (place - x0) * (y1 - y0) / (x1 - x0)
                for (x0, y0), (x1, y1) in pairwise(corners)
                if abs(x1 - x0) > 1e-9 and min(x0, x1) - 1e-9 <= place <= max(x0, x1) + 1e-9
            ]
            widest = max(widest, np.ptp(heights))
    assert short.length_mm == pytest.approx(widest, abs=1e-6)


@settings(deadline=None)
@given(mask=masks, spacing_mm=spacings_mm)
def test_the_ends_lie_on_the_outline_and_the_lines_are_perpendicular(mask, spacing_mm):
    assume(mask.any())
    found = diameters(mask, spacing_mm)
    assert found
    image, long, short = found
    one, other = (np.subtract(*in_mm(chord, spacing_mm)) for chord in (long, short))
    assert abs(one @ other) < 1e-5 * long.length_mm * short.length_mm + 1e-5
    padded = np.pad(mask[image], 1)
    for column, row in (*long[:2], *short[:2]):
        rows = {int(np.floor(row + nudge)) + 1 for nudge in (-1e-5, 1e-5)}
        columns = {int(np.floor(column + nudge)) + 1 for nudge in (-1e-5, 1e-5)}
        assert {bool(padded[r, c]) for r in rows for c in columns} == {True, False}


@settings(deadline=None)
@given(mask=masks, spacing_mm=spacings_mm, axes=st.sets(st.sampled_from([0, 1, 2])))
def test_lengths_do_not_depend_on_place_direction_or_order_of_axes(mask, spacing_mm, axes):
    assume(mask.any())
    found = diameters(mask, spacing_mm)
    flipped = np.pad(np.flip(mask, tuple(axes)), ((2, 0), (1, 3), (0, 2)))
    turned = mask.transpose(0, 2, 1)
    for again in (diameters(flipped, spacing_mm), diameters(turned, spacing_mm[::-1])):
        assert again.long.length_mm == pytest.approx(found.long.length_mm)
        assert again.short.length_mm == pytest.approx(found.short.length_mm)


def test_two_lesions_in_one_slice_are_not_measured_as_one():
    mask = np.zeros((1, 10, 40), bool)
    mask[0, 2:5, 2:6] = mask[0, 2:5, 30:33] = True
    assert diameters(mask, (1.0, 1.0)).long.length_mm == 5.0


def test_a_thin_oblique_lesion_whose_pixels_touch_at_corners_is_one():
    found = diameters(np.eye(10, dtype=bool)[None], (1.0, 1.0))
    assert found.long.length_mm == pytest.approx(10 * np.sqrt(2))
    assert found.short.length_mm == pytest.approx(np.sqrt(2))


def test_the_widest_slice_is_taken():
    mask = np.zeros((5, 20, 20), bool)
    for image, width in enumerate((3, 9, 4, 8, 0)):
        mask[image, 5:8, 2 : 2 + width] = True
    assert diameters(mask, (1.0, 1.0)).image == 1


def test_an_empty_mask_has_no_diameter():
    assert diameters(np.zeros((2, 3, 4), bool), (1.0, 1.0)) is None


@given(
    points=arrays(np.int64, st.tuples(st.integers(1, 30), st.just(2)), elements=st.integers(-9, 9))
)
def test_a_hull_has_all_points_to_its_left_and_only_points_of_the_set(points):
    corners = hull(points)
    assert {tuple(corner) for corner in corners} <= {tuple(point) for point in points}
    for one, other in pairwise([*corners, corners[0]]):
        edge = other - one
        assert (edge[0] * (points - one)[:, 1] - edge[1] * (points - one)[:, 0] >= 0).all()
