"""Good results as read back from disk, and what spoils them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydicom import Dataset, dcmread

from node.encode.write import write
from node.errors import GateClosed
from node.publish_gate import verify
from sr_templates import codes, items
from sr_templates.tree import is_named, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from node.encode.work import Encoded
    from pipelines.contract import Code

OTHER_UID = "2.25.99"


def read_back(encoded: Iterable[Encoded], folder: Path) -> dict[str, Dataset]:
    """Return role -> object, as the gate gets it."""
    objects: dict[str, Dataset] = {}
    for one in encoded:
        path = folder / f"{one.role}.dcm"
        write(one.dataset, path)
        objects[str(one.role)] = dcmread(path)
    return objects


def problems_of(
    objects: Iterable[Dataset], sources: Sequence[Dataset], superseded: Sequence[Dataset] = ()
) -> tuple[str, ...]:
    """Return what the gate says; it must be closed."""
    with pytest.raises(GateClosed) as closed:
        verify(list(objects), sources, superseded)
    return closed.value.problems


def first(node: Dataset, name: Code) -> Dataset:
    return next(item for item in walk(node) if is_named(item, name))


def groups(report: Dataset) -> list[Dataset]:
    return [item for item in walk(report) if is_named(item, codes.MEASUREMENT_GROUP)]


def parent_of(node: Dataset, child: Dataset) -> Dataset:
    for item in (node, *walk(node)):
        if any(child is one for one in item.get("ContentSequence") or ()):
            return item
    raise LookupError


def remove(report: Dataset, name: Code) -> None:
    for item in [item for item in walk(report) if is_named(item, name)]:
        siblings = parent_of(report, item).ContentSequence
        del siblings[next(n for n, one in enumerate(siblings) if one is item)]


def set_code(item: Dataset, **changes: str) -> None:
    for keyword, value in changes.items():
        setattr(item.ConceptNameCodeSequence[0], keyword, value)


def set_to(keyword, value):
    return lambda item: setattr(item, keyword, value)


def frames(seg: Dataset) -> Sequence[Dataset]:
    return seg.PerFrameFunctionalGroupsSequence


def shared(seg: Dataset, macro: str) -> Dataset:
    return seg.SharedFunctionalGroupsSequence[0][macro].value[0]


def coordinates(report: Dataset) -> list[Dataset]:
    return [item for item in walk(report) if item.get("ValueType") == "SCOORD"]


def in_3d() -> Dataset:
    region = Dataset()
    region.ValueType, region.RelationshipType = "SCOORD3D", "CONTAINS"
    region.ConceptNameCodeSequence = [items.concept(codes.SOURCE)]
    region.ReferencedFrameOfReferenceUID = OTHER_UID
    region.GraphicType, region.GraphicData = "POINT", [1.0, 2.0, 3.0]
    return region


def reference(report: Dataset, name: Code) -> Dataset:
    return first(report, name).ReferencedSOPSequence[0]


def say_in_words(report: Dataset) -> None:
    site = first(report, codes.FINDING_SITE)
    site.ValueType, site.TextValue = "TEXT", "Brain"
    del site.ConceptCodeSequence


def evidence_without(report: Dataset, uid: str) -> None:
    for study in report.CurrentRequestedProcedureEvidenceSequence:
        kept = []
        for series in study.ReferencedSeriesSequence:
            series.ReferencedSOPSequence = [
                one for one in series.ReferencedSOPSequence if one.ReferencedSOPInstanceUID != uid
            ]
            kept += [series] if series.ReferencedSOPSequence else []
        study.ReferencedSeriesSequence = kept
