"""Which of some files are results of ours, which belong together, and what they were made from.

A result is known by what it says of itself: its maker, its pipeline, the moment of its analysis,
which all objects of one job share, and the images that it refers to.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    SegmentationStorage,
)

from node.encode.identity import MANUFACTURER
from node.load.history import CLINICAL_DOCUMENT, STRUCTURED
from node.profiles import LABEL_MAP_SEGMENTATION_STORAGE
from pipelines.contract import Code
from sr_templates import codes
from sr_templates.tree import children_named, code_of, is_named, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pydicom import Dataset

    from node.priors.patient import Patient

SEGMENTATIONS = (str(SegmentationStorage), str(LABEL_MAP_SEGMENTATION_STORAGE))
"""The first is preferred."""
REPORTS = tuple(map(str, (Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage)))


_OBSERVER_TYPE = Code("121005", "DCM", "Observer Type")
_DEVICE = Code("121007", "DCM", "Device")


def not_looked_up(why: str) -> str:
    """Return the sentence that says so."""
    return f"Earlier results could not be looked up: {why}."


def not_compared(why: str, number: int = 1) -> str:
    """Return the sentence that says so of one or more results."""
    results = "One earlier result" if number == 1 else f"{number} earlier results"
    return f"{results} could not be compared: {why}."


DAMAGED = not_compared("it is damaged")
NOT_OUTLINED = not_compared("it does not outline what it found")
UNSAFE = not_compared(
    "it could not be matched safely, with no birth date and no issuer of the patient ID in common"
)


REPORT_UNSAFE = (
    "An earlier report was not read: it could not be matched safely, with no birth date and no "
    "issuer of the patient ID in common."
)


@dataclass(frozen=True)
class StoredResult:
    """What one job left of a study.

    Attributes:
        study_uid: Of the study.
        segmentation: None: it outlines nothing.
        reports: In any order.
        sources: (series UID, SOP class UID, SOP Instance UID) of each image that was analysed.
        is_comparable: False: something is there, or undecided, that it does not outline.
    """

    study_uid: str
    segmentation: Path | None
    reports: tuple[Path, ...]
    sources: frozenset[tuple[str, str, str]]
    is_comparable: bool = True


def is_ours(header: Dataset, pipeline: str) -> bool:
    """Whether an object is of a result of this pipeline, as its header says."""
    purposes = [
        code_of(purpose)
        for equipment in header.get("ContributingEquipmentSequence") or ()
        for purpose in equipment.get("PurposeOfReferenceCodeSequence") or ()
    ]
    return (
        header.get("Manufacturer") == MANUFACTURER
        and header.get("ManufacturerModelName") == pipeline[:64]
        and codes.PROCESSING_ALGORITHM in purposes
        and str(header.SOPClassUID) in (*SEGMENTATIONS, *REPORTS)
    )


def ours_of(
    patient: Patient, pipeline: str, objects: Mapping[Path, Dataset]
) -> tuple[dict[Path, Dataset], bool]:
    """Return what of some objects is ours and surely of a patient, and whether more may be.

    Args:
        patient: Whose results are looked for.
        pipeline: Of which.
        objects: File -> header.
    """
    may_be = {
        path: header
        for path, header in objects.items()
        if is_ours(header, pipeline) and not patient.differs_from(header)
    }
    surely = {path: header for path, header in may_be.items() if patient.is_of(header)}
    return surely, len(surely) < len(may_be)


def reports_of(
    patient: Patient, objects: Mapping[Path, Dataset]
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Return the reports on a patient's earlier studies that people wrote, and what kept back some.

    Args:
        patient: Whose reports are looked for.
        objects: File -> header.
    """
    may_be = {
        path: header
        for path, header in sorted(objects.items())
        if str(header.get("SOPClassUID")) in (*STRUCTURED, CLINICAL_DOCUMENT)
        and header.get("Manufacturer") != MANUFACTURER
        and not _is_by_a_device(header)
        and header.get("StudyInstanceUID") != patient.study_uid
        and not patient.differs_from(header)
        and patient.had_before(header)
    }
    surely = tuple(path for path, header in may_be.items() if patient.is_of(header))
    return surely, (REPORT_UNSAFE,) if len(surely) < len(may_be) else ()


