"""TID 1500 Measurement Report: one measurement group for each finding about images.

A finding with an outline becomes a volumetric group (TID 1411) that refers to its segment; one
that is drawn on images a planar group (TID 1410) for each of its regions, with one tracking UID,
the first of them with its measurements; any other a group without geometry (TID 1501). This is
for machines: a viewer that draws coordinates shows nothing at all of a report that mixes these,
and has a report of its own (``viewer_report``).

Only what is there is called a Finding (121071, DCM). What was looked for and not found is said
as question and answer, "Hemorrhage = Absent", so that nobody who reads the Finding alone is
misled. In every group the finding's own concept says Present, Absent or Presence Undetermined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from highdicom import sr
from pydicom.uid import Comprehensive3DSRStorage

from pipelines.contract import Code, Finding, Presence, Region, Result
from sr_templates import codes, context, encoded, items
from sr_templates.code_table import meanings
from sr_templates.report import Report, Subject

if TYPE_CHECKING:
    from pydicom import Dataset

_CONTAINED_IMAGE = (
    encoded.element("RelationshipType", "CS", "CONTAINS")
    + encoded.element("ValueType", "CS", "IMAGE")
    + encoded.sequence("ConceptNameCodeSequence", encoded.concept(codes.SOURCE))
)
"""What every image of the library says besides which one it is (TID 1602)."""


def measurement_report(subject: Subject, result: Result) -> Report:
    """Return the result as a Comprehensive 3D SR, the document IHE AIR asks for."""
    groups = [
        group
        for number, finding in enumerate(_spoken_findings(subject, result), start=1)
        for group in _groups(subject, finding, number)
    ]
    return Report(
        Comprehensive3DSRStorage, document(subject, result, groups or [_nothing_found(subject)])
    )


def document(subject: Subject, result: Result, groups: list[Any]) -> Any:
    """Return TID 1500 with these measurement groups, the result in words behind them."""
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=context.observer(subject.author)
        ),
        procedure_reported=items.concept(_procedure(subject.instances[0])),
        imaging_measurements=groups,
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(
            items.concept(codes.ENGLISH)
        ),
    )
    content = report[0].ContentSequence
    content.insert(len(content) - 1, image_library((*subject.instances, *subject.beside)))
    # Last, because readers that follow the template's order stop at the first extra row.
    for sentence in [*context.summary(result), *context.provenance(subject.author)]:
        content.append(items.text(codes.COMMENT, sentence))
    return report[0]


def image_library(instances: tuple[Dataset, ...]) -> Any:
    """Return TID 1600: which images were analysed, in a group for each series."""
    series: dict[bytes, list[Dataset]] = {}
    for instance in instances:
        series.setdefault(encoded.uid_in(instance, "SeriesInstanceUID"), []).append(instance)
    groups = [_image_library_group(images) for images in series.values()]
    return items.container(codes.IMAGE_LIBRARY, groups, template="1600")


def _image_library_group(instances: list[Dataset]) -> Any:
    """Return TID 1601 for the images of a series, with what they have in common."""
    first = instances[0]
    common = [items.code(codes.MODALITY, _modality(first), items.HAS_ACQ_CONTEXT)]
    if "FrameOfReferenceUID" in first:
        common.append(
            items.uid(
                codes.FRAME_OF_REFERENCE_UID, first.FrameOfReferenceUID, items.HAS_ACQ_CONTEXT
            )
        )
    common += [
        items.number(name, int(first[keyword].value), "{pixels}", items.HAS_ACQ_CONTEXT)
        for name, keyword in (
            (codes.PIXEL_DATA_ROWS, "Rows"),
            (codes.PIXEL_DATA_COLUMNS, "Columns"),
        )
        if keyword in first
    ]
    group = items.container(codes.IMAGE_LIBRARY_GROUP, common)
    images = b"".join(
        encoded.item(
            encoded.sequence("ReferencedSOPSequence", encoded.item(encoded.reference(instance))),
            _CONTAINED_IMAGE,
        )
        for instance in instances
    )
    encoded.set_items(group, "ContentSequence", encoded.items_of(group.ContentSequence) + images)
    return group


def _spoken_findings(subject: Subject, result: Result) -> tuple[Finding, ...]:
    """Return the findings, and one for each stored segment that none of them mentions."""
    mentioned = {finding.segment for finding in result.findings}
    outlined = tuple(
        Finding(segment.property, category=segment.category, segment=segment.label)
        for segment in result.segments
        if segment.label in subject.segments and segment.label not in mentioned
    )
    return result.findings + outlined


def _groups(subject: Subject, finding: Finding, number: int) -> list[Any]:
    """Return the measurement groups of a finding: TID 1411, 1410 or 1501, by its geometry."""
    numbers = [*map(context.measured, finding.measurements), *context.certainty(finding)]
    uid = subject.tracking_uid_of(finding, number)
    reference = subject.segments.get(finding.segment or "")
    if reference is not None:
        return [
            sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
                # Built by hand: highdicom's from_segmentation raises on a SEG of one segment
                # (0.28.2).
                referenced_segment=sr.ReferencedSegment(
                    reference.sop_class_uid,
                    reference.sop_instance_uid,
                    reference.number,
                    source_series=_source_series(subject.instances[0]),
                ),
                **common(subject, finding, numbers, uid, finding.segment or ""),
            )
        ]
    identifier = f"{finding.finding.meaning} {number}"
    if finding.regions:
        return [
            planar(
                subject,
                region,
                **common(subject, finding, [] if place else numbers, uid, identifier),
            )
            for place, region in enumerate(finding.regions)
        ]
    return [
        sr.MeasurementsAndQualitativeEvaluations(
            **common(subject, finding, numbers, uid, identifier)
        )
    ]


def common(
    subject: Subject, finding: Finding, numbers: list[Any], uid: str, identifier: str
) -> dict[str, Any]:
    """Return what every kind of measurement group has, as highdicom takes it.

    Args:
        subject: What the report is about.
        finding: What the group is about.
        numbers: Its NUM items.
        uid: It is tracked by.
        identifier: Its name for people.
    """
    present = finding.presence is Presence.PRESENT
    return {
        "tracking_identifier": sr.TrackingIdentifier(uid=uid, identifier=identifier),
        "finding_category": None if finding.category is None else items.concept(finding.category),
        "finding_type": items.concept(finding.finding) if present else None,
        "finding_sites": sites(finding),
        "algorithm_id": context.algorithm(subject.author),
        # Not from highdicom's own constructor: its TID 310 gives the bounds no unit.
        "measurements": [sr.Measurement.from_sequence([item]) for item in numbers],
        "qualitative_evaluations": [
            sr.QualitativeEvaluation(
                items.concept(finding.finding),
                items.concept(context.PRESENCE_CODES[finding.presence]),
            )
        ],
    }


def planar(subject: Subject, region: Region, **content: Any) -> Any:
    """Return TID 1410: a group about a shape on one image.

    Args:
        subject: What the report is about.
        region: The shape.
        content: As of ``common``.
    """
    instance, frame = subject.image(region.image)
    source = sr.SourceImageForRegion(
        instance.SOPClassUID, instance.SOPInstanceUID, None if frame is None else [frame]
    )
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        referenced_region=sr.ImageRegion(
            region.graphic.value, np.array(region.points, np.float64), source
        ),
        **content,
    )


def _source_series(instance: Dataset) -> Any:
    series = sr.SourceSeriesForSegmentation(instance.SeriesInstanceUID)
    # highdicom spells the meaning otherwise than PS3.16.
    series.ConceptNameCodeSequence = [items.concept(codes.SOURCE_SERIES)]
    return series


def _nothing_found(subject: Subject) -> Any:
    """Return the group that says so in codes: analysed to the end, finding absent."""
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=subject.tracking_uid("finding-0"), identifier="No finding"
        ),
        algorithm_id=context.algorithm(subject.author),
        qualitative_evaluations=[
            sr.QualitativeEvaluation(
                items.concept(codes.PROCESSING_SUMMARY),
                items.concept(codes.SUCCEEDED_WITHOUT_FINDINGS),
            ),
            sr.QualitativeEvaluation(items.concept(codes.ANY_FINDING), items.concept(codes.ABSENT)),
        ],
    )


def sites(finding: Finding) -> list[Any] | None:
    """Return where a finding is, with its side, None where that is not known."""
    if finding.site is None:
        return None
    side = None if finding.laterality is None else items.concept(finding.laterality)
    return [sr.FindingSite(items.concept(finding.site), laterality=side)]


def _modality(instance: Dataset) -> Code:
    """Return the modality's code (CID 29), or Other."""
    value = str(instance.get("Modality", ""))
    for meaning in sorted(meanings(value, "DCM")):
        return Code(value, "DCM", meaning)
    return Code("OT", "DCM", "Other")


def _procedure(instance: Dataset) -> Code:
    """Return what was reported on: CID 100 knows a modality, seldom a body part."""
    return codes.PROCEDURES.get(str(instance.get("Modality", "")), codes.IMAGING_PROCEDURE)
