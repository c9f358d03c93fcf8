"""Follow-up: three studies of a phantom whose lesions, movements and growth are known."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import cache
from math import log

import numpy as np
import pytest

from pipelines import codes
from pipelines.contract import Finding, Measurement, Presence, Result, Segment, Volume
from pipelines.follow_up import NO_PRIOR, Lesion, Prior, follow_up
from pipelines.registration import Alignment, align
from sr_templates.code_table import problem_with
from tests.peers.body_phantom import Lesion as Ball
from tests.peers.body_phantom import Pose, axial_grid, body

FIRST, SECOND, THIRD = date(2025, 1, 10), date(2025, 4, 20), date(2025, 9, 1)

STABLE, GROWS, VANISHES = (-60.0, 15.0, 40.0), (62.0, -20.0, 40.0), (-30.0, -25.0, -65.0)
NEW, NEIGHBOUR = (40.0, 20.0, 70.0), (-60.0, 33.0, 40.0)
GROWTH = 1.6
"""Of the volume, from one study to the next."""

GRIDS = {
    FIRST: axial_grid((100, 120, 140), (2.5, 1.9, 1.9)),
    SECOND: axial_grid((130, 150, 170), (2.0, 1.6, 1.6), (4.0, -6.0, 8.0)),
    THIRD: axial_grid((156, 120, 140), (1.6, 1.9, 1.9), (-5.0, 3.0, 0.0)),
}
POSES = {
    FIRST: Pose(),
    SECOND: Pose((5.0, -4.0, 8.0), (8.0, -5.0, 4.0)),
    THIRD: Pose((-3.0, 6.0, -4.0), (-6.0, 7.0, -5.0)),
}


def balls(when):
    """The lesions of one study; their names tell nothing about who is who."""
    grown = {FIRST: 1.0, SECOND: GROWTH, THIRD: GROWTH**2}[when] ** (1 / 3)
    there = [Ball("1", STABLE, 14.0), Ball("2", GROWS, 18.0 * grown)]
    if when == FIRST:
        there.append(Ball("3", VANISHES, 12.0))
    else:
        there = [replace(there[1], name="1"), replace(there[0], name="2"), Ball("3", NEW, 15.0)]
    return tuple(there)


@cache
def study(when):
    """Volume and masks of one study."""
    return body(GRIDS[when], balls(when), POSES[when], seed=when.month)


def result_of(volume, masks, code=codes.NODULE):
    """What a pipeline that finds every lesion would say."""
    return Result(
        tuple(
            Finding(
                code,
                segment=f"Nodule {name}",
                measurements=(
                    Measurement(
                        codes.VOLUME, float(mask.sum()) * volume.grid.voxel_volume_ml, "mL"
                    ),
                ),
            )
            for name, mask in masks.items()
        ),
        tuple(
            Segment(f"Nodule {name}", codes.MORPHOLOGICALLY_ABNORMAL, code, mask)
            for name, mask in masks.items()
        ),
    )


def lesion_of(volume, segment, tracking_uid):
    """What a stored segment tells."""
    index = np.argwhere(segment.mask)
    centre = volume.grid.affine @ (*index.mean(axis=0), 1.0)
    volume_ml = len(index) * volume.grid.voxel_volume_ml
    return Lesion(segment.label, segment.property, tracking_uid, tuple(centre[:3]), volume_ml)


def prior_of(when, volume, result):
    """What a later study is given of a result: as tracked there, or by a UID of its own."""
    lesions = tuple(
        lesion_of(volume, one, one.tracking_uid or f"{when}/{one.label}") for one in result.segments
    )
    return Prior(when, volume, lesions)


@cache
def followed():
    """The results of all three studies, each with the earlier ones as priors."""
    priors: list[Prior] = []
    results: dict[date, Result] = {}
    for when in (FIRST, SECOND, THIRD):
        volume, masks = study(when)
        results[when] = follow_up(volume, result_of(volume, masks), priors, when)
        priors.append(prior_of(when, volume, results[when]))
    return results


def tracked(result):
    """Segment label -> tracking UID."""
    return {one.label: one.tracking_uid for one in result.segments}


def measured(finding):
    return {one.name: one.value for one in finding.measurements}


def finding_of(result, label):
    (finding,) = [one for one in result.findings if one.segment == label]
    return finding


def test_every_lesion_of_three_studies_is_matched_and_keeps_its_tracking_uid():
    results = followed()
    assert set(tracked(results[FIRST]).values()) == {""}
    stable, grows = f"{FIRST}/Nodule 1", f"{FIRST}/Nodule 2"
    assert tracked(results[SECOND]) == {"Nodule 1": grows, "Nodule 2": stable, "Nodule 3": ""}
    assert tracked(results[THIRD]) == {
        "Nodule 1": grows,
        "Nodule 2": stable,
        "Nodule 3": f"{SECOND}/Nodule 3",
    }
    for result in results.values():
        for one in result.segments:
            assert finding_of(result, one.label).tracking_uid == one.tracking_uid


@pytest.mark.parametrize(("when", "before"), [(SECOND, FIRST), (THIRD, SECOND)])
def test_growth_is_within_five_percent_of_the_truth(when, before):
    said = measured(finding_of(followed()[when], "Nodule 1"))
    days = (when - before).days
    assert 1 + said[codes.RELATIVE_VOLUME_CHANGE] / 100 == pytest.approx(GROWTH, rel=0.05)
    doubling = days * log(2) / log(GROWTH)
    assert said[codes.VOLUME_DOUBLING_TIME] == pytest.approx(doubling, rel=0.05)
    assert said[codes.TIME_SINCE_PRIOR] == days
    now, change = said[codes.VOLUME], said[codes.VOLUME_CHANGE]
    assert now - change == pytest.approx(said[codes.PRIOR_VOLUME])
    stable = measured(finding_of(followed()[when], "Nodule 2"))
    assert stable[codes.RELATIVE_VOLUME_CHANGE] == pytest.approx(0.0, abs=5.0)
    assert codes.VOLUME_DOUBLING_TIME not in stable


def test_a_lesion_that_vanished_is_said_to_be_absent_under_its_old_uid_once():
    results = followed()
    (gone,) = [one for one in results[SECOND].findings if one.presence is Presence.ABSENT]
    assert (gone.finding, gone.tracking_uid) == (codes.NODULE, f"{FIRST}/Nodule 3")
    assert measured(gone)[codes.PRIOR_VOLUME] == pytest.approx(0.905, rel=0.05)
    assert not [one for one in results[THIRD].findings if one.presence is Presence.ABSENT]


def test_the_reader_is_told_of_every_lesion():
    notes = followed()[SECOND].notes
    assert any(
        note.startswith("Nodule 1: ") and f"mL on {FIRST}" in note and "doubling time" in note
        for note in notes
    )
    assert f"Nodule 3: new, not in the result of {FIRST}." in notes
    assert any(note.startswith(f"Nodule 3 of {FIRST} (0.9") for note in notes)


def test_the_same_studies_lie_in_the_same_way_to_the_last_bit():
    first, second = study(FIRST)[0], study(SECOND)[0]
    one, other = align(first, second), align(first, second)
    assert (one.matrix == other.matrix).all()
    corners = np.array([(x, y, z) for x in (-70, 70) for y in (-50, 50) for z in (-90, 90)], float)
    truth = POSES[SECOND].to_scanner(corners)
    assert np.linalg.norm(one(corners) - truth, axis=1).max() < 0.5  # measured: 0.2
    assert np.allclose(one.inverse(one(corners)), corners)


def test_a_lesion_that_comes_back_is_known_from_the_study_before():
    now, masks = study(SECOND)
    first = prior_of(FIRST, study(FIRST)[0], result_of(*study(FIRST)))
    between = prior_of(SECOND, now, Result())
    compared = follow_up(now, result_of(now, masks), [first, between], THIRD)
    assert tracked(compared)["Nodule 1"] == f"{FIRST}/Nodule 2"
    assert not [one for one in compared.findings if one.presence is Presence.ABSENT]


def test_lesions_without_a_tracking_uid_are_not_taken_for_one(monkeypatch):
    """One that is seen in the later study tells nothing of another in the one before it."""
    monkeypatch.setattr("pipelines.follow_up.align", lambda *_: Alignment(np.eye(4), 1.0, 1.0))
    volume, masks = study(SECOND)
    found = result_of(volume, masks)
    unnamed = [replace(lesion_of(volume, one, ""), tracking_uid="") for one in found.segments]
    priors = [Prior(FIRST, volume, tuple(unnamed[1:])), Prior(SECOND, volume, (unnamed[0],))]
    compared = follow_up(volume, found, priors, THIRD)
    assert set(tracked(compared).values()) == {""}
    assert all(codes.PRIOR_VOLUME in measured(one) for one in compared.findings)
    assert not any("new" in note for note in compared.notes)


def test_two_lesions_side_by_side_are_not_mixed_up():
    """17 mm apart, one shrinks to a sixth, the patient moved: each is still itself."""
    pose = POSES[SECOND]
    then, before = body(GRIDS[FIRST], (Ball("a", STABLE, 14.0), Ball("b", NEIGHBOUR, 14.0)), Pose())
    now, after = body(
        GRIDS[SECOND], (Ball("x", NEIGHBOUR, 14.0), Ball("y", STABLE, 8.0)), pose, seed=1
    )
    prior = prior_of(FIRST, then, result_of(then, before))
    compared = follow_up(now, result_of(now, after), [prior], SECOND)
    assert tracked(compared) == {
        "Nodule x": f"{FIRST}/Nodule b",
        "Nodule y": f"{FIRST}/Nodule a",
    }


def test_a_lesion_of_another_kind_in_the_same_place_is_new():
    now, masks = study(SECOND)
    then, before = study(FIRST)
    prior = prior_of(FIRST, then, result_of(then, before, codes.HAEMORRHAGE))
    compared = follow_up(now, result_of(now, masks), [prior], SECOND)
    assert set(tracked(compared).values()) == {""}
    assert len([one for one in compared.findings if one.presence is Presence.ABSENT]) == 3


def test_what_lies_outside_the_images_is_neither_gone_nor_new():
    upper = axial_grid((44, 120, 140), (2.5, 1.9, 1.9), (0.0, 0.0, 75.0))
    now, masks = body(upper, (Ball("1", NEW, 15.0),), Pose(), seed=3)
    prior = prior_of(FIRST, study(FIRST)[0], result_of(*study(FIRST)))
    compared = follow_up(now, result_of(now, masks), [prior], SECOND)
    gone = {one.tracking_uid for one in compared.findings if one.presence is Presence.ABSENT}
    assert f"{FIRST}/Nodule 3" not in gone
    assert any("Nodule 3" in note and "do not reach" in note for note in compared.notes)
    turned = follow_up(
        study(FIRST)[0], result_of(*study(FIRST)), [prior_of(SECOND, now, result_of(now, masks))],
        THIRD,
    )  # fmt: skip
    assert any(n.startswith("Nodule 3: lies where the images") for n in turned.notes)


def test_another_part_of_the_body_is_not_compared_and_the_reader_is_told():
    upper, _ = body(axial_grid((40, 100, 120), (2.0, 2.2, 2.2), (0.0, 0.0, 75.0)))
    lower, masks = body(
        axial_grid((40, 100, 120), (2.0, 2.2, 2.2), (0.0, 0.0, -75.0)),
        (Ball("1", (-45.0, 0.0, -70.0), 20.0),),
    )
    found = result_of(lower, masks)
    prior = Prior(FIRST, upper, (Lesion("x", codes.NODULE, "1.2", (0.0, 0.0, 60.0), 0.5),))
    compared = follow_up(lower, found, [prior], SECOND)
    assert (compared.findings, compared.segments) == (found.findings, found.segments)
    (note,) = compared.notes
    assert "could not be laid over this one" in note


def test_no_prior_is_said_and_changes_nothing_else():
    volume, masks = study(FIRST)
    found = result_of(volume, masks)
    assert follow_up(volume, found, [], FIRST) == replace(found, notes=(NO_PRIOR,))


def test_nothing_then_and_nothing_now_needs_no_alignment():
    empty = Volume(np.zeros((2, 2, 2), np.float32), axial_grid((2, 2, 2), (1.0, 1.0, 1.0)))
    compared = follow_up(empty, Result(), [Prior(FIRST, empty)], SECOND)
    assert compared == Result(notes=(f"The result of {FIRST} has no outlined finding either.",))


@pytest.mark.parametrize("presence", [Presence.PRESENT, Presence.INDETERMINATE])
def test_a_finding_without_an_outline_is_not_said_to_be_none(presence):
    empty = Volume(np.zeros((2, 2, 2), np.float32), axial_grid((2, 2, 2), (1.0, 1.0, 1.0)))
    found = Result((Finding(codes.NODULE, presence),))
    compared = follow_up(empty, found, [Prior(FIRST, empty)], SECOND)
    assert compared.findings == found.findings
    assert compared.notes[-1] == "What was found here is not outlined, so it was not compared."


def test_images_that_were_taken_later_are_no_prior():
    volume, masks = study(FIRST)
    found = result_of(volume, masks)
    compared = follow_up(volume, found, [prior_of(SECOND, volume, found)], FIRST)
    assert (compared.findings, compared.segments) == (found.findings, found.segments)
    (note,) = compared.notes
    assert note == f"The images of {SECOND} are later than these, so their result was not compared."


def test_an_outline_that_no_finding_speaks_of_gets_one_when_it_is_known():
    """Its group in the report must be tracked by the segment's UID."""
    then, before = study(FIRST)
    now, masks = study(SECOND)
    silent = replace(result_of(now, masks), findings=())
    compared = follow_up(now, silent, [prior_of(FIRST, then, result_of(then, before))], SECOND)
    assert finding_of(compared, "Nodule 1").tracking_uid == f"{FIRST}/Nodule 2"
    assert [one.segment for one in compared.findings] == ["Nodule 1", "Nodule 2", None]


def test_every_code_of_growth_may_be_in_a_report():
    for name in (codes.PRIOR_VOLUME, codes.TIME_SINCE_PRIOR, codes.VOLUME_CHANGE,
                 codes.RELATIVE_VOLUME_CHANGE, codes.VOLUME_DOUBLING_TIME):  # fmt: skip
        assert problem_with(name) is None
        assert len(name.value) <= 16  # VR SH
