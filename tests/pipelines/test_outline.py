"""An outline encloses exactly the pixels of the mask."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from pipelines.outline import drawable, enclosed_area, outlines

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9))


def filled(polygons, shape):
    """Which pixel centres lie within an odd number of polygons: even-odd rule, edge by edge."""
    inside = np.zeros(shape, bool)
    for polygon in polygons:
        for (x0, y0), (x1, y1) in pairwise(polygon):
            if x0 == x1:
                inside[int(min(y0, y1)) : int(max(y0, y1)), int(x0) :] ^= True
    return inside


def pieces(mask, *, touching_at_corners):
    image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
    labels = SimpleITK.ConnectedComponent(image, touching_at_corners)
    return int(SimpleITK.GetArrayViewFromImage(labels).max())


@given(mask=masks)
def test_the_polygons_filled_again_are_the_mask(mask):
    outer, holes = outlines(mask)
    assert np.array_equal(filled((*outer, *holes), mask.shape), mask)
    assert sum(map(enclosed_area, outer)) - sum(map(enclosed_area, holes)) == mask.sum()


@given(mask=masks)
def test_every_piece_has_one_outer_polygon_and_every_hole_one_of_its_own(mask):
    outer, holes = outlines(mask)
    assert len(outer) == pieces(mask, touching_at_corners=True)
    outside = pieces(~np.pad(mask, 1), touching_at_corners=False)
    assert len(holes) == outside - 1


@given(mask=masks)
def test_polygons_are_closed_and_turn_at_every_point(mask):
    for polygon in (part for kind in outlines(mask) for part in kind):
        assert np.array_equal(polygon[0], polygon[-1])
        steps = np.diff(polygon, axis=0)
        assert (np.count_nonzero(steps, axis=1) == 1).all()
        horizontal = steps[:, 0] != 0
        assert (horizontal != np.roll(horizontal, 1)).all()


def test_coordinates_are_column_and_row_from_the_outer_corner_of_the_first_pixel():
    mask = np.zeros((5, 7), bool)
    mask[1, 3:5] = True
    (polygon,) = outlines(mask).outer
    assert polygon.tolist() == [[3, 1], [5, 1], [5, 2], [3, 2], [3, 1]]


def test_an_empty_mask_has_no_outline():
    assert outlines(np.zeros((4, 4), bool)) == ((), ())


@pytest.mark.parametrize(("side", "fits"), [(20, True), (400, False)])
def test_what_is_drawn_fits_into_one_element_and_stays_closed(side, fits):
    noise = np.random.default_rng(7).random((side, side)) < 0.45
    longest = max(outlines(noise).outer, key=len)
    drawn = drawable(longest)
    assert (len(longest) <= 8191) == fits == (len(drawn) == len(longest))
    assert drawn.size * 4 <= 0xFFFE
    assert np.array_equal(drawn[0], drawn[-1])
