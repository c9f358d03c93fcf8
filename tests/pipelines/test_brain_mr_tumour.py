"""The tumour pipeline on a head with a tumour of known place; thresholds stand for the networks.

What the real networks find is measured by ``tests.clinical.evaluate_tumour``.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from pipelines import models
from pipelines.brain_mr_tumour import codes, coregistration, findings, pipeline
from pipelines.brain_mr_tumour.cascade import PLANES, Cascade, Tumour
from pipelines.brain_mr_tumour.pipeline import BrainMrTumour
from pipelines.codes import LEFT, RIGHT, VOLUME
from pipelines.contract import CouldNotLook, Grid, Presence, Segment, StudyPipeline, Volume
from pipelines.geometry import RAS, Reorder, reorder_towards
from pipelines.midline import left_distance_mm
from tests.peers.head_phantom import head_phantom
from tests.peers.tumour_study import ATTRIBUTES

OEDEMA, CORE, ENHANCING = 700.0, 850.0, 1000.0
"""Grey values of the parts on the phantom's FLAIR."""
RADII_MM = {OEDEMA: 22.0, CORE: 14.0, ENHANCING: 9.0}
"""A ball of what enhances in a ball of core in a ball of oedema."""
NAMES = ("t1c", "t1", "t2", "flair")


def moved(volume, degrees, shift_mm):
    """The same head elsewhere in the scanner, and the matrix that brings it back."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    motion[:3, 3] = shift_mm
    grid = volume.grid
    x, y, z, _ = (motion @ (*grid.origin_mm, 1.0)).tolist()
    one, two, three = (tuple((motion[:3, :3] @ axis).tolist()) for axis in grid.axes)
    there = Grid(grid.shape, (x, y, z), (one, two, three), grid.spacing_mm)
    return replace(volume, grid=there), np.linalg.inv(motion)


@pytest.fixture(scope="module")
def head():
    """The four sequences, the brain and the tumour's parts, on one grid of 1 mm."""
    voxels, brain, grid = head_phantom(seed=0)
    t1 = voxels.astype(np.float32)
    slices, rows, columns = np.ogrid[tuple(map(slice, grid.shape))]
    centre = np.mean(np.argwhere(brain), axis=0) + np.array((20, -20, -32))
    away = np.sqrt((slices - centre[0]) ** 2 + (rows - centre[1]) ** 2 + (columns - centre[2]) ** 2)
    flair = np.where(brain, 300.0 - 0.2 * t1, 0.5 * t1).astype(np.float32)
    parts = {}
    for value, radius_mm in RADII_MM.items():
        parts[value] = away < radius_mm
        flair[parts[value]] = value
    t1c = t1.copy()
    t1c[parts[ENHANCING]] += 400.0
    t2 = np.where(brain, 1100.0 - t1, 0.3 * t1).astype(np.float32)
    images = dict(zip(NAMES, (t1c, t1, t2, flair), strict=True))
    series = {
        name: Volume(voxels, grid, {"Modality": "MR"} | ATTRIBUTES[name])
        for name, voxels in images.items()
    }
    return series, brain, parts


class Threshold:
    """A network that takes what is brighter than a limit on FLAIR for its class."""

    def __init__(self, limit):
        self.limit = limit

    def probability(self, slices):
        return (slices[4:-4, 0] > self.limit).to(torch.float32)


class KnownBrain:
    """A brain extraction that knows the answer, mirrored where the head is."""

    def __init__(self, brain, grid):
        self.brain = reorder_towards(grid, RAS).apply(brain)

    def brain_mask(self, voxels, threshold):
        assert voxels.shape == self.brain.shape
        return self.brain


def ready(head):
    """Networks that know the answer: thresholds, and the phantom's own brain."""
    series, brain, _ = head
    grey = series["flair"].voxels[brain]
    limits = dict(zip(("wt", "tc", "en"), (500.0, 775.0, 925.0), strict=True))
    networks = {
        (step, plane): Threshold((limits[step] - grey.mean()) / grey.std())
        for step, plane in product(limits, PLANES)
    }
    known = KnownBrain(brain, coregistration.working_grid(series["t1c"].grid))
    return SimpleNamespace(extraction=known, cascade=Cascade(networks))


@pytest.fixture(scope="module")
def scanned(head):
    """The same series, the patient having moved between them."""
    series, _, _ = head
    return series | {
        "t1": moved(series["t1"], (2, -3, 4), (3, -2, 5))[0],
        "t2": moved(series["t2"], (-4, 2, 3), (-6, 4, 9))[0],
        "flair": moved(series["flair"], (5, 4, -6), (8, -5, -7))[0],
    }


