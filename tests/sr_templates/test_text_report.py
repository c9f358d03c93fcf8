"""The report in words: complete, readable, and never the opposite of what was found."""

from __future__ import annotations

import pytest

from pipelines import codes as shared
from pipelines.contract import Measurement
from sr_templates import codes
from sr_templates.quantities import in_words, rounded
from sr_templates.report import NOT_FOR_DIAGNOSIS
from sr_templates.tree import children_named, code_of, is_named, name_of, walk

KINDS = ["lesion", "lesion-enhanced", "drawn", "drawn-enhanced", "nothing", "ecg-present"]


def section(sr, name):
    (found,) = children_named(sr, name)
    return found


def lines(sr):
    """The texts of the report, each with its name."""
    return [
        (name_of(item).meaning, item.TextValue.split("\r\n"))
        for container in sr.ContentSequence
        if container.ValueType == "CONTAINER"
        for item in container.ContentSequence
        if item.ValueType == "TEXT"
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_viewers_show_it_as_text_line_by_line_under_names(report, kind):
    sr = report(kind, "text-sr")
    assert not is_named(sr, codes.IMAGING_MEASUREMENT_REPORT)
    assert {
        item.ContinuityOfContent for item in (sr, *walk(sr)) if item.ValueType == "CONTAINER"
    } == {"SEPARATE"}


@pytest.mark.parametrize("kind", KINDS)
def test_it_names_the_model_and_its_limit(report, kind):
    said = " ".join(line for _, text in lines(report(kind, "text-sr")) for line in text)
    for words in (NOT_FOR_DIAGNOSIS, "synthetic spheres", "phantom-net 2.1 by Someone"):
        assert words in said


def test_a_lesion_is_told_with_all_its_numbers(report):
    name, said = lines(report("lesion", "text-sr"))[0]
    assert name == "Finding"
    assert said == [
        "Nodule (Nodule 1): present, certainty 93.0 %. Site: Lung, left. Largest on image 1.",
        "Volume: 0.378 mL",
        "Long Axis: 9.567 mm",
        "Short Axis: 8.371 mm",
        "Maximum 3D Diameter of a Mesh: 13.04 mm",
        "Major Axis in 3D Length: 11.29 mm",
        "Minor Axis in 3D Length: 7.2 mm",
        "Least Axis in 3D Length: 6.95 mm",
        "Surface Area of Mesh: 293.9 mm²",
        "Attenuation Coefficient (mean): 0 HU",
        "Attenuation Coefficient (standard deviation): 0 HU",
    ]
    assert ("Conclusion", ["Outlined: Lung."]) in lines(report("lesion", "text-sr"))
    assert ("Conclusion", ["A note for the reader."]) in lines(report("lesion", "text-sr"))


def test_the_numbers_below_the_words_are_those_of_the_complete_report(report):
    def exact(sr):
        return {
            (
                name_of(item).value,
                tuple(code_of(child.ConceptCodeSequence[0]) for child in kinds),
            ): (item.MeasuredValueSequence[0].NumericValue)
            for item in walk(sr)
            if item.ValueType == "NUM" and "MeasuredValueSequence" in item
            for kinds in [children_named(item, codes.DERIVATION)]
        }

    complete, text = exact(report("lesion")), exact(report("lesion", "text-sr"))
    assert len(text) == 11
    assert text.items() <= complete.items()


def test_what_was_not_found_is_no_finding(report):
    said = lines(report("drawn", "text-sr"))
    words = "Hemorrhage: looked for, not found, certainty of absence 98.0 %."
    assert ("Conclusion", [words]) in said
    assert [text[0].split(":")[0] for name, text in said if name == "Finding"] == [
        "Opacity",
        "Nodule",
    ]
    absent = section(report("drawn", "text-sr"), codes.FINDINGS).ContentSequence[2]
    (answer,) = children_named(absent, shared.HAEMORRHAGE)
    assert code_of(answer.ConceptCodeSequence[0]) == codes.ABSENT


def test_nothing_found_is_said_in_code_and_in_words(report):
    sr = report("nothing", "text-sr")
    (said,) = children_named(section(sr, codes.CONCLUSIONS), codes.PROCESSING_SUMMARY)
    assert code_of(said.ConceptCodeSequence[0]) == codes.SUCCEEDED_WITHOUT_FINDINGS
    assert lines(sr)[0] == ("Conclusion", ["Analysed; nothing was found."])


def test_places_are_told_as_viewers_number_them(report):
    ((_, on_frame), *_) = lines(report("lesion-enhanced", "text-sr"))
    assert "Largest on frame 3." in on_frame[0]  # slice 7 is the third frame that is stored
    ((_, two_frames), *_) = lines(report("drawn-enhanced", "text-sr"))
    assert two_frames[0].endswith("Drawn on frame 8, frame 12.")
    ((_, in_lead), *_) = lines(report("ecg-present", "text-sr"))
    assert in_lead == [
        (
            "Atrial Fibrillation: present, certainty 87.0 %. "
            "Judged from Lead II 0.0 s to 2.0 s, Lead II 5.0 s to 7.0 s."
        ),
        "Heart rate: 112 /min",
        "QRS duration per lead: 94 ms",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (1520.34, "1520"),
        (123456.7, "123457"),
        (-653.24, "-653.2"),
        (0.0123456, "0.01235"),
        (99.999, "100"),
        (60.0, "60"),
        (-1.5e-300, "-1.500e-300"),
        (1e300, "1.000e+300"),
    ],
)
def test_numbers_are_short_but_whole(value, text):
    assert rounded(value) == text


def test_a_measurement_is_written_with_its_interval_and_statistic():
    volume = Measurement(shared.VOLUME, 1.23456, "mL", lowest=1.1, highest=1.4)
    assert in_words(volume) == ("Volume", "1.235 mL", "(95 % interval from 1.1 to 1.4)")
    mean = Measurement(shared.MR_SIGNAL_INTENSITY, 7.0, "1", derivation=shared.MEAN)
    assert in_words(mean) == ("MR signal intensity (mean)", "7", "")
