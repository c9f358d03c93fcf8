"""The structured reports of a result, and which of them a viewer draws."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pydicom.uid import (
    ChestCADSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
)

from node.gate.statements import answers_of, statements_of, volumes_ml
from node.part10 import once_read, tag_of
from sr_templates import codes
from sr_templates.tree import is_named, walk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydicom import Dataset

    from node.gate.statements import Concept, Statement

REPORTS = (
    EnhancedSRStorage,
    ComprehensiveSRStorage,
    Comprehensive3DSRStorage,
    ChestCADSRStorage,
)


_CONTENT = tag_of("ContentSequence")


@dataclass(frozen=True)
class Content:
    """A content tree, walked once; ``root`` holds it."""

    root: Dataset

    @cached_property
    def items(self) -> list[Dataset]:
        """All content items, parents first."""
        return list(walk(self.root))

    @cached_property
    def groups(self) -> list[Dataset]:
        """Its measurement groups."""
        return [item for item in self.items if is_named(item, codes.MEASUREMENT_GROUP)]

    @cached_property
    def statements(self) -> list[Statement]:
        """What it says of each thing that is tracked."""
        return statements_of(self.items)

    @cached_property
    def answers(self) -> Mapping[Concept, set[str]]:
        """All that it says of presence."""
        return answers_of(self.items)

    @cached_property
    def volumes_ml(self) -> list[float]:
        """Every volume in it."""
        return volumes_ml(self.items)


@dataclass(frozen=True)
class Document:
    """A structured report.

    Attributes:
        dataset: As read.
        name: What a message calls it.
        is_drawn: A viewer takes it for graphics, and shows nothing of a group without.
        content: What it says; shared by reports that say it in the same bytes.
    """

    dataset: Dataset
    name: str
    is_drawn: bool
    content: Content

    @property
    def items(self) -> list[Dataset]:
        """All content items, parents first."""
        return self.content.items

    @property
    def groups(self) -> list[Dataset]:
        """Its measurement groups."""
        return self.content.groups


def documents_of(objects: Sequence[Dataset]) -> list[Document]:
    """Return the reports among the objects of a result.

    An Imaging Measurement Report is for machines as a Comprehensive 3D SR, or as a copy of that
    in a class that more of them know. Any other is for viewers, which draw all of its groups or
    none (OHIF 3.13).
    """
    reports = [one for one in objects if one.SOPClassUID in REPORTS]
    complete = [one for one in reports if one.SOPClassUID == Comprehensive3DSRStorage]
    documents: list[Document] = []
    for report in reports:
        imaging = is_named(report, codes.IMAGING_MEASUREMENT_REPORT)
        copied = any(
            report is one
            or _is_same_to_the_byte(report, one)
            or report.get("ContentSequence") == one.get("ContentSequence")
            for one in complete
        )
        drawn = imaging and not copied
        content = next(
            (one.content for one in documents if _is_same_to_the_byte(report, one.dataset)),
            Content(report),
        )
        name = _name(report, drawn=drawn, alone=len(reports) == 1)
        documents.append(Document(report, name, drawn, content))
    return documents


def _is_same_to_the_byte(report: Dataset, other: Dataset) -> bool:
    """Say whether two content trees that nobody has parsed yet are the same."""
    own, others = (
        (once_read(one.get_item(_CONTENT)), one.original_encoding, one.original_character_set)
        for one in (report, other)
    )
    return own[0] is not None and own == others


def _name(report: Dataset, *, drawn: bool, alone: bool) -> str:
    if drawn:
        return "The viewer report"
    if report.SOPClassUID == ChestCADSRStorage:
        return "The CAD report"
    if report.SOPClassUID == EnhancedSRStorage and not alone:
        return "The text report"
    return "The report"