@pytest.fixture(scope="module")
def result(head, scanned):
    """What the pipeline says of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "_networks", lambda: ready(head))
        patch.setattr(models, "find", lambda name: name)
        return BrainMrTumour().run(**scanned)


def test_it_is_a_pipeline_of_several_series_whose_result_lies_on_t1c():
    assert isinstance(BrainMrTumour(), StudyPipeline)
    assert tuple(BrainMrTumour.inputs) == NAMES
    assert {name: BrainMrTumour().input_of(one) for name, one in ATTRIBUTES.items()} == {
        name: name for name in NAMES
    }


def test_a_tumour_of_known_size_is_measured_on_the_right_side(head, result):
    """Balls of 22, 14 and 9 mm, from a series that had to be interpolated."""
    _, _, truth = head
    volumes = {
        finding.segment: measured.value
        for finding in result.findings
        for measured in finding.measurements
        if measured.name == VOLUME
    }
    shells = {
        "Enhancing tumour": truth[ENHANCING],
        "Necrotic or non-enhancing core": truth[CORE] & ~truth[ENHANCING],
        "Oedema": truth[OEDEMA] & ~truth[CORE],
    }
    assert volumes == {
        label: pytest.approx(mask.sum() / 1000, rel=0.05) for label, mask in shells.items()
    }
    for segment in result.segments:
        shell = shells[segment.label]
        overlap = 2 * (segment.mask & shell).sum() / (segment.mask.sum() + shell.sum())
        assert overlap > 0.9
    whole = result.findings[0]
    assert (whole.finding, whole.laterality) == (codes.TUMOUR, RIGHT)
    values = {measured.name: measured.value for measured in whole.measurements}
    assert values[codes.WHOLE_VOLUME] == pytest.approx(sum(volumes.values()), rel=1e-9)
    assert values[codes.LEFT_SHARE] == 0.0
    assert values[codes.PLANE_AGREEMENT] == 1.0
    assert any("trained on glioma" in note for note in result.notes)
    assert sum(segment.mask.astype(int) for segment in result.segments).max() == 1


def test_a_mirrored_patient_has_the_tumour_on_the_other_side(head):
    series, brain, parts = head
    t1 = np.where(brain, series["t1"].voxels, np.float32(0.0))[:, :, ::-1]
    left_mm = left_distance_mm(t1, series["t1"].grid)
    assert findings.place(parts[OEDEMA][:, :, ::-1], left_mm).laterality == LEFT


def test_a_tumour_across_the_midline_has_no_side():
    left_mm = np.broadcast_to(np.arange(-5, 5, dtype=np.float32), (4, 4, 10))
    whole = np.ones(left_mm.shape, np.bool_)
    where = findings.place(whole, left_mm)
    assert where.laterality is None
    assert any("both sides of the midline: 40 %" in note for note in findings.remarks(where, 1.0))
    assert "no clear midline" in findings.remarks(findings.place(whole, None), 1.0)[0]


def test_the_midline_is_that_of_the_brain_not_of_the_images(head):
    """Half of the phantom's brain lies to either side, although its head lies askew."""
    series, brain, _ = head
    t1 = series["t1"]
    left_mm = left_distance_mm(np.where(brain, t1.voxels, np.float32(0.0)), t1.grid)
    assert left_mm is not None
    assert abs((left_mm[brain] > 0).mean() - 0.5) < 0.01
    assert np.diff(left_mm, axis=2).min() > 0.98
    tilted = np.array(t1.grid.axes[2]) @ (1.0, 0.0, 0.0)
    assert tilted < 0.999  # else the middle of the images would do


@pytest.mark.parametrize("name", ["t2", "flair"])
def test_a_known_rigid_motion_is_undone(head, name):
    """Within 0.5 mm at the edge of the brain and 0.5 degrees, whatever the contrast."""
    series, brain, _ = head
    there, back = moved(series[name], (6, -5, 7), (12, -9, 6))
    found = coregistration.aligned(series["t1c"], {name: there})[name]
    points = np.argwhere(brain)[::5000] @ np.array(series["t1c"].grid.affine)[:3, :3].T
    points += series["t1c"].grid.origin_mm
    elsewhere = points @ np.linalg.inv(back)[:3, :3].T + np.linalg.inv(back)[:3, 3]
    off_mm = np.linalg.norm(found(elsewhere) - points, axis=1)
    turn = Rotation.from_matrix(found.matrix[:3, :3] @ back[:3, :3].T)
    print(f"{name}: {off_mm.max():.2f} mm, {np.degrees(turn.magnitude()):.2f} degrees")
    assert off_mm.max() < 0.5
    assert np.degrees(turn.magnitude()) < 0.5


