"""What a node makes is what a reader sees: OHIF in Chromium, on a real PACS."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from pydicom import dcmread

from node.domain import Role
from sr_templates.report import NOT_FOR_DIAGNOSIS
from tests.browser.study import COLORS, GRID, LESIONS, LIVER, LIVER_MM, NOTE, image_of, volume_ml
from tests.browser.viewer import boxes

pytestmark = pytest.mark.slow

PIXEL_MM = GRID.spacing_mm[1]
GREEN_OF_A_MAP = (0, 128, 0)
"""What OHIF draws half of a map's range in."""


@pytest.mark.parametrize("role", [Role.SEG, Role.LABELMAP])
def test_a_segmentation_is_listed_and_drawn_in_its_colours_where_it_is(viewer, role):
    viewer.open_series(role)
    viewer.accept_segmentation()
    listed = viewer.swatches()
    assert list(listed) == list(COLORS)
    for label, color in COLORS.items():
        assert listed[label] == pytest.approx(color, abs=2)
    for lesion in LESIONS:
        viewer.rows.filter(has_text=lesion.name).click()
        tint = viewer.wait_for_tint(COLORS[lesion.name])
        viewer.keep_screenshot(f"{role}-{lesion.name}")
        # Half a pixel more or less all around.
        radius_mm = lesion.diameter_mm / 2
        assert tint.centre_mm == pytest.approx(lesion.centre_mm, abs=PIXEL_MM / 2)
        assert tint.area_mm2 == pytest.approx(
            math.pi * radius_mm**2, abs=math.pi * radius_mm * PIXEL_MM
        )
        reach_mm = np.linalg.norm(tint.points_mm - lesion.centre_mm, axis=1).max()
        assert reach_mm == pytest.approx(radius_mm, abs=PIXEL_MM)
    viewer.rows.filter(has_text=LIVER).click()
    tint = viewer.wait_for_tint(COLORS[LIVER])
    viewer.keep_screenshot(f"{role}-{LIVER}")
    assert tint.centre_mm[:2] == pytest.approx(LIVER_MM[:2], abs=PIXEL_MM)
    assert tint.centre_mm[2] == pytest.approx(LIVER_MM[2], abs=GRID.spacing_mm[0])


def test_the_viewer_report_outlines_each_lesion_with_its_measurements(viewer, files):
    viewer.open_series(Role.VIEWER_SR)
    viewer.wait_for_annotations()
    for lesion in LESIONS:
        viewer.scroll_to(dcmread(files[image_of(lesion)]).SOPInstanceUID)
        viewer.labels.filter(has_text=f"Volume: {volume_ml(lesion):.2f} mL").wait_for()
        viewer.keep_screenshot(f"{Role.VIEWER_SR}-{lesion.name}")
        (outline,) = viewer.outlines()
        low, high = outline.min(axis=0), outline.max(axis=0)
        assert (low + high) / 2 == pytest.approx(lesion.centre_mm, abs=PIXEL_MM / 2)
        assert (high - low)[:2] == pytest.approx(lesion.diameter_mm, abs=1.1 * PIXEL_MM)
        for one, other in itertools.combinations(boxes(viewer.labels), 2):
            assert not one.overlaps(other), "two labels lie over each other"


def test_the_text_report_is_readable(viewer):
    viewer.open_series(Role.TEXT_SR)
    viewer.pane.get_by_text(NOTE).wait_for()
    viewer.keep_screenshot(Role.TEXT_SR)
    said = viewer.pane.inner_text()
    for lesion in LESIONS:
        assert lesion.name in said
        assert f"{volume_ml(lesion):.4g} mL" in said
    assert NOT_FOR_DIAGNOSIS in said
    (pane,) = boxes(viewer.pane)
    widest = max(box.right for box in boxes(viewer.pane.locator("span, pre")))
    assert widest <= pane.right, "a line is cut off"


def test_a_parametric_map_is_coloured_around_what_it_is_about(viewer):
    ring = viewer.open_map(GREEN_OF_A_MAP)
    viewer.keep_screenshot(Role.MAP)
    assert ring.centre_mm[:2] == pytest.approx(LESIONS[0].centre_mm[:2], abs=2 * PIXEL_MM)


def test_the_picture_shows_every_segment_in_its_colour(viewer):
    viewer.open_series(Role.SC)
    for color in COLORS.values():
        viewer.wait_for_tint(color)
    viewer.keep_screenshot(Role.SC)
