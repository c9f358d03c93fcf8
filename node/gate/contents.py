"""What an object refers to and which codes it carries, gathered in one pass.

Of thousands of frames most say the same in the same bytes: a sequence that is still as it was
read is parsed once, and its copies are passed over.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydicom import Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.tag import Tag

from node import part10
from sr_templates.tree import code_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from pydicom.tag import BaseTag

    from node.part10 import Encoding
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

_TELLING = frozenset(
    map(
        Tag,
        (
            *_LISTS_OF_INSTANCES,
            "ReferencedSOPInstanceUID",
            "CodingSchemeDesignator",
            "CodeMeaning",
        ),
    )
)
"""What makes a part of an object worth a look."""

_TELLING_BYTES = tuple(struct.pack("<HH", tag.group, tag.element) for tag in sorted(_TELLING))
"""A sequence in Little Endian without any of these bytes has no such part, however deep."""

_REFERENCED_CLASS = Tag("ReferencedSOPClassUID")
_REFERENCED_INSTANCE = Tag("ReferencedSOPInstanceUID")


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
    for part, keywords in _parts(elements_of(dataset), encoding_of(dataset), (), set()):
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
        _uid(part, _REFERENCED_CLASS), _uid(part, _REFERENCED_INSTANCE), frame_numbers(part)
    )


def _uid(part: Dataset, tag: BaseTag) -> str:
    """Return a UID, empty where there is none; a plain one is not worth a parser."""
    if tag not in part:
        return ""
    raw = once_read(part.get_item(tag))
    plain = None if raw is None else raw.rstrip(b"\0 ")
    if plain and not plain.translate(None, b"0123456789."):
        return plain.decode("ascii")
    return str(part[tag].value)


def _parts(
    elements: Mapping[BaseTag, Any],
    encoding: Encoding,
    keywords: tuple[str, ...],
    seen: set[tuple[BaseTag, bytes]],
) -> Iterator[tuple[Dataset, tuple[str, ...]]]:
    """Yield what refers to something or is a code, with the sequences that lead to it.

    Args:
        elements: Of a data set or an item, as they stand in it.
        encoding: Python's names of its character sets.
        keywords: Of the sequences that lead to it.
        seen: Sequences read before, by what they say; more are added.
    """
    if not _TELLING.isdisjoint(elements):
        yield _with(elements, encoding), keywords
    for tag, element in elements.items():
        if element.VR not in ("SQ", None):
            continue
        content = once_read(element)
        if content is not None:
            if (tag, content) in seen:
                continue
            seen.add((tag, content))
            if element.is_little_endian and not any(one in content for one in _TELLING_BYTES):
                continue
        for child in items_of(element, encoding):
            yield from _parts(child, encoding, (*keywords, keyword_for_tag(tag)), seen)


def items_of(element: Any, encoding: Encoding) -> Sequence[Mapping[BaseTag, Any]]:
    """Return the items of an element, if it is a sequence, as mappings of what is in them.

    Those of one that nobody has parsed yet are cut out of its bytes.
    """
    if isinstance(element, RawDataElement):
        plain = part10.items(element)
        if plain is not None:
            return plain
        element = _with({element.tag: element}, encoding)[element.tag]
    if element.VR != "SQ":
        return ()
    return [elements_of(item) for item in element.value or ()]


def elements_of(dataset: Dataset) -> dict[BaseTag, Any]:
    """Return the elements of a data set; those that nobody has parsed yet stay so."""
    return {tag: dataset.get_item(tag) for tag in list(dataset.keys())}


def encoding_of(dataset: Dataset) -> Encoding:
    """Return Python's names of the character sets of a data set."""
    return dataset.original_character_set or "iso8859"


def _with(elements: Mapping[BaseTag, Any], encoding: Encoding) -> Dataset:
    dataset = Dataset(dict(elements))
    dataset.set_original_encoding(
        is_implicit_vr=False, is_little_endian=True, character_encoding=encoding
    )
    return dataset
