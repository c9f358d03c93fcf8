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

from sr_templates import codes
from sr_templates.tree import is_named, walk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom import Dataset

REPORTS = (
    EnhancedSRStorage,
    ComprehensiveSRStorage,
    Comprehensive3DSRStorage,
    ChestCADSRStorage,
)


@dataclass(frozen=True)
class Document:
    """A structured report, walked once.

    Attributes:
        dataset: As read.
        name: What a message calls it.
        is_drawn: A viewer takes it for graphics, and shows nothing of a group without.
    """

    dataset: Dataset
    name: str
    is_drawn: bool

    @cached_property
    def items(self) -> list[Dataset]:
        """All content items, parents first."""
        return list(walk(self.dataset))

    @cached_property
    def groups(self) -> list[Dataset]:
        """Its measurement groups."""
        return [item for item in self.items if is_named(item, codes.MEASUREMENT_GROUP)]


def documents_of(objects: Sequence[Dataset]) -> list[Document]:
    """Return the reports among the objects of a result.

    An Imaging Measurement Report is for machines as a Comprehensive 3D SR, or as a copy of that
    in a class that more of them know. Any other is for viewers, which draw all of its groups or
    none (OHIF 3.13).
    """
    reports = [one for one in objects if one.SOPClassUID in REPORTS]
    complete = [one for one in reports if one.SOPClassUID == Comprehensive3DSRStorage]
    documents = []
    for report in reports:
        imaging = is_named(report, codes.IMAGING_MEASUREMENT_REPORT)
        copied = any(
            report.get("ContentSequence") == one.get("ContentSequence") for one in complete
        )
        drawn = imaging and not copied
        documents.append(
            Document(report, _name(report, drawn=drawn, alone=len(reports) == 1), drawn)
        )
    return documents


def _name(report: Dataset, *, drawn: bool, alone: bool) -> str:
    if drawn:
        return "The viewer report"
    if report.SOPClassUID == ChestCADSRStorage:
        return "The CAD report"
    if report.SOPClassUID == EnhancedSRStorage and not alone:
        return "The text report"
    return "The report"
