"""Nodules of known place and size: outlined, measured, placed, and what is said of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytest

from pipelines.codes import LEFT, LONG_AXIS, RIGHT, SHORT_AXIS, VOLUME
from pipelines.contract import CouldNotLook, Model, Pipeline, Presence, Volume
from pipelines.lung_nodule_ct.candidates import find_candidates, search_grid
from pipelines.lung_nodule_ct.codes import LOWER_ZONE, UPPER_ZONE
from pipelines.lung_nodule_ct.network import WEIGHTS
from pipelines.lung_nodule_ct.nodule import Nodule, measured, outline, place
from pipelines.lung_nodule_ct.pipeline import LungNoduleCt, SimulatedLungNoduleCt
from pipelines.lung_nodule_ct.report import MOST, result
from pipelines.lung_nodule_ct.simulation import SimulatedNodule, draw_nodule, insert
from pipelines.lungs.segmentation import Lungs
from pipelines.runtimes.boxes import Box
from tests.peers.body_phantom import axial_grid
from tests.peers.lung_phantom import Chest, chest_phantom

GRID = axial_grid((60, 70, 120), (1.0, 1.0, 1.0))
BALLS = (((-70.0, -20.0, 60.0), 12.0, 40.0), ((75.0, 30.0, -50.0), 9.0, 40.0))
CHEST = axial_grid((120, 130, 160), (2.0, 2.0, 2.0))


def two_lungs(*balls):
    """Two blocks of lung, right and left, with balls (centre in voxels, diameter in mm, HU)."""
    voxels = np.full(GRID.shape, 40.0, np.float32)
    right, left = np.zeros(GRID.shape, bool), np.zeros(GRID.shape, bool)
    right[5:55, 5:65, 5:55] = left[5:55, 5:65, 65:115] = True
    voxels[right | left] = -850.0
    index = np.indices(GRID.shape).T
    for centre, diameter, hu in balls:
        away = np.linalg.norm(index - np.array(centre), axis=-1).T
        share = np.clip(0.5 - (away - diameter / 2.0), 0.0, 1.0)
        voxels += (share * (hu - voxels)).astype(np.float32)
    lungs = Lungs(right, left, None, (0.0, 0.0), -450.0)
    return Volume(voxels, GRID, {"Modality": "CT", "SliceThickness": "1"}), lungs


@pytest.mark.parametrize("diameter_mm", [5.0, 8.0, 14.0])
@pytest.mark.parametrize("hu", [30.0, -550.0])
def test_a_balls_size_is_its_own_whatever_its_density(diameter_mm, hu):
    volume, lungs = two_lungs(((30.0, 35.3, 30.4), diameter_mm, hu))
    mask = outline(volume, lungs, (30.0, 35.0, 31.0), diameter_mm * 1.2)
    assert mask is not None
    nodule = measured(volume, mask, 0.9, 1.0)
    assert mask.sum() / 1000 == pytest.approx(np.pi * diameter_mm**3 / 6000, rel=0.12)
    assert nodule.mean_mm == pytest.approx(diameter_mm, abs=1.0)
    assert nodule.solid == (hu > 0)


def test_nothing_is_outlined_where_there_is_only_lung():
    volume, lungs = two_lungs()
    assert outline(volume, lungs, (30.0, 35.0, 30.0), 8.0) is None


def test_a_nodule_at_the_pleura_does_not_take_the_chest_wall_along():
    volume, lungs = two_lungs(((30.0, 35.0, 8.0), 10.0, 40.0))
    mask = outline(volume, lungs, (30.0, 35.0, 9.0), 10.0)
    assert mask.sum() < 1.3 * np.pi * 10**3 / 6


def test_side_and_third_are_those_of_the_place():
    volume, lungs = two_lungs()
    mask = np.zeros(GRID.shape, bool)
    mask[48:50, 30:32, 20:22] = True
    assert place(volume, lungs, mask) == (UPPER_ZONE, RIGHT)
    assert place(volume, lungs, mask[::-1, :, ::-1]) == (LOWER_ZONE, LEFT)


def test_candidates_are_where_the_balls_are():
    centres = ((20, 30, 30), (40, 40, 90))
    volume, lungs = two_lungs((centres[0], 6.0, 40.0), (centres[1], 12.0, -450.0))
    search = search_grid(volume, lungs)
    to_volume = np.linalg.inv(volume.grid.affine) @ search.to_patient
    at = [(to_volume @ (*one.centre, 1.0))[:3] for one in find_candidates(search)]
    for centre in centres:
        assert min(np.linalg.norm(one - centre) for one in at) < 2.0


def test_a_simulated_nodule_has_the_mass_it_should_have():
    voxels = np.full((40, 60, 60), -850.0, np.float32)
    none = (np.zeros((0, 3)), np.zeros(0))
    ball = SimulatedNodule((39.0, 31.0, 29.0), (5.0,) * 3, np.eye(3), none, 50.0, 50.0, "solid")
    insert(voxels, (2.0, 1.0, 1.0), ball, 2.0)
    share = (voxels + 850.0).sum(dtype=float) / 900.0 * 2.0
    assert share == pytest.approx(4 / 3 * np.pi * 125, rel=0.02)
    assert ball.diameter_mm == pytest.approx(10.0)


def test_drawing_with_the_same_seed_draws_the_same_nodule():
    one, other = (draw_nodule(np.random.default_rng(5), (1.0, 2.0, 3.0)) for _ in range(2))
    assert (one.diameter_mm, one.kind, one.density_hu) == (
        other.diameter_mm,
        other.kind,
        other.density_hu,
    )


def nodule(diameter_mm, probability=0.9, *, solid=True):
    mask = np.zeros(GRID.shape, bool)
    mask[30, 30, 30] = True
    return Nodule(mask, probability, diameter_mm + 1.0, diameter_mm - 1.0, solid)


def test_no_nodule_is_said_aloud():
    volume, lungs = two_lungs()
    (finding,) = result(volume, lungs, [], ()).findings
    assert finding.presence is Presence.ABSENT


def test_a_solid_nodule_on_thin_slices_gets_its_own_rows_of_the_tables():
    volume, lungs = two_lungs()
    notes = result(volume, lungs, [nodule(7.0)], ()).notes
    assert notes[0].startswith(
        "Fleischner 2017 for a single nodule of 7 mm, solid by its density: at low risk CT at 6"
    )
    assert "at high risk CT at 6 to 12 months, then CT at 18 to 24 months." in notes[0]
    assert notes[1] == "Lung-RADS v2022, first screening, for 7.0 mm: category 3."


def test_where_the_kind_is_unknown_each_row_is_quoted_with_its_condition():
    volume, lungs = two_lungs()
    thick = replace(volume, attributes={"SliceThickness": "3.0"})
    notes = result(thick, lungs, [nodule(7.0, solid=False), nodule(5.0)], ()).notes
    assert "3.0 mm thick or apart; the guidelines ask for 1.5 mm or less" in notes[0]
    conditions = [note.split(": ")[0].rsplit(", ", 1)[1] for note in notes[1:4]]
    assert conditions == ["if solid", "if part-solid", "if ground glass"]
    assert all("the largest of 2 nodules of 7 mm" in note for note in notes[1:4])
    assert "category 3 if solid, 2 if ground glass" in notes[4]


def test_neither_table_is_quoted_for_a_mass_or_the_young():
    volume, lungs = two_lungs()
    (note,) = result(volume, lungs, [nodule(34.0)], ()).notes
    assert "a mass, for which these tables for nodules are not made" in note
    young = replace(volume, attributes={"SliceThickness": "1", "PatientAge": "030Y"})
    (note,) = result(young, lungs, [nodule(7.0)], ()).notes
    assert "under 35 years old" in note


def test_only_the_most_probable_are_reported_and_it_is_said():
    volume, lungs = two_lungs()
    found = result(volume, lungs, [nodule(6.0)] * (MOST + 2), ())
    assert len(found.findings) == len(found.segments) == MOST
    assert found.notes[0] == "Of 12 detections the 10 most probable are reported."


@dataclass
class Detector:
    """A site's network that finds what it is told."""

    found: tuple[Box, ...]
    model = Model("site", "1", "site", "0" * 64, "unknown")
    parameters = {"threshold": "0.5"}  # noqa: RUF012

    @property
    def manifest(self):
        return type("Manifest", (), {"task": "detection"})

    def boxes(self, _volume):
        return self.found

    def warm_up(self):
        pass


