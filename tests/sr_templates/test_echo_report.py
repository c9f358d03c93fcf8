"""What the report on an ultrasound clip says, of which frames, in which section of TID 5300."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipelines import codes as shared
from pipelines.contract import Finding, Measurement, Presence, Result
from sr_templates import codes
from sr_templates.code_table import problem_with
from sr_templates.echo_report import POST_COORDINATED, echo_report
from sr_templates.report import NOT_FOR_DIAGNOSIS
from sr_templates.tree import children_named, code_of, is_named, name_of, walk
from tests.sr_templates import made, marked


@pytest.fixture(scope="module")
def sr():
    return marked.echo(marked.ventricle())


def numbers(sr, section):
    (container,) = children_named(sr, section)
    return list(container.ContentSequence)


def modifiers(item):
    return {
        name_of(child).meaning: code_of(child.ConceptCodeSequence[0]).meaning
        for child in item.ContentSequence
        if child.ValueType == "CODE"
    }


def frames(item):
    """Return what the frames of each reference below an item are, or None for a whole clip."""
    return [
        one.ReferencedSOPSequence[0].get("ReferencedFrameNumber")
        for one in walk(item)
        if one.ValueType == "IMAGE"
    ]


def comments(sr):
    return [item.TextValue for item in children_named(sr, codes.COMMENT)]


def test_the_root_is_an_echo_report_of_the_simplified_template(sr):
    assert name_of(sr) == codes.ADULT_ECHO_REPORT
    assert sr.ContentTemplateSequence[0].TemplateIdentifier == "5300"
    assert sr.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.33"


def test_a_code_that_says_all_has_no_modifier(sr):
    (fraction,) = numbers(sr, codes.PRE_COORDINATED)
    assert name_of(fraction) == marked.EJECTION_FRACTION
    assert fraction.MeasuredValueSequence[0].NumericValue == 57
    assert {child.RelationshipType for child in fraction.ContentSequence} == {"INFERRED FROM"}


def test_a_general_code_says_site_property_and_point_of_the_cycle(sr):
    systolic, diastolic = numbers(sr, codes.POST_COORDINATED)
    assert modifiers(systolic) == {
        "Measurement Type": "Calculated",
        "Finding Site": "Left ventricle",
        "Finding Observation Type": "Structure of the Finding Site",
        "Measured Property": "Volume",
        "Cardiac Cycle Point": "End Systole",
    }
    assert modifiers(diastolic)["Cardiac Cycle Point"] == "End diastole"


def test_any_other_measurement_is_adhoc_and_labelled_by_its_name(sr):
    (rate,) = numbers(sr, codes.ADHOC)
    (label,) = children_named(rate, codes.SHORT_LABEL)
    assert (name_of(rate), label.TextValue) == (marked.HEART_RATE, "Heart rate")


def test_a_statistic_of_many_beats_is_never_told_as_the_plain_value():
    mean = Measurement(marked.EJECTION_FRACTION, 55.0, "%", derivation=shared.MEAN)
    sr = marked.echo(Result((Finding(marked.LEFT_VENTRICLE, measurements=(mean,)),)))
    (item,) = numbers(sr, codes.ADHOC)
    (label,) = children_named(item, codes.SHORT_LABEL)
    assert label.TextValue == f"{marked.EJECTION_FRACTION.meaning} (Mean)"
    assert f"{label.TextValue}: 55 %." in comments(sr)
    assert not children_named(sr, codes.PRE_COORDINATED)


def test_an_outline_is_referred_to_by_the_frames_it_is_on(sr):
    (fraction,) = numbers(sr, codes.PRE_COORDINATED)
    assert frames(fraction) == [[2, 4]]


def test_a_drawn_shape_is_selected_from_its_frame(sr):
    _, diastolic = numbers(sr, codes.POST_COORDINATED)
    (shape,) = [item for item in diastolic.ContentSequence if item.ValueType == "SCOORD"]
    assert list(shape.GraphicData) == [6, 4, 20, 4, 20, 20, 6, 20, 6, 4]
    assert shape.ContentSequence[0].RelationshipType == "SELECTED FROM"
    assert frames(diastolic) == [2]


def test_what_is_of_no_frame_in_particular_refers_to_the_whole_clip(sr):
    (rate,) = numbers(sr, codes.ADHOC)
    assert frames(rate) == [None]


def test_values_and_intervals_are_in_words_too(sr):
    said = comments(sr)
    assert (
        "Left ventricular ejection fraction biplane (MOD): 57 % (95 % interval 51 to 63)." in said
    )
    assert "Heart rate: 72 /min." in said
    assert any(sentence.startswith(NOT_FOR_DIAGNOSIS) for sentence in said)


def test_it_names_the_algorithm_and_what_it_read(sr):
    (read,) = children_named(sr, codes.CURRENT_PROCEDURE)
    said = [item.TextValue for item in read.ContentSequence if item.ValueType == "TEXT"]
    assert "phantom-net" in said
    assert f"weights_sha256={'a' * 64}" in said
    assert frames(read) == [None]


@pytest.mark.parametrize("presence", [Presence.ABSENT, Presence.INDETERMINATE])
def test_what_is_not_there_is_a_question_answered(presence):
    sr = marked.echo(Result((Finding(shared.HEART, presence, confidence=0.6),)))
    (section,) = children_named(sr, codes.FINDINGS)
    assert name_of(section.ContentSequence[0]) == shared.HEART
    assert not any(is_named(item, codes.FINDING) for item in walk(sr))


def test_no_finding_is_said_in_codes():
    (section,) = children_named(marked.echo(Result()), codes.FINDINGS)
    said = [code_of(item.ConceptCodeSequence[0]) for item in section.ContentSequence]
    assert said == [codes.SUCCEEDED_WITHOUT_FINDINGS, codes.ABSENT]


def test_a_method_and_an_interval_stay_with_a_general_code():
    volume = Measurement(marked.END_SYSTOLIC_VOLUME, 48.0, "mL", lowest=40.0, highest=50.0)
    sr = marked.echo(Result((Finding(marked.LEFT_VENTRICLE, measurements=(volume,)),)))
    (item,) = numbers(sr, codes.POST_COORDINATED)
    (lower,) = children_named(item, codes.LOWER_UNCERTAINTY)
    assert lower.MeasuredValueSequence[0].NumericValue == 8


def test_every_code_of_its_own_table_is_of_ps3_16():
    listed = [*POST_COORDINATED, *(one for row in POST_COORDINATED.values() for one in row)]
    flat = [one for pair in listed for one in (pair if isinstance(pair, tuple) else (pair,))]
    assert [problem for problem in map(problem_with, flat) if problem] == []


def test_an_ecg_is_refused():
    about = marked.subject(marked.clip())
    with pytest.raises(TypeError, match="about images"):
        echo_report(replace(about, study=made.ecg().study), Result())