@pytest.mark.parametrize("shift", [5, 10, 30])
def test_sequences_that_do_not_match_are_refused(head, shift):
    """What lies 5 mm beside its place is noticed, though it tells much of what is there."""
    series, brain, _ = head
    t1c, flair = series["t1c"].voxels, series["flair"].voxels
    coregistration.require_agreement(t1c, flair, brain)
    with pytest.raises(CouldNotLook, match="could not be laid over each other"):
        coregistration.require_agreement(t1c, np.roll(flair, shift, axis=1), brain)


def test_nothing_found_is_no_tumour(head):
    series, brain, _ = head
    t1c = series["t1c"]
    nothing = np.zeros(brain.shape, np.bool_)
    found = Tumour(nothing, nothing, nothing, np.zeros(brain.shape, np.float32), 1.0)
    result = pipeline._reported(t1c, pipeline._Head({}, brain, t1c.grid), found, (), ())
    (finding,) = result.findings
    assert (finding.finding, finding.presence) == (codes.TUMOUR, Presence.ABSENT)
    assert result.segments == ()


def test_a_part_that_is_not_there_is_said_to_be_absent():
    grid = Grid((8, 8, 8), (0.0, 0.0, 0.0), ((0, 0, 1), (0, 1, 0), (1, 0, 0)), (1.0, 1.0, 1.0))
    volume = Volume(np.ones(grid.shape, np.float32), grid, {"Modality": "MR"})
    whole, nothing = (np.zeros(grid.shape, np.bool_) for _ in range(2))
    whole[2:6, 2:6, 2:6] = True
    outlined = findings.segments(whole, nothing, nothing)
    said = findings.parts(volume, outlined, findings.Place(RIGHT, 0.0))
    assert [one.presence for one in said] == [
        Presence.ABSENT,
        Presence.ABSENT,
        Presence.PRESENT,
    ]
    assert [segment.label for segment in outlined] == ["Oedema"]


def test_the_order_of_slices_and_axes_does_not_matter_to_the_working_grid(head):
    series, _, _ = head
    grid = series["t1c"].grid
    turned = Reorder((2, 0, 1), (True, False, True)).regrid(grid)
    one, other = map(coregistration.working_grid, (grid, turned))
    assert one.shape == other.shape == grid.shape
    assert np.allclose(one.affine, other.affine)
    assert np.allclose(one.affine, grid.affine)


def test_without_the_networks_it_says_so(head, monkeypatch):
    monkeypatch.setattr(models, "_folder", None)
    BrainMrTumour().warm_up()
    with pytest.raises(CouldNotLook, match="not on this node"):
        BrainMrTumour().run(**head[0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s | {"t1": s["t1c"]}, "should be T1-weighted without contrast agent is T1"),
        (lambda s: s | {"flair": s["t2"]}, "should be FLAIR is T2-weighted"),
        (lambda s: s | {"t2": replace(s["t2"], attributes={})}, "do not show that it is T2"),
        (
            lambda s: (
                s | {"t2": replace(s["t2"], grid=replace(s["t2"].grid, spacing_mm=(8.0, 1.0, 1.0)))}
            ),
            "8.0 mm apart",
        ),
        (
            lambda s: (
                s | {"t2": replace(s["t2"], grid=replace(s["t2"].grid, spacing_mm=(0.2, 1.0, 1.0)))}
            ),
            "cannot hold a whole brain",
        ),
    ],
)
def test_what_it_was_not_made_for_is_refused(head, change, words):
    with pytest.raises(CouldNotLook, match=words):
        BrainMrTumour().run(**change(head[0]))


def test_the_part_of_the_brain_that_a_series_misses_is_known(head):
    series, _, _ = head
    flair, grid = series["flair"], series["t1c"].grid
    half = replace(flair.grid, shape=(flair.shape[0] // 2, *flair.shape[1:]))
    seen = coregistration.covered(half, grid)
    assert seen[: half.shape[0]].all()
    assert not seen[half.shape[0] :].any()


def test_segments_are_named_for_the_reader(result):
    assert all(isinstance(segment, Segment) for segment in result.segments)
    assert [segment.property.meaning for segment in result.segments] == [
        "Enhancing Lesion",
        "Non-Enhancing Lesion",
        "Edema",
    ]
