"""Between a result and the PACS: does it belong to this patient, and does it say what it shows?

The validators of the field look at one object at a time and pass a segmentation of another
patient, with another frame of reference, or a report on a segment that does not exist. What
they miss is checked here, on the files as they were read back from disk.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    SegmentationStorage,
)

from node.errors import GateClosed
from node.segmentation_gate import ML_PER_UNIT, segment_volumes_ml, segmentation_problems
from pipelines.codes import VOLUME
from sr_templates import codes
from sr_templates.code_table import problem_with
from sr_templates.report import NOT_FOR_DIAGNOSIS
from sr_templates.tree import children_named, code_of, is_named, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydicom import Dataset

_REPORTS = (EnhancedSRStorage, ComprehensiveSRStorage, Comprehensive3DSRStorage)

_IDENTITY = {
    "PatientID": "patient ID",
    "PatientName": "patient name",
    "PatientBirthDate": "birth date",
    "PatientSex": "sex",
    "IssuerOfPatientID": "issuer of the patient ID",
    "StudyInstanceUID": "study",
    "AccessionNumber": "accession number",
}

_CODED_ELSEWHERE = (
    "IssuerOfPatientIDQualifiersSequence",
    "IssuerOfAccessionNumberSequence",
    "DeidentificationMethodCodeSequence",
)
"""Copied with the patient's identity: the codes in them are the hospital's own."""

_VOLUME_TOLERANCE = 1e-6
"""Relative: a decimal string of 16 characters holds at least ten digits of the spacing."""


def verify(objects: Sequence[Dataset], sources: Sequence[Dataset]) -> None:
    """Hold the objects of one result against the instances they were made from.

    Args:
        objects: As read back from disk; segmentations and reports.
        sources: Headers of the instances that were analysed.

    Raises:
        GateClosed: With every problem found, each a sentence without patient data.
    """
    problems = tuple(dict.fromkeys(_problems(objects, sources)))
    if problems:
        raise GateClosed(problems)


def _problems(objects: Sequence[Dataset], sources: Sequence[Dataset]) -> Iterator[str]:
    if not objects or not sources:
        yield "There is no result object or no source instance to compare."
        return
    yield from _uid_problems(objects, sources)
    segmentations = [item for item in objects if item.SOPClassUID == SegmentationStorage]
    reports = [item for item in objects if item.SOPClassUID in _REPORTS]
    if len(segmentations) + len(reports) < len(objects):
        yield "An object is neither a binary segmentation nor a report this node writes."
    if not reports:
        yield "The result has no report."
    for item in objects:
        name = _name(item)
        yield from (f"{name} {problem}" for problem in _identity_problems(item, sources))
        yield from (f"{name} {problem}" for problem in _reference_problems(item, objects, sources))
        yield from (f"{name} {problem}" for problem in _author_problems(item))
        yield from (f"{name}: {problem}" for problem in _code_problems(item))
    if len(set(map(_device_uid, objects))) > 1:
        yield "The objects name different algorithms as their maker (Device UID)."
    for segmentation in segmentations:
        yield from segmentation_problems(segmentation, sources)
    for report in reports:
        yield from _report_problems(report)
        yield from _evidence_problems(report)
        yield from _segment_problems(report, segmentations)


def _name(item: Dataset) -> str:
    return "The segmentation" if item.SOPClassUID == SegmentationStorage else "The report"


def _uid_problems(objects: Sequence[Dataset], sources: Sequence[Dataset]) -> Iterator[str]:
    for keyword, what in (("SOPInstanceUID", "instance"), ("SeriesInstanceUID", "series")):
        own = [str(item[keyword].value) for item in objects]
        if len(set(own)) < len(own):
            yield f"Two objects of the result have the same {what} UID."
        if set(own) & {str(source[keyword].value) for source in sources}:
            yield f"An object of the result has the {what} UID of its source."


def _identity_problems(item: Dataset, sources: Sequence[Dataset]) -> Iterator[str]:
    for keyword, what in _IDENTITY.items():
        theirs = {_text(source, keyword) for source in sources}
        if len(theirs) > 1:
            yield f"was made from instances that differ in {what}."
        elif _text(item, keyword) not in theirs:
            yield f"has another {what} than its source."


def _text(item: Dataset, keyword: str) -> str:
    value = item.get(keyword)
    return "" if value is None else str(value).strip().rstrip("^=")


def _reference_problems(
    item: Dataset, objects: Sequence[Dataset], sources: Sequence[Dataset]
) -> Iterator[str]:
    known = {str(other.SOPInstanceUID): str(other.SOPClassUID) for other in (*sources, *objects)}
    series = {str(other.SeriesInstanceUID) for other in (*sources, *objects)}
    unknown = wrong_class = unknown_series = 0
    for part in _parts(item, "PredecessorDocumentsSequence"):
        if "ReferencedSOPInstanceUID" in part:
            sop_class = known.get(str(part.ReferencedSOPInstanceUID))
            unknown += sop_class is None
            wrong_class += sop_class not in (None, str(part.get("ReferencedSOPClassUID")))
        if "ReferencedSOPSequence" in part or "ReferencedInstanceSequence" in part:
            own = part.get("SeriesInstanceUID")
            unknown_series += own is not None and part is not item and str(own) not in series
    if unknown:
        yield f"refers {unknown} times to an instance that is neither source nor result."
    if wrong_class:
        yield f"refers {wrong_class} times to an instance by the wrong SOP class."
    if unknown_series:
        yield "refers to a series that is neither source nor result."


def _parts(item: Dataset, *but: str) -> Iterator[Dataset]:
    """Yield the data set and every sequence item in it, save those under the keywords ``but``."""
    yield item
    for element in item:
        if element.VR == "SQ" and element.keyword not in but:
            for child in element.value or ():
                yield from _parts(child, *but)


def _author_problems(item: Dataset) -> Iterator[str]:
    makers = [
        equipment
        for equipment in item.get("ContributingEquipmentSequence") or ()
        if codes.PROCESSING_ALGORITHM
        in map(code_of, equipment.get("PurposeOfReferenceCodeSequence") or ())
    ]
    if not makers:
        yield "does not name its algorithm among the contributing equipment."
    for maker in makers:
        for keyword in ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceUID"):
            if not maker.get(keyword):
                yield f"names its algorithm without {keyword}."


def _device_uid(item: Dataset) -> str:
    equipment = item.get("ContributingEquipmentSequence") or ()
    return " ".join(str(maker.get("DeviceUID", "")) for maker in equipment)


def _code_problems(item: Dataset) -> Iterator[str]:
    for part in _parts(item, *_CODED_ELSEWHERE):
        if "CodingSchemeDesignator" in part or "CodeMeaning" in part:
            problem = problem_with(code_of(part))
            if problem:
                yield problem


def _report_problems(report: Dataset) -> Iterator[str]:
    items = list(walk(report))
    if report.get("VerificationFlag") != "UNVERIFIED":
        yield "The report claims to be verified; nobody has read it."
    if report.get("CompletionFlag") not in ("COMPLETE", "PARTIAL"):
        yield "The report does not say whether it is complete."
    if not report.get("ContentTemplateSequence"):
        yield "The report does not say which template it follows."
    if not any(NOT_FOR_DIAGNOSIS in str(item.get("TextValue", "")) for item in items):
        yield "The report does not say that it is not for primary diagnosis."
    observers = [item.get("UID") for item in items if is_named(item, codes.DEVICE_OBSERVER_UID)]
    if not observers:
        yield "The report names no device as its observer."
    elif set(map(str, observers)) != {_device_uid(report)}:
        yield "The report's observer is another device than its contributing equipment."
    for item in items:
        yield from _item_problems(item, report)
    yield from _group_problems(report, items)


def _item_problems(item: Dataset, report: Dataset) -> Iterator[str]:
    value_type = item.get("ValueType")
    if is_named(item, codes.FINDING_SITE) and value_type != "CODE":
        yield "The report gives a finding site in words, not as a code."
    if value_type == "NUM":
        measured = item.get("MeasuredValueSequence") or ()
        if not measured and not item.get("NumericValueQualifierCodeSequence"):
            yield "The report has a measurement with neither a value nor a reason for none."
        for value in measured:
            if not math.isfinite(_number(value)):
                yield "The report has a measurement that is not a finite number."
            if not value.get("MeasurementUnitsCodeSequence"):
                yield "The report has a measurement without a unit."
            if is_named(item, VOLUME):
                yield from _volume_problems(value)
    if value_type == "SCOORD" and len(item.get("GraphicData") or [0]) % 2:
        yield "The report has a region with an odd number of coordinates."
    if value_type == "SCOORD3D" and report.SOPClassUID != Comprehensive3DSRStorage:
        yield "The report has spatial coordinates in 3D, which its SOP class does not allow."


def _volume_problems(measured: Dataset) -> Iterator[str]:
    volume_ml = _millilitres(measured)
    if volume_ml is None:
        yield "The report has a volume that is in no unit of volume."
    elif volume_ml < 0.0:
        yield "The report has a negative volume."


def _millilitres(measured: Dataset) -> float | None:
    """Return a measured value in millilitres, None where it is in no unit of volume."""
    units = measured.get("MeasurementUnitsCodeSequence") or ()
    factor = ML_PER_UNIT.get(code_of(units[0]).value) if units else None
    return None if factor is None else _number(measured) * factor


def _number(measured: Dataset) -> float:
    """Return a measured value as it is, NaN where it has none. Zero is a value."""
    value = measured.get("NumericValue")
    return math.nan if value in (None, "") else float(value)


def _volumes_ml(group: Dataset) -> list[float]:
    stated = [
        _millilitres(measured)
        for item in children_named(group, VOLUME)
        for measured in item.get("MeasuredValueSequence") or ()
    ]
    return [volume_ml for volume_ml in stated if volume_ml is not None]


def _group_problems(report: Dataset, items: list[Dataset]) -> Iterator[str]:
    groups = [item for item in items if is_named(item, codes.MEASUREMENT_GROUP)]
    findings = [item for item in items if is_named(item, codes.ECG_FINDING)]
    for group in (*groups, *findings):
        for name in (codes.TRACKING_IDENTIFIER, codes.TRACKING_UID):
            tracked = children_named(group, name)
            if len(tracked) != 1 or not (tracked[0].get("UID") or tracked[0].get("TextValue")):
                yield f"A group of the report has no {name.meaning}: viewers refuse all of it."
    if is_named(report, codes.IMAGING_MEASUREMENT_REPORT) and not groups:
        yield "The report has no measurement group, not even one that says: nothing found."
    for group in groups:
        if any(_volumes_ml(group)) and not children_named(group, codes.REFERENCED_SEGMENT):
            yield "The report gives a volume of what no segment outlines."
    drawn = {any(item.get("ValueType") == "SCOORD" for item in walk(group)) for group in groups}
    if len(drawn) > 1:
        yield "The report mixes groups with and without coordinates: viewers show none of them."


def _evidence_problems(report: Dataset) -> Iterator[str]:
    evidence = {
        str(instance.ReferencedSOPInstanceUID)
        for keyword in (
            "CurrentRequestedProcedureEvidenceSequence",
            "PertinentOtherEvidenceSequence",
        )
        for study in report.get(keyword) or ()
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    if not evidence:
        yield "The report lists no evidence."
    cited = {
        str(reference.ReferencedSOPInstanceUID)
        for item in walk(report)
        for reference in item.get("ReferencedSOPSequence") or ()
    }
    if cited - evidence:
        missing = len(cited - evidence)
        yield f"The report's evidence lacks {missing} of the instances that its content cites."


def _segment_problems(report: Dataset, segmentations: Sequence[Dataset]) -> Iterator[str]:
    """Hold each group that refers to a segment against that segment."""
    stored = {str(item.SOPInstanceUID): item for item in segmentations}
    spoken_of: Counter[tuple[str, int]] = Counter()
    for group in walk(report):
        for item in children_named(group, codes.REFERENCED_SEGMENT):
            reference = item.ReferencedSOPSequence[0]
            segmentation = stored.get(str(reference.ReferencedSOPInstanceUID))
            if segmentation is None:
                yield "The report refers to a segment of an object that is no segmentation."
                continue
            number = int(reference.get("ReferencedSegmentNumber", 0))
            segment = next(
                (one for one in segmentation.SegmentSequence if one.SegmentNumber == number), None
            )
            if segment is None:
                yield f"The report refers to segment {number}, which does not exist."
                continue
            spoken_of[str(segmentation.SOPInstanceUID), number] += 1
            tracked = {str(uid.get("UID")) for uid in children_named(group, codes.TRACKING_UID)}
            if tracked != {str(segment.get("TrackingUID"))}:
                yield f"Segment {number} is tracked by another UID than its group in the report."
            yield from _voxel_problems(group, segmentation, number)
    for uid, segmentation in stored.items():
        for segment in segmentation.SegmentSequence:
            if not spoken_of[uid, int(segment.SegmentNumber)]:
                yield f"The report does not speak of segment {segment.SegmentNumber}."


def _voxel_problems(group: Dataset, segmentation: Dataset, number: int) -> Iterator[str]:
    """Hold what a group says of its segment against the voxels counted in it."""
    if any(code_of(answer) == codes.ABSENT for answer in _answers(group)):
        yield f"The report calls segment {number} absent, though it is stored."
    counted_ml = segment_volumes_ml(segmentation).get(number)
    if counted_ml is None:
        yield f"The volume of segment {number} cannot be counted."
        return
    if not counted_ml:
        yield f"Segment {number} is empty, though the report refers to it."
    for said_ml in _volumes_ml(group):
        if not math.isclose(said_ml, counted_ml, rel_tol=_VOLUME_TOLERANCE):
            yield (
                f"The report says {said_ml:.6g} mL for segment {number};"
                f" its voxels make {counted_ml:.6g} mL."
            )


def _answers(group: Dataset) -> Iterator[Dataset]:
    for child in group.get("ContentSequence") or ():
        yield from child.get("ConceptCodeSequence") or ()
