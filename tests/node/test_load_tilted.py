"""Sheared slices, as of a CT with its gantry tilted: straightened, and led back to their images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from node.load.source import load
from node.load.volume import load_volume
from pipelines.contract import CouldNotLook, Grid
from tests.peers.head_phantom import to_enhanced_mr, to_mr_series

HEAD = Path(__file__).parents[2].parent / "shared" / "data" / "ct" / "head_ge_tilted"
GRID = Grid(
    shape=(6, 40, 36),
    origin_mm=(-10.0, 5.0, 30.0),
    axes=((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
    spacing_mm=(2.0, 0.5, 0.75),
)
IMAGES = np.random.default_rng(7).integers(100, 4096, GRID.shape).astype(np.uint16)


def sheared(down_mm, right_mm, *, enhanced=False):
    """The images, each moved so much against the one below it."""

    def moved(position, number):
        x, y, z = position
        return [x + number * right_mm, y + number * down_mm, z]

    if enhanced:
        instance = to_enhanced_mr(IMAGES, GRID)
        for number, groups in enumerate(instance.PerFrameFunctionalGroupsSequence):
            place = groups.PlanePositionSequence[0]
            place.ImagePositionPatient = moved(place.ImagePositionPatient, number)
        return [instance]
    instances = to_mr_series(IMAGES, GRID)
    for number, instance in enumerate(instances):
        instance.ImagePositionPatient = moved(instance.ImagePositionPatient, number)
    return instances


@pytest.mark.parametrize("enhanced", [False, True])
def test_images_shifted_by_whole_pixels_lie_in_the_volume_unchanged(enhanced):
    source = load_volume(sheared(1.0, -0.75, enhanced=enhanced))
    assert source.study.shape == (6, 50, 41)
    assert source.study.grid.origin_mm == pytest.approx((-13.75, 5.0, 30.0))
    for number, image in enumerate(IMAGES):
        down, right = 2 * number, 5 - number
        plane = source.study.voxels[number]
        assert np.array_equal(plane[down : down + 40, right : right + 36], image)
    assert source.frame_numbers == ((1, 2, 3, 4, 5, 6) if enhanced else ())


def test_images_shifted_by_half_a_pixel_are_the_mean_of_neighbours():
    source = load_volume(sheared(0.25, 0.0))
    plane = source.study.voxels[1]
    np.testing.assert_allclose(plane[1:40], (IMAGES[1, 1:] + IMAGES[1, :-1].astype(float)) / 2)


def test_what_lies_beside_the_images_is_as_dark_as_the_darkest_voxel():
    voxels = load_volume(sheared(1.0, 0.0)).study.voxels
    assert (voxels[0, 40:] == IMAGES.min()).all()
    assert (voxels[5, :10] == IMAGES.min()).all()
    assert voxels.min() == IMAGES.min()


@pytest.mark.parametrize("down_mm", [1.0, 0.4, -0.6])
def test_a_mask_or_map_goes_back_to_the_pixels_it_was_drawn_on(down_mm):
    source = load_volume(sheared(down_mm, 0.3))
    on_images = source.on_images(source.study.voxels)
    assert on_images.shape == IMAGES.shape
    assert on_images.dtype == np.float32
    mask = np.zeros(source.study.shape, dtype=bool)
    middle = np.rint(source.shifts_px).astype(int) + np.array([20, 18])
    for plane, (row, column) in zip(mask, middle, strict=True):
        plane[row - 3 : row + 3, column - 3 : column + 3] = True
    back = source.on_images(mask)
    assert back.sum() == mask.sum()
    assert back[:, 17:23, 15:21].all()


def test_the_mask_of_a_straight_volume_is_on_its_images_as_it_is():
    source = load_volume(to_mr_series(IMAGES, GRID))
    mask = np.zeros(source.study.shape, dtype=bool)
    assert source.shifts_px == ()
    assert source.on_images(mask) is mask


def test_a_pipeline_sees_that_the_slices_were_sheared():
    instances = sheared(1.0, 0.0)
    measured = load_volume(instances).study.attributes["GantryDetectorTilt"]
    assert measured == f"{np.degrees(np.arctan2(1.0, 2.0)):.1f}"
    instances = sheared(1.0, 0.0)
    for instance in instances:
        instance.GantryDetectorTilt = "-26.5"
    assert load_volume(instances).study.attributes["GantryDetectorTilt"] == "-26.5"


def real_head():
    """Paths of the real tilted head's images, from the feet up: 14 are 4 mm apart, 14 are 7 mm."""
    if not HEAD.exists():
        pytest.skip("needs the public test data ct/head_ge_tilted")
    heights = {
        path: dcmread(path, stop_before_pixels=True).ImagePositionPatient[2]
        for path in HEAD.glob("**/*.dcm")
    }
    return sorted(heights, key=heights.__getitem__)


def test_a_real_tilted_head_with_two_slice_distances_is_refused_for_these():
    with pytest.raises(CouldNotLook, match=r"^The slices are unevenly spaced: 1\.08 mm to 7\.00"):
        load(real_head())


@pytest.mark.parametrize(("part", "spacing_mm"), [(slice(14), 4.002), (slice(14, 28), 6.999)])
def test_the_evenly_spaced_part_of_a_real_tilted_head_is_straightened(part, spacing_mm):
    """The scanner's own header says 18.5 degrees."""
    source = load(real_head()[part])
    assert source.study.grid.spacing_mm[0] == pytest.approx(spacing_mm, abs=1e-3)
    assert source.study.attributes["GantryDetectorTilt"] == "+18.5"
    shift_px = spacing_mm * np.tan(np.radians(18.5)) / 0.4882812
    assert -np.diff(source.shifts_px, axis=0) == pytest.approx(
        np.tile([shift_px, 0.0], (13, 1)), abs=0.01
    )


def middles_mm(skull):
    """Where the middle between forehead and occiput is, slice by slice."""
    rows = [np.flatnonzero(plane.any(axis=1)) for plane in skull]
    return np.array([(row[0] + row[-1]) / 2 for row in rows]) * 0.4882812


def test_the_vault_of_a_real_tilted_skull_is_upright_once_straightened():
    """Its middle stays above itself; from image to image it slides to the back."""
    source = load(real_head()[14:25])
    skull = source.study.voxels > 300.0
    assert np.ptp(middles_mm(skull)) < 8.0
    assert np.ptp(middles_mm(source.on_images(skull))) > 20.0
