"""A content tree as an SR document, with everything it rests on as evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from highdicom import sr
from pydicom import Dataset
from pydicom.uid import (
    ChestCADSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
)

from node.domain import Role
from node.encode import identity

if TYPE_CHECKING:
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
        evidence=identity.evidence_of((*instances, *beside)),
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
    document.ContentSequence = report.root.ContentSequence
    if not report.complete:
        document.CompletionFlagDescription = "The study was not analysed."
    identity.stamp(document, instances[0], work, role)
    return document
