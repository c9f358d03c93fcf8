"""Results on one series that rest on others, too: named as evidence, and nothing drawn on them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest

from node.domain import Role
from node.encode.objects import encode, encode_could_not_look
from node.profiles import CHOSEN_BY_THE_NODE
from node.publish_gate import verify
from node.uids import derived_uid
from sr_templates import codes
from sr_templates.tree import is_named, walk
from tests.node.tampering import problems_of, read_back
from tests.sr_templates import made

ALL = frozenset(Role) - CHOSEN_BY_THE_NODE


def another_series():
    """Return the same slices, in another series with a frame of reference of its own."""
    instances = deepcopy(made.classic().instances)
    for instance in instances:
        instance.SeriesInstanceUID = derived_uid("test", "another series")
        instance.SOPInstanceUID = derived_uid("test", "another", instance.SOPInstanceUID)
        instance.FrameOfReferenceUID = derived_uid("test", "another frame of reference")
    return instances


BESIDE = another_series()


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Role -> object of a result of two series, as read back from disk."""
    source = replace(made.classic(), beside=BESIDE)
    encoded = encode(source, made.outlined(), made.work(roles=ALL))
    return read_back(encoded, tmp_path_factory.mktemp("stored"))


def test_every_object_of_a_result_of_several_series_passes(stored):
    verify([*stored.values()], made.classic().instances, beside=BESIDE)


def test_what_is_no_input_of_the_job_is_no_evidence(stored):
    problems = problems_of(stored.values(), made.classic().instances)
    assert any(f"{len(BESIDE)} instances that are neither source nor result" in p for p in problems)


def test_what_is_drawn_on_another_series_than_the_first_is_refused(stored):
    with pytest.raises(Exception, match="frame of reference"):
        verify([*stored.values()], BESIDE, beside=made.classic().instances)


def test_an_input_of_another_patient_closes_the_gate(stored):
    stranger = deepcopy(BESIDE)
    for instance in stranger:
        instance.PatientID = "P-2"
    with pytest.raises(Exception, match="differ in patient ID"):
        verify([*stored.values()], made.classic().instances, beside=stranger)


def test_the_image_library_has_a_group_for_each_series(stored):
    groups = [item for item in walk(stored["sr"]) if is_named(item, codes.IMAGE_LIBRARY_GROUP)]
    listed = [
        {
            str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
            for item in group.ContentSequence
            if item.ValueType == "IMAGE"
        }
        for group in groups
    ]
    assert listed == [
        {str(one.SOPInstanceUID) for one in instances}
        for instances in (made.classic().instances, BESIDE)
    ]


def test_a_refusal_names_all_series_that_came(tmp_path):
    work = made.work(roles=ALL)
    encoded = encode_could_not_look(made.classic().instances, "Too noisy.", work, BESIDE)
    verify([*read_back(encoded, tmp_path).values()], made.classic().instances, beside=BESIDE)
    (study,) = encoded[0].dataset.CurrentRequestedProcedureEvidenceSequence
    assert [str(series.SeriesInstanceUID) for series in study.ReferencedSeriesSequence] == [
        str(one[0].SeriesInstanceUID) for one in (made.classic().instances, BESIDE)
    ]
