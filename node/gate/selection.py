"""Objects that only point at others: presentation states, key objects, rejection notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.gate.regions import graphic_problems
from node.gate.report import content_problems
from sr_templates.tree import name_of, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydicom import Dataset

_REJECTIONS = frozenset({"113001", "113037", "113038", "113039"})
"""Titles that make a PACS hide what a key object selection refers to (CID 7011)."""


def is_rejection_note(selection: Dataset) -> bool:
    """Say whether a key object selection makes a PACS hide what it refers to (IHE IOCM)."""
    title = name_of(selection)
    return title.scheme == "DCM" and title.value in _REJECTIONS


def selection_problems(selection: Dataset) -> Iterator[str]:
    """Yield what is wrong with a key object selection or rejection note, as predicates of it."""
    items = list(walk(selection))
    yield from content_problems(selection, items)
    if not any(item.get("ReferencedSOPSequence") for item in items):
        yield "refers to nothing"


def presentation_problems(state: Dataset, sources: Sequence[Dataset]) -> Iterator[str]:
    """Yield what is wrong with a presentation state, as predicates of it."""
    if not state.get("ReferencedSeriesSequence"):
        yield "does not name the images that it is for"
    yield from graphic_problems(state, sources)
