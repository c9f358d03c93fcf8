"""The objects of one result beside each other: none says what another denies."""

from __future__ import annotations

import math
from bisect import bisect
from itertools import combinations
from typing import TYPE_CHECKING

from pydicom.uid import ChestCADSRStorage

from sr_templates import codes
from sr_templates.code_table import meanings
from sr_templates.tree import code_of, is_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from node.gate.documents import Document
    from node.gate.segmentation import Outlines
    from node.gate.statements import Concept, Statement
    from pipelines.contract import Code

    _Told = tuple[Mapping[Concept, set[str]], bool]
    """All that a report says of presence, and whether it says that nothing was found."""

_VALUE_TOLERANCE = 1e-6
"""Relative: a decimal string of 16 characters holds at least ten digits of the spacing."""


def agreement_problems(
    documents: Sequence[Document], segmentations: Sequence[Outlines]
) -> Iterator[str]:
    """Yield what the objects of a result say against each other, as sentences."""
    stored = {str(one.dataset.SOPInstanceUID): one for one in segmentations}
    said = [(document, document.content.statements) for document in documents]
    for document, statements in said:
        for statement in statements:
            yield from _segment_problems(document, statement, stored)
        yield from _volume_problems(document, statements, stored)
        yield from _silence_problems(document, statements, stored)
    yield from _untold_problems([one for _, own in said for one in own], segmentations)
    yield from _between_segmentations(segmentations)
    tracked: dict[str, list[Statement]] = {}
    for _, statements in said:
        for statement in statements:
            tracked.setdefault(statement.tracking_uid, []).append(statement)
    for same in tracked.values():
        for pair in combinations(same, 2):
            yield from _between_statements(*pair)
    for first, second in combinations(map(_told_by, documents), 2):
        yield from _between_documents(first, second)


def _segment_problems(
    document: Document, statement: Statement, stored: dict[str, Outlines]
) -> Iterator[str]:
    """Hold what is said of a segment against that segment and its voxels."""
    about: list[tuple[Outlines, int]] = []
    for uid, number in statement.segments:
        if uid not in stored:
            yield f"{document.name} refers to a segment of an object that is no segmentation."
        elif number not in stored[uid].segments:
            yield f"{document.name} refers to segment {number}, which does not exist."
        else:
            about.append((stored[uid], number))
            own = str(stored[uid].segments[number].get("TrackingUID"))
            if own != statement.tracking_uid:
                yield (
                    f"Segment {number} is tracked by another UID than its group in"
                    f" {_within(document)}."
                )
    for outlines, number in about or _tracked_by(statement, stored):
        yield from _voxel_problems(document, statement, outlines, number)


def _tracked_by(statement: Statement, stored: dict[str, Outlines]) -> list[tuple[Outlines, int]]:
    return [
        (one, one.by_tracking_uid[statement.tracking_uid])
        for one in stored.values()
        if statement.tracking_uid in one.by_tracking_uid
    ]


def _volume_problems(
    document: Document, statements: Sequence[Statement], stored: dict[str, Outlines]
) -> Iterator[str]:
    """Hold every volume against those counted, also where no tracking UID says of what it is."""
    compared = {
        volume_ml
        for one in statements
        if one.segments or _tracked_by(one, stored)
        for volume_ml in one.volumes_ml
    }
    counted = sorted(volume_ml for one in stored.values() for volume_ml in one.volumes_ml.values())
    for said_ml in document.content.volumes_ml:
        place = bisect(counted, said_ml)
        nearest = counted[max(place - 1, 0) : place + 1]
        if said_ml and said_ml not in compared and not _is_one_of(said_ml, nearest):
            yield f"{document.name} gives a volume of {said_ml:.6g} mL, which no segment has."


def _voxel_problems(
    document: Document, statement: Statement, outlines: Outlines, number: int
) -> Iterator[str]:
    if codes.ABSENT.meaning in statement.answers.values():
        yield f"{document.name} calls segment {number} absent, though it is stored."
    kinds = {
        (code.value, code.scheme)
        for code in map(
            code_of, outlines.segments[number].get("SegmentedPropertyTypeCodeSequence") or ()
        )
    }
    if statement.answers and not kinds & set(statement.answers):
        yield (
            f"{document.name} finds {_meanings(statement.answers)} in segment {number},"
            f" which is stored as {_meanings(kinds)}."
        )
    if not statement.volumes_ml:
        return
    counted_ml = outlines.volumes_ml.get(number)
    if counted_ml is None:
        yield f"The volume of segment {number} cannot be counted."
        return
    for said_ml in statement.volumes_ml:
        if not _is_one_of(said_ml, [counted_ml]):
            yield (
                f"{document.name} says {said_ml:.6g} mL for segment {number};"
                f" its voxels make {counted_ml:.6g} mL."
            )