def _is_by_a_device(report: Dataset) -> bool:
    """Whether a report says that a device observed what it tells (TID 1001, CID 270)."""
    return any(
        code_of(answer) == _DEVICE
        for item in children_named(report, _OBSERVER_TYPE)
        for answer in item.get("ConceptCodeSequence") or ()
    )


def latest_result(objects: Mapping[Path, Dataset]) -> StoredResult | None:
    """Return the last job of a study that judged it.

    A result that could not look judges nothing, so the one before it stands.

    Args:
        objects: File -> header of each object of the study that ``is_ours``.
    """
    jobs: defaultdict[tuple[str, str], dict[Path, Dataset]] = defaultdict(dict)
    for path, header in objects.items():
        moment = (str(header.get("ContentDate", "")), str(header.get("ContentTime", "")))
        jobs[moment][path] = header
    for _, made in sorted(jobs.items(), reverse=True):
        result = _result_of(made)
        if result is not None:
            return result
    return None


def _result_of(made: Mapping[Path, Dataset]) -> StoredResult | None:
    by_class = sorted(
        (SEGMENTATIONS.index(str(header.SOPClassUID)), path)
        for path, header in made.items()
        if str(header.SOPClassUID) in SEGMENTATIONS
    )
    reports = {p: header for p, header in made.items() if str(header.SOPClassUID) in REPORTS}
    groups = [
        item
        for report in reports.values()
        if report.get("CompletionFlag") == "COMPLETE"
        for item in walk(report)
        if is_named(item, codes.MEASUREMENT_GROUP)
    ]
    is_comparable = True
    if by_class:
        segmentation = by_class[0][1]
        sources = frozenset(_referenced(made[segmentation]))
    elif groups:
        segmentation = None
        sources = frozenset(one for header in reports.values() for one in _evidence(header))
        is_comparable = not any(map(_says_more_than_absent, groups))
    else:
        return None
    study_uid = str(next(iter(made.values())).StudyInstanceUID)
    if not sources:
        return None
    return StoredResult(study_uid, segmentation, tuple(reports), sources, is_comparable)


def _says_more_than_absent(group: Dataset) -> bool:
    """Whether a measurement group is about what is there, or may be."""
    answers = (
        code_of(item.ConceptCodeSequence[0])
        for item in group.ContentSequence
        if item.get("ValueType") == "CODE"
    )
    return bool(children_named(group, codes.FINDING)) or codes.PRESENCE_UNDETERMINED in answers


def _referenced(segmentation: Dataset) -> Iterator[tuple[str, str, str]]:
    for series in segmentation.get("ReferencedSeriesSequence") or ():
        for one in series.get("ReferencedInstanceSequence") or ():
            yield (
                str(series.SeriesInstanceUID),
                str(one.ReferencedSOPClassUID),
                str(one.ReferencedSOPInstanceUID),
            )


def _evidence(report: Dataset) -> Iterator[tuple[str, str, str]]:
    """Yield the images that a report is about, not the objects made beside it.

    Of several series those of the first, on which the result lies.
    """
    for study in report.get("CurrentRequestedProcedureEvidenceSequence") or ():
        for series in study.get("ReferencedSeriesSequence") or ():
            images = [
                (
                    str(series.SeriesInstanceUID),
                    str(one.ReferencedSOPClassUID),
                    str(one.ReferencedSOPInstanceUID),
                )
                for one in series.get("ReferencedSOPSequence") or ()
                if str(one.ReferencedSOPClassUID) not in (*SEGMENTATIONS, *REPORTS)
            ]
            if images:
                yield from images
                return
