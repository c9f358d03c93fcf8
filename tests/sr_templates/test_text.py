"""A report as text, for people."""

from __future__ import annotations

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

from sr_templates.text import as_text


def test_values_have_units_and_references_are_short(report):
    text = as_text(report("two-segments"))
    assert "      Volume: 0.378 mL\n" in text
    assert "Certainty of Finding: 93.21 %" in text
    assert "Source: 12 instances" in text
    assert "segment 2" in text
    sr = report("two-segments")
    assert sr.SOPInstanceUID not in text
    assert sr.StudyInstanceUID not in text


def test_nothing_of_the_patient_is_in_it(report):
    text = as_text(report("one-segment"))
    assert not {"Müller", "P-1", "A-9", "19600101"} & set(text.replace("^", " ").split())


def test_time_ranges_are_told_by_sample_and_channel(report):
    text = as_text(report("ecg-present"))
    assert "samples 5001 to 7000" in text
    assert "channels 1/2" in text


@pytest.mark.parametrize("name", ["reportsi.dcm", "test-SR.dcm"])
def test_a_report_of_another_maker_is_readable(name):
    lines = as_text(dcmread(str(get_testdata_file(name)))).splitlines()
    assert len(lines) > 5
    assert len(lines) == len([line for line in lines if line.strip()])


def test_a_measurement_without_a_value_says_so():
    item = Dataset()
    item.ValueType, item.MeasuredValueSequence = "NUM", []
    root = Dataset()
    root.ContentSequence = [item]
    assert "not measured" in as_text(root)
