"""Every concept that the pipeline reports is in PS3.16, as pydicom's dictionary has it."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.sr._concepts_dict import concepts

from pipelines.contract import Code
from pipelines.ecg_atrial_fibrillation import codes

TABLE: Any = concepts  # scheme -> keyword -> value -> (meaning, context groups)
USED = [value for value in vars(codes).values() if isinstance(value, Code)]


@pytest.mark.parametrize("code", USED, ids=lambda code: code.meaning)
def test_the_code_and_its_meaning_are_those_of_the_standard(code):
    meanings = {
        keyword[code.value][0] for keyword in TABLE[code.scheme].values() if code.value in keyword
    }
    assert code.meaning in meanings


@pytest.mark.parametrize(
    ("code", "group"),
    [
        (codes.ATRIAL_FIBRILLATION, 3230),
        (codes.SINUS_RHYTHM, 3415),
        (codes.PR_INTERVAL, 3228),
        (codes.QRS_DURATION, 3228),
        (codes.QT_INTERVAL, 3228),
        (codes.RR_INTERVAL, 3228),
        (codes.QTC_BAZETT, 3227),
        (codes.QTC_FRIDERICIA, 3227),
    ],
)
def test_the_code_belongs_to_the_context_group_it_is_used_for(code, group):
    groups = {
        number
        for keyword in TABLE[code.scheme].values()
        if code.value in keyword
        for number in keyword[code.value][1]
    }
    assert group in groups
