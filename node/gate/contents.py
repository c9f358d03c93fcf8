"""What an object refers to and which codes it carries, gathered in one pass.

Of thousands of frames most say the same in the same bytes: a sequence that is still as it was
read is parsed once, and its copies are passed over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue

from sr_templates.tree import code_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pydicom import Dataset
    from pydicom.tag import BaseTag

    from pipelines.contract import Code

_CODED_ELSEWHERE = frozenset(
    {
        "IssuerOfPatientIDQualifiersSequence",
        "IssuerOfAccessionNumberSequence",
        "DeidentificationMethodCodeSequence",
    }
)
"""Copied with the patient's identity: the codes in them are the hospital's own."""

_LISTS_OF_INSTANCES = (
    "ReferencedSOPSequence",
    "ReferencedInstanceSequence",
    "ReferencedImageSequence",
)


@dataclass(frozen=True)
class Reference:
    """To an instance, or to some of its frames (from 1; empty: to all of it)."""

    sop_class_uid: str
    sop_instance_uid: str
    frames: tuple[int, ...] = ()


@dataclass(frozen=True)
class Contents:
    """What was found in an object.

    Attributes:
        references: Distinct references, apart from those to predecessors.
        predecessors: Distinct references of Predecessor Documents Sequence.
        series: UIDs of the series that it refers to, apart from its predecessors'.
        codes: Distinct codes, apart from the hospital's own.
    """

    references: set[Reference] = field(default_factory=set)
    predecessors: set[Reference] = field(default_factory=set)
    series: set[str] = field(default_factory=set)
    codes: set[Code] = field(default_factory=set)


def contents_of(dataset: Dataset) -> Contents:
    """Gather what ``dataset`` refers to, and its codes."""
    contents = Contents()
    for part, keywords in _parts(dataset, (), set()):
        if "ReferencedSOPInstanceUID" in part:
            predecessor = "PredecessorDocumentsSequence" in keywords
            target = contents.predecessors if predecessor else contents.references
            target.add(_reference(part))
        elif keywords and any(keyword in part for keyword in _LISTS_OF_INSTANCES):
            own = part.get("SeriesInstanceUID")
            if own is not None and "PredecessorDocumentsSequence" not in keywords:
                contents.series.add(str(own))
        elif ("CodingSchemeDesignator" in part or "CodeMeaning" in part) and not (
            _CODED_ELSEWHERE & set(keywords)
        ):
            contents.codes.add(code_of(part))
    return contents


def once_read(element: Any) -> bytes | None:
    """Return the bytes of an element that nobody has parsed yet, to know it again by."""
    raw = isinstance(element, RawDataElement) and isinstance(element.value, bytes)
    return element.value if raw else None


def frame_numbers(part: Dataset) -> tuple[int, ...]:
    """Return Referenced Frame Number of a reference; empty where it has none."""
    value = part.get("ReferencedFrameNumber")
    if value in (None, ""):
        return ()
    values = value if isinstance(value, MultiValue | list) else [value]
    return tuple(int(one) for one in values)


def _reference(part: Dataset) -> Reference:
    return Reference(
        str(part.get("ReferencedSOPClassUID", "")),
        str(part.ReferencedSOPInstanceUID),
        frame_numbers(part),
    )


def _parts(
    dataset: Dataset, keywords: tuple[str, ...], seen: set[tuple[BaseTag, bytes]]
) -> Iterator[tuple[Dataset, tuple[str, ...]]]:
    """Yield the data set and every sequence item in it, with the sequences that lead to it."""
    yield dataset, keywords
    for tag in list(dataset.keys()):
        element = dataset.get_item(tag)
        if element.VR not in ("SQ", None):
            continue
        content = once_read(element)
        if content is not None:
            if (tag, content) in seen:
                continue
            seen.add((tag, content))
        element = dataset[tag]
        if element.VR == "SQ":
            for child in element.value or ():
                yield from _parts(child, (*keywords, element.keyword), seen)
