"""A content tree as an SR document, with everything it rests on as evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from highdicom import sr
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import (
    ChestCADSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
)

from node.domain import Role
from node.encode import identity
from sr_templates.encoded import element, item, items_of, reference, sequence, set_items, uid_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from node.encode.work import Work
    from sr_templates.report import Report

_DOCUMENTS = {
    str(EnhancedSRStorage): sr.EnhancedSR,
    str(ComprehensiveSRStorage): sr.ComprehensiveSR,
    str(Comprehensive3DSRStorage): sr.Comprehensive3DSR,
    # highdicom has no class for it. Its modules are those of Comprehensive SR, with Enhanced
    # General Equipment, all of which every result object states (PS3.3 tables A.35.3-1, A.35.6-1).
    str(ChestCADSRStorage): sr.ComprehensiveSR,
}

_CONTENT = Tag("ContentSequence")


def encode_document(
    report: Report,
    instances: tuple[Dataset, ...],
    beside: tuple[Dataset, ...],
    work: Work,
    role: Role = Role.SR,
) -> Dataset:
    """Return the report as a document of its own series, unverified and preliminary.

    Args:
        report: What it says.
        instances: Headers of what was analysed; the first gives patient and study.
        beside: What else it rests on: other series that were analysed, and objects of the same
            job that the report refers to.
        work: The job.
        role: Which of the result's reports it is; its UIDs and its place follow from it.
    """
    # highdicom 0.28 cannot parse a tree with WAVEFORM items, so it is given the bare root.
    bare = Dataset()
    bare.update({item.tag: item for item in report.root if item.keyword != "ContentSequence"})
    bare.ContentSequence = []
    predecessor = work.predecessor_of(role)
    document: Dataset = _DOCUMENTS[report.sop_class_uid](
        evidence=[identity.blank_identity(instances[0])],
        content=bare,
        series_instance_uid=work.uid(f"{role}-series"),
        series_number=1,
        sop_instance_uid=work.uid(role),
        instance_number=1,
        manufacturer=identity.MANUFACTURER,
        is_complete=report.complete,
        is_final=False,
        is_verified=False,
        previous_versions=None if predecessor is None else [predecessor],
        specific_character_set="ISO_IR 192",
    )
    document.SOPClassUID = report.sop_class_uid
    identity.count_as_read(document)
    set_items(document, "ContentSequence", content_of(report))
    _set_evidence(document, (*instances, *beside))
    if not report.complete:
        document.CompletionFlagDescription = "The study was not analysed."
    identity.stamp(document, instances[0], work, role)
    return document


def _set_evidence(document: Dataset, instances: Iterable[Dataset]) -> None:
    """Name all that a document rests on, by study and series (PS3.3 table C.17-2, C.17-3)."""
    own = uid_in(document, "StudyInstanceUID")
    studies: dict[bytes, dict[bytes, dict[bytes, bytes]]] = {own: {}}
    named = set()
    for one in instances:
        uid = uid_in(one, "SOPInstanceUID")
        if uid in named:
            continue
        named.add(uid)
        series = studies.setdefault(uid_in(one, "StudyInstanceUID"), {})
        series.setdefault(uid_in(one, "SeriesInstanceUID"), {})[uid] = item(reference(one))
    encoded = {study: _study(study, series) for study, series in studies.items()}
    set_items(document, "CurrentRequestedProcedureEvidenceSequence", encoded.pop(own))
    if encoded:
        set_items(document, "PertinentOtherEvidenceSequence", b"".join(encoded.values()))


def _study(study_uid: bytes, series: Mapping[bytes, Mapping[bytes, bytes]]) -> bytes:
    return item(
        sequence(
            "ReferencedSeriesSequence",
            b"".join(
                item(
                    sequence("ReferencedSOPSequence", b"".join(references.values())),
                    element("SeriesInstanceUID", "UI", series_uid),
                )
                for series_uid, references in series.items()
            ),
        ),
        element("StudyInstanceUID", "UI", study_uid),
    )


def content_of(report: Report) -> bytes:
    """Return the content tree as the items of its sequence.

    The report holds it as these bytes from here on: several documents of one tree, which is most
    of the work, encode it once.
    """
    content: Any = report.root.get_item(_CONTENT)
    if isinstance(content, RawDataElement) and content.value is not None:
        return content.value
    encoded = items_of(content.value)
    set_items(report.root, "ContentSequence", encoded)
    return encoded
