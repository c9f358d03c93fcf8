"""Two pipelines side by side: what is told apart, what is left out, and which case is worst."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import Dataset

from node.domain import Outcome
from node.models import compare, said
from sr_templates import codes


def item(name: tuple[str, str, str], **attributes: object) -> Dataset:
    one = Dataset()
    concept = Dataset()
    concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = name
    one.ConceptNameCodeSequence = [concept]
    for keyword, value in attributes.items():
        setattr(one, keyword, value)
    return one


def code_item(name, meaning: str) -> Dataset:
    value = Dataset()
    value.CodeValue, value.CodingSchemeDesignator, value.CodeMeaning = "1", "99X", meaning
    return item(
        (name.value, name.scheme, name.meaning), ValueType="CODE", ConceptCodeSequence=[value]
    )


def number(meaning: str, value: float) -> Dataset:
    unit = Dataset()
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "mL", "UCUM", "mL"
    measured = Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = str(value), [unit]
    # The bounds of an interval lie below the number, and are none of their own.
    bound = item(("2", "99X", "bound"), ValueType="NUM", MeasuredValueSequence=[Dataset(measured)])
    return item(
        ("3", "99X", meaning),
        ValueType="NUM",
        MeasuredValueSequence=[measured],
        ContentSequence=[bound],
    )


def group(finding: str, *numbers: Dataset) -> Dataset:
    name = codes.MEASUREMENT_GROUP
    return item(
        (name.value, name.scheme, name.meaning),
        ValueType="CONTAINER",
        ContentSequence=[code_item(codes.FINDING, finding), *numbers],
    )


def test_numbers_are_told_apart_by_what_they_are_of(monkeypatch: pytest.MonkeyPatch) -> None:
    report = Dataset()
    library = codes.IMAGE_LIBRARY
    report.ContentSequence = [
        item(
            (library.value, library.scheme, library.meaning),
            ValueType="CONTAINER",
            ContentSequence=[number("rows", 512)],
        ),
        group("brain", number("volume", 1500)),
        group("nodule", number("volume", 1.0), number("diameter", 12.0)),
        group("nodule", number("volume", 2.0)),
        number("heart rate", 60),
    ]
    monkeypatch.setattr(said, "dcmread", lambda _: report)
    assert said.numbers(None) == {  # type: ignore[arg-type]
        "brain: volume [mL]": 1500.0,
        "nodule: diameter [mL]": 12.0,
        "heart rate [mL]": 60.0,
    }


def test_dice_is_counted_by_hand() -> None:
    one, other = np.zeros((2, 4, 4), bool), np.zeros((2, 4, 4), bool)
    one[:, :2], other[1:, :3] = True, True  # 16 and 12 voxels, 8 of them shared
    a = {("1.2", 1): one[0], ("1.3", 1): one[1]}
    b = {("1.3", 1): other[1]}
    assert said.dice(a, b) == said.dice(b, a) == pytest.approx(2 * 8 / (16 + 12))
    assert said.dice({}, {}) == 1.0
    assert said.dice(a, {}) == 0.0


def test_the_worst_case_is_named_and_outcomes_are_crossed(monkeypatch: pytest.MonkeyPatch) -> None:
    def case(n: int, a: Outcome, b: Outcome, values: tuple[float, float], overlap: float):
        return compare.Case(f"a{n}", f"b{n}", a, b, {"volume": values}, {"brain": overlap})

    found, nothing = Outcome.FOUND, Outcome.NOTHING_FOUND
    cases = {
        "1": case(1, found, found, (10.0, 11.0), 0.9),
        "2": case(2, found, nothing, (10.0, 4.0), 0.2),
        "3": case(3, nothing, nothing, (10.0, 12.0), 1.0),
    }
    of = {"A": dict.fromkeys("123x"), "B": dict.fromkeys("123yz")}
    monkeypatch.setattr(compare, "_finished", lambda _, name: {key: key for key in of[name]})
    monkeypatch.setattr(compare, "_case", lambda _, judged, __: cases[judged])
    result = compare.compare(None, None, "A", "B")  # type: ignore[arg-type]
    assert (len(result.cases), result.only_a, result.only_b) == (3, 1, 2)
    assert result.outcomes == {(found, found): 1, (found, nothing): 1, (nothing, nothing): 1}
    assert [one.job_a for one in result.disagreeing] == ["a2"]
    (difference,) = result.differences
    assert (difference.mean, difference.worst, difference.job_b) == (-1.0, -6.0, "b2")
    (overlap,) = result.overlaps
    assert overlap.mean == pytest.approx(0.7)
    assert (overlap.worst, overlap.job_a) == (0.2, "a2")
