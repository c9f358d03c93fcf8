"""What an object refers to and which codes it carries, gathered in one pass.

Of thousands of frames most say the same in the same bytes: a sequence that is still as it was
read is parsed once, and its copies are passed over.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydicom.datadict import keyword_for_tag
from pydicom.multival import MultiValue

from node.gate.unparsed import elements_of, encoding_of, items_of, parsed
from node.part10 import once_read, tag_of, uid_of
from sr_templates.tree import code_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom import Dataset
    from pydicom.tag import BaseTag

    from node.gate.unparsed import Part
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

_LISTS_OF_INSTANCES = frozenset(
    map(
        tag_of,
        ("ReferencedSOPSequence", "ReferencedInstanceSequence", "ReferencedImageSequence"),
    )
)
_REFERENCED_CLASS = tag_of("ReferencedSOPClassUID")
_REFERENCED_INSTANCE = tag_of("ReferencedSOPInstanceUID")
_REFERENCED_FRAMES = tag_of("ReferencedFrameNumber")
_SERIES = tag_of("SeriesInstanceUID")
_CODE = frozenset(map(tag_of, ("CodingSchemeDesignator", "CodeMeaning")))

_TELLING = _LISTS_OF_INSTANCES | _CODE | {_REFERENCED_INSTANCE}
"""What makes a part of an object worth a look."""

_TELLING_BYTES = tuple(struct.pack("<HH", tag.group, tag.element) for tag in sorted(_TELLING))
"""A sequence in Little Endian without any of these bytes has no such part, however deep."""


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
    contents, encoding = Contents(), encoding_of(dataset)
    for part, keywords in _parts(elements_of(dataset), encoding, (), set()):
        predecessor = "PredecessorDocumentsSequence" in keywords
        if _REFERENCED_INSTANCE in part:
            target = contents.predecessors if predecessor else contents.references
            target.add(reference_of(part, encoding))
        elif keywords and not _LISTS_OF_INSTANCES.isdisjoint(part):
            if _SERIES in part and not predecessor:
                contents.series.add(uid_of(part[_SERIES]))
        elif not (_CODE.isdisjoint(part) or _CODED_ELSEWHERE & set(keywords)):
            contents.codes.add(code_of(parsed(part, encoding)))
    return contents


def reference_of(part: Part, encoding: Encoding) -> Reference:
    """Return what an item refers to."""
    return Reference(
        uid_of(part.get(_REFERENCED_CLASS)),
        uid_of(part.get(_REFERENCED_INSTANCE)),
        frame_numbers(parsed(part, encoding)) if _REFERENCED_FRAMES in part else (),
    )


def frame_numbers(part: Dataset) -> tuple[int, ...]:
    """Return Referenced Frame Number of a reference; empty where it has none."""
    value = part.get("ReferencedFrameNumber")
    if value in (None, ""):
        return ()
    values = value if isinstance(value, MultiValue | list) else [value]
    return tuple(int(one) for one in values)


def _parts(
    part: Part,
    encoding: Encoding,
    keywords: tuple[str, ...],
    seen: set[tuple[BaseTag, bytes]],
) -> Iterator[tuple[Part, tuple[str, ...]]]:
    """Yield what refers to something or is a code, with the sequences that lead to it.

    Args:
        part: A data set or an item.
        encoding: Python's names of its character sets.
        keywords: Of the sequences that lead to it.
        seen: Sequences read before, by what they say; more are added.
    """
    if not _TELLING.isdisjoint(part):
        yield part, keywords
    for tag, element in part.items():
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
