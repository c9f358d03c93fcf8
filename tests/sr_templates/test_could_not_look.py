"""A refusal to judge cannot be mistaken for a negative result."""

from __future__ import annotations

import pytest

from sr_templates import codes
from sr_templates.could_not_look import NOT_ANALYSED
from sr_templates.tree import code_of, is_named, name_of, walk


@pytest.mark.parametrize("kind", ["could-not-look", "ecg-could-not-look"])
def test_it_says_why_in_words_and_that_nothing_succeeded_in_codes(report, kind):
    sr = report(kind)
    said = " ".join(str(item.get("TextValue", "")) for item in walk(sr))
    assert NOT_ANALYSED in said
    assert ("Slices are missing." in said) or ("Too noisy." in said)
    values = [code_of(item.ConceptCodeSequence[0]) for item in walk(sr) if item.ValueType == "CODE"]
    assert codes.NOTHING_SUCCEEDED in values
    assert codes.SUCCEEDED_WITHOUT_FINDINGS not in values
    assert codes.ABSENT not in values


def test_it_is_partial_where_a_negative_result_is_complete(report):
    assert report("could-not-look").CompletionFlag == "PARTIAL"
    assert report("could-not-look").CompletionFlagDescription == "The study was not analysed."
    assert report("nothing").CompletionFlag == "COMPLETE"


def test_it_is_no_measurement_report_so_that_viewers_show_its_text(report):
    assert name_of(report("could-not-look")) == codes.DIAGNOSTIC_IMAGING_REPORT
    assert name_of(report("ecg-could-not-look")) == codes.ECG_REPORT
    assert not any(
        is_named(item, codes.MEASUREMENT_GROUP) for item in walk(report("could-not-look"))
    )