@pytest.fixture(scope="module")
def chest():
    return chest_phantom(CHEST, Chest(bullae=(), nodules=BALLS), SliceThickness="1.5")


def test_boxes_of_a_sites_model_become_outlined_nodules_on_their_side(chest, monkeypatch):
    to_voxel = np.linalg.inv(chest.grid.affine)
    boxes = []
    for (centre, diameter, _), probability in zip(BALLS, (0.7, 0.9), strict=True):
        middle = (to_voxel @ (*centre, 1.0))[:3] + 0.5
        low, high = middle - diameter / 4.0, middle + diameter / 4.0
        boxes.append(Box(cast("Any", None), probability, tuple(low), tuple(high)))
    pipeline = LungNoduleCt()
    monkeypatch.setattr(pipeline, "_current", lambda: Detector(tuple(boxes)))
    found = pipeline.run(chest)
    # Voxels of 2 mm, measured between their outer edges.
    assert [one.confidence for one in found.findings] == [0.9, 0.7]
    assert [one.laterality for one in found.findings] == [LEFT, RIGHT]
    for finding, (_, diameter, _) in zip(found.findings, BALLS[::-1], strict=True):
        values = {one.name: one.value for one in finding.measurements}
        assert (values[LONG_AXIS] + values[SHORT_AXIS]) / 2 == pytest.approx(diameter, abs=2.6)
        assert values[VOLUME] == pytest.approx(np.pi * diameter**3 / 6000, rel=0.25)
    assert pipeline.model.name == "site"


def test_without_a_model_nobody_looked(chest):
    assert isinstance(LungNoduleCt(), Pipeline)
    with pytest.raises(CouldNotLook, match="No model of lung nodules has been added"):
        LungNoduleCt().run(chest)


def test_thick_slices_are_refused(chest):
    thick = replace(chest, attributes={"Modality": "CT", "SliceThickness": "4.5"})
    with pytest.raises(CouldNotLook, match=r"4\.5 mm thick or apart; beyond 4 mm"):
        SimulatedLungNoduleCt().run(thick)


def test_our_own_detector_is_off_says_simulated_and_finds_a_simulated_ball(chest):
    pipeline = SimulatedLungNoduleCt()
    assert not pipeline.enabled
    assert "synthetic" in pipeline.model.trained_on
    found = pipeline.run(chest)
    assert "learned from simulated nodules" in found.notes[0]
    index = np.linalg.inv(chest.grid.affine) @ (*BALLS[0][0], 1.0)
    k, i, j = np.rint(index[:3]).astype(int)
    assert any(segment.mask[k, i, j] for segment in found.segments)


def test_the_model_names_the_digest_of_its_weights():
    digest = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert SimulatedLungNoduleCt.model.weights_sha256 == digest
