"""One structured report: does it say what its readers need, in a form they can read?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydicom.uid import ChestCADSRStorage, Comprehensive3DSRStorage

from node.gate.belonging import device_uid
from node.gate.numbers import millilitres, value_of
from node.gate.regions import region_problems
from node.gate.unparsed import uids_at
from node.part10 import tag_of
from pipelines.codes import VOLUME
from sr_templates import codes
from sr_templates.report import NOT_FOR_DIAGNOSIS
from sr_templates.tree import children_named, is_named, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydicom import Dataset

    from node.gate.documents import Document

_CITED = (tag_of("ReferencedSOPSequence"), tag_of("ReferencedSOPInstanceUID"))
_EVIDENCE = tuple(
    (tag_of(keyword), tag_of("ReferencedSeriesSequence"), *_CITED)
    for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
)


def report_problems(document: Document, sources: Sequence[Dataset]) -> Iterator[str]:
    """Yield what is wrong with a report by itself, as predicates of it.

    Args:
        document: The report.
        sources: Headers of the instances analysed.
    """
    report = document.dataset
    if report.get("VerificationFlag") != "UNVERIFIED":
        yield "claims to be verified; nobody has read it"
    if report.get("CompletionFlag") not in ("COMPLETE", "PARTIAL"):
        yield "does not say whether it is complete"
    if not any(NOT_FOR_DIAGNOSIS in str(item.get("TextValue", "")) for item in document.items):
        yield "does not say that it is not for primary diagnosis"
    yield from _observer_problems(document)
    for item in document.items:
        yield from _item_problems(item)
        if item.get("ValueType") == "SCOORD3D" and report.SOPClassUID != Comprehensive3DSRStorage:
            yield "has spatial coordinates in 3D, which its SOP class does not allow"
    yield from region_problems(document.items, sources)
    yield from _group_problems(document)
    yield from content_problems(report, document.items)


def content_problems(document: Dataset, items: Sequence[Dataset]) -> Iterator[str]:
    """Yield what every document with a content tree must have and has not, as predicates of it."""
    if not document.get("ContentTemplateSequence"):
        yield "does not say which template it follows"
    evidence = {uid for path in _EVIDENCE for uid in uids_at(document, *path)}
    if not evidence:
        yield "lists no evidence"
    cited = {uid for item in items for uid in uids_at(item, *_CITED)}
    if cited - evidence:
        missing = len(cited - evidence)
        yield f"has evidence that lacks {missing} of the instances that its content cites"


def _observer_problems(document: Document) -> Iterator[str]:
    if document.dataset.SOPClassUID == ChestCADSRStorage:
        return  # TID 4100 has no row for an observer and is not extensible
    observers = [
        str(item.get("UID")) for item in document.items if is_named(item, codes.DEVICE_OBSERVER_UID)
    ]
    if not observers:
        yield "names no device as its observer"
    elif set(observers) != {device_uid(document.dataset)}:
        yield "has another device as its observer than its contributing equipment"


def _item_problems(item: Dataset) -> Iterator[str]:
    value_type = item.get("ValueType")
    if value_type != "CODE" and is_named(item, codes.FINDING_SITE):
        yield "gives a finding site in words, not as a code"
    if value_type != "NUM":
        return
    measured = item.get("MeasuredValueSequence") or ()
    if not measured and not item.get("NumericValueQualifierCodeSequence"):
        yield "has a measurement with neither a value nor a reason for none"
    for value in measured:
        if not math.isfinite(value_of(value)):
            yield "has a measurement that is not a finite number"
        if not value.get("MeasurementUnitsCodeSequence"):
            yield "has a measurement without a unit"
        if is_named(item, VOLUME):
            volume_ml = millilitres(value)
            if volume_ml is None:
                yield "has a volume that is in no unit of volume"
            elif volume_ml < 0.0:
                yield "has a negative volume"


def _group_problems(document: Document) -> Iterator[str]:
    groups = document.groups
    findings = [item for item in document.items if is_named(item, codes.ECG_FINDING)]
    for group in (*groups, *findings):
        for name in (codes.TRACKING_IDENTIFIER, codes.TRACKING_UID):
            tracked = children_named(group, name)
            if len(tracked) != 1 or not (tracked[0].get("UID") or tracked[0].get("TextValue")):
                yield f"has a group with no {name.meaning}: viewers refuse all of it"
    if is_named(document.dataset, codes.IMAGING_MEASUREMENT_REPORT) and not groups:
        yield "has no measurement group, not even one that says: nothing found"
    if document.is_drawn:
        yield from _drawing_problems(groups)


def _drawing_problems(groups: Sequence[Dataset]) -> Iterator[str]:
    drawn = [any(item.get("ValueType") == "SCOORD" for item in walk(group)) for group in groups]
    if not all(drawn):
        yield f"has {drawn.count(False)} groups without coordinates: viewers then show none of them"
    tracked = [
        str(child.get("UID"))
        for group in groups
        for child in children_named(group, codes.TRACKING_UID)
    ]
    if len(set(tracked)) < len(tracked):
        yield "has two groups of one tracking UID, which viewers take for one"