def _silence_problems(
    document: Document, statements: Sequence[Statement], stored: dict[str, Outlines]
) -> Iterator[str]:
    """A report that refers to a segmentation speaks of all of it."""
    spoken_of = {reference for one in statements for reference in one.segments}
    for uid in {uid for uid, _ in spoken_of} & set(stored):
        for number in stored[uid].segments:
            if (uid, number) not in spoken_of:
                yield f"{document.name} does not speak of segment {number}."


def _untold_problems(
    statements: Sequence[Statement], segmentations: Sequence[Outlines]
) -> Iterator[str]:
    """What is stored is spoken of: by reference, or by its tracking UID."""
    referred = {reference for one in statements for reference in one.segments}
    tracked = {one.tracking_uid for one in statements}
    for one in segmentations:
        uid = str(one.dataset.SOPInstanceUID)
        for tracking_uid, number in one.by_tracking_uid.items():
            if (uid, number) not in referred and tracking_uid not in tracked:
                yield f"No report speaks of segment {number}."


def _between_segmentations(segmentations: Sequence[Outlines]) -> Iterator[str]:
    for first, second in combinations(segmentations, 2):
        if set(first.by_tracking_uid) != set(second.by_tracking_uid):
            yield "The segmentation and the label map have different segments."
        for uid, number in first.by_tracking_uid.items():
            other = second.by_tracking_uid.get(uid)
            if other is not None and first.voxels.get(number) != second.voxels.get(other):
                yield f"Segment {number} has other voxels in the label map."


def _between_statements(first: Statement, second: Statement) -> Iterator[str]:
    """Compare two statements on one thing."""
    if first.answers and second.answers and not set(first.answers) & set(second.answers):
        yield (
            "The reports name one thing differently:"
            f" {_meanings(first.answers)} and {_meanings(second.answers)}."
        )
    for concept in first.answers.keys() & second.answers.keys():
        if first.answers[concept] != second.answers[concept]:
            yield (
                f"The reports say of {_meanings([concept])} both"
                f" {first.answers[concept]} and {second.answers[concept]}."
            )
    for quantity in first.measured.keys() & second.measured.keys():
        fewer, more = sorted((first.measured[quantity], second.measured[quantity]), key=len)
        for value, unit in fewer:
            same_unit = [other for other, its_unit in more if its_unit == unit]
            if same_unit and not _is_one_of(value, same_unit):
                yield (
                    f"The reports give different values for {_meanings([quantity[0]])}:"
                    f" {value:.6g} and {same_unit[0]:.6g} {unit}."
                )


def _told_by(document: Document) -> _Told:
    return document.content.answers, _says(document, codes.SUCCEEDED_WITHOUT_FINDINGS)


def _between_documents(first: _Told, second: _Told) -> Iterator[str]:
    """Compare what two reports say of presence, also where they track nothing."""
    (answers, nothing_found), (others, other_found_nothing) = first, second
    for concept in answers.keys() & others.keys():
        if not (answers[concept] <= others[concept] or others[concept] <= answers[concept]):
            yield (
                f"Two reports contradict each other on {_meanings([concept])}:"
                f" {_list(answers[concept])} and {_list(others[concept])}."
            )
    for negative, other in ((nothing_found, others), (other_found_nothing, answers)):
        if negative and any(codes.PRESENT.meaning in said for said in other.values()):
            yield "One report says that nothing was found, another that something is present."


def _is_one_of(value: float, others: Iterable[float]) -> bool:
    return any(math.isclose(value, other, rel_tol=_VALUE_TOLERANCE) for other in others)


def _says(document: Document, summary: Code) -> bool:
    """Whether a report's summary of what the algorithm did is this one.

    A CAD report has no place for findings that are as they should be, so its own says less.
    """
    return document.dataset.SOPClassUID != ChestCADSRStorage and any(
        code_of(value) == summary
        for item in document.items
        if is_named(item, codes.PROCESSING_SUMMARY)
        for value in item.get("ConceptCodeSequence") or ()
    )


def _within(document: Document) -> str:
    return document.name[0].lower() + document.name[1:]


def _meanings(concepts: Iterable[Concept]) -> str:
    return _list({min(meanings(*one), default=one[0]) for one in concepts})


def _list(words: set[str]) -> str:
    return " and ".join(map(repr, sorted(words)))
