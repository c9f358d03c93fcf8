"""What a report says of each thing that is tracked, whatever template it follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.gate.numbers import millilitres, unit_of, value_of
from pipelines.codes import VOLUME
from sr_templates import codes
from sr_templates.tree import children_named, code_of, is_named, name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydicom import Dataset

Concept = tuple[str, str]
"""Value and scheme of a code: what it is, whatever its meaning says."""

Quantity = tuple[Concept, tuple[tuple[Concept, Concept], ...]]
"""What was measured, with what modifies it: method, derivation, site."""

_ANSWERS = {
    (answer.value, answer.scheme): answer.meaning
    for answer in (codes.PRESENT, codes.ABSENT, codes.PRESENCE_UNDETERMINED)
}


@dataclass(frozen=True)
class Statement:
    """A group of a report, or another item, that has a tracking UID.

    Attributes:
        tracking_uid: What it is about.
        answers: Concept -> whether it is there, in words (``Present``, ``Absent`` ...).
        segments: SOP Instance UID and number of each segment that it refers to.
        measured: Quantity -> values, each with its unit; volumes in mL.
        volumes_ml: Of the volumes among them.
    """

    tracking_uid: str
    answers: Mapping[Concept, str]
    segments: tuple[tuple[str, int], ...]
    measured: Mapping[Quantity, tuple[tuple[float, str], ...]]
    volumes_ml: tuple[float, ...]


def statements_of(items: Iterable[Dataset]) -> list[Statement]:
    """Return what is said in items with a tracking UID of their own."""
    return [
        _statement(item, str(tracked[0].get("UID")))
        for item in items
        if (tracked := children_named(item, codes.TRACKING_UID))
    ]


def answers_of(items: Iterable[Dataset]) -> dict[Concept, set[str]]:
    """Return concept -> all that is said of whether it is there."""
    answers: dict[Concept, set[str]] = {}
    for item in items:
        for concept, answer in _answers(item):
            answers.setdefault(concept, set()).add(answer)
    return answers


def volumes_ml(items: Iterable[Dataset]) -> list[float]:
    """Return the volumes among content items, in millilitres."""
    return [
        value
        for item in items
        if is_named(item, VOLUME)
        for value, unit in _values(item)
        if unit == "mL"
    ]


def _statement(group: Dataset, tracking_uid: str) -> Statement:
    children = group.get("ContentSequence") or ()
    measured: dict[Quantity, tuple[tuple[float, str], ...]] = {}
    for child in children:
        if child.get("ValueType") == "NUM":
            quantity = _quantity(child)
            measured[quantity] = (*measured.get(quantity, ()), *_values(child))
    return Statement(
        tracking_uid,
        dict(pair for item in (group, *children) for pair in _answers(item)),
        tuple(_segments(group)),
        measured,
        tuple(volumes_ml(children)),
    )


def _answers(item: Dataset) -> Iterator[tuple[Concept, str]]:
    """Yield what an item says is there or not: "Nodule = Absent", or "Finding = Nodule"."""
    for value in item.get("ConceptCodeSequence") or ():
        concept = _concept(value)
        if concept in _ANSWERS:
            name = name_of(item)
            yield (name.value, name.scheme), _ANSWERS[concept]
        elif is_named(item, codes.FINDING) or is_named(item, codes.ECG_FINDING):
            yield concept, codes.PRESENT.meaning


def _segments(group: Dataset) -> Iterator[tuple[str, int]]:
    for child in children_named(group, codes.REFERENCED_SEGMENT):
        for reference in child.get("ReferencedSOPSequence") or ():
            number = int(reference.get("ReferencedSegmentNumber") or 0)
            yield str(reference.ReferencedSOPInstanceUID), number


def _quantity(number: Dataset) -> Quantity:
    name = name_of(number)
    modifiers = (
        (name_of(child), code_of(value))
        for child in number.get("ContentSequence") or ()
        if child.get("RelationshipType") == "HAS CONCEPT MOD"
        for value in child.get("ConceptCodeSequence") or ()
    )
    return (name.value, name.scheme), tuple(
        sorted(
            ((what.value, what.scheme), (which.value, which.scheme)) for what, which in modifiers
        )
    )


def _values(number: Dataset) -> Iterator[tuple[float, str]]:
    for measured in number.get("MeasuredValueSequence") or ():
        volume_ml = millilitres(measured)
        if volume_ml is None:
            yield value_of(measured), unit_of(measured)
        else:
            yield volume_ml, "mL"


def _concept(code: Dataset) -> Concept:
    found = code_of(code)
    return found.value, found.scheme
