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
from node.encode.segmentation import LABEL_MAP_SEGMENTATION_STORAGE
from sr_templates import codes
from sr_templates.tree import children_named, code_of, is_named, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pydicom import Dataset

SEGMENTATIONS = (str(SegmentationStorage), str(LABEL_MAP_SEGMENTATION_STORAGE))
"""The first is preferred."""
REPORTS = tuple(map(str, (Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage)))


@dataclass(frozen=True)
class StoredResult:
    """What one job left of a study.

    Attributes:
        study_uid: Of the study.
        segmentation: None: it looked and found nothing.
        reports: In any order.
        sources: (series UID, SOP class UID, SOP Instance UID) of each image that was analysed.
    """

    study_uid: str
    segmentation: Path | None
    reports: tuple[Path, ...]
    sources: frozenset[tuple[str, str, str]]


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
    if by_class:
        segmentation = by_class[0][1]
        sources = frozenset(_referenced(made[segmentation]))
    elif any(map(_says_nothing_found, reports.values())):
        segmentation = None
        sources = frozenset(one for header in reports.values() for one in _evidence(header))
    else:
        return None
    study_uid = str(next(iter(made.values())).StudyInstanceUID)
    return StoredResult(study_uid, segmentation, tuple(reports), sources) if sources else None


def _says_nothing_found(report: Dataset) -> bool:
    """Whether a complete report has measurement groups, and a finding in none."""
    groups = [item for item in walk(report) if is_named(item, codes.MEASUREMENT_GROUP)]
    return (
        report.get("CompletionFlag") == "COMPLETE"
        and bool(groups)
        and not any(children_named(group, codes.FINDING) for group in groups)
    )


def _referenced(segmentation: Dataset) -> Iterator[tuple[str, str, str]]:
    for series in segmentation.get("ReferencedSeriesSequence") or ():
        for one in series.get("ReferencedInstanceSequence") or ():
            yield (
                str(series.SeriesInstanceUID),
                str(one.ReferencedSOPClassUID),
                str(one.ReferencedSOPInstanceUID),
            )


def _evidence(report: Dataset) -> Iterator[tuple[str, str, str]]:
    """Yield the images that a report rests on, not the objects made beside it."""
    for study in report.get("CurrentRequestedProcedureEvidenceSequence") or ():
        for series in study.get("ReferencedSeriesSequence") or ():
            for one in series.get("ReferencedSOPSequence") or ():
                if str(one.ReferencedSOPClassUID) not in (*SEGMENTATIONS, *REPORTS):
                    yield (
                        str(series.SeriesInstanceUID),
                        str(one.ReferencedSOPClassUID),
                        str(one.ReferencedSOPInstanceUID),
                    )
