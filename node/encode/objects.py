"""A result as the objects that go to the PACS: a segmentation if it outlines, and a report."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydicom.uid import SegmentationStorage

from node.encode.document import encode_document
from node.encode.segmentation import encode_segmentation
from node.encode.work import Encoded, Work
from node.errors import GateClosed
from node.segmentation_gate import ML_PER_UNIT
from pipelines.codes import VOLUME
from pipelines.contract import Finding, Presence, Result, Segment, Study, Volume, Waveform
from sr_templates import ecg_report, measurement_report
from sr_templates.could_not_look import could_not_look
from sr_templates.report import SegmentReference, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom import Dataset

    from node.load.source import Source

TEMPLATES = {
    "measurement_report": measurement_report.measurement_report,
    "ecg_report": ecg_report.ecg_report,
}


def encode(source: Source, result: Result, work: Work) -> tuple[Encoded, ...]:
    """Return the objects of a result, the segmentation before the report that refers to it.

    The same source, result and work give the same bytes. An empty segment is not stored; the
    report says so.

    Raises:
        GateClosed: The result contradicts itself or its source.
    """
    problems = tuple(_contradictions(source, result, work))
    if problems:
        raise GateClosed(problems)
    outlined = tuple(segment for segment in result.segments if segment.mask.any())
    made = [encode_segmentation(source, outlined, work)] if outlined else []
    segments = {
        segment.label: SegmentReference(SegmentationStorage, work.uid("seg"), number)
        for number, segment in enumerate(outlined, start=1)
    }
    subject = Subject(
        instances=source.instances,
        study=source.study,
        author=work.author,
        tracking_uid=lambda label: work.uid(f"tracking-{label}"),
        segments=segments,
    )
    report = TEMPLATES[work.report](subject, result)
    document = encode_document(report, source.instances, tuple(made), work)
    return (*(Encoded("seg", dataset) for dataset in made), Encoded("sr", document))


def encode_could_not_look(
    instances: tuple[Dataset, ...], reason: str, work: Work
) -> tuple[Encoded, ...]:
    """Return the report that says why the study was not judged.

    Args:
        instances: Headers of what was received, in any order; at least one.
        reason: A sentence for a radiologist, without anything of the patient.
        work: The job.
    """
    ordered = tuple(sorted(instances, key=lambda instance: str(instance.SOPInstanceUID)))
    report = could_not_look(work.author, reason, about_waveform=work.report == "ecg_report")
    return (Encoded("sr", encode_document(report, ordered, (), work)),)


def _contradictions(source: Source, result: Result, work: Work) -> Iterator[str]:
    if work.report not in TEMPLATES:
        yield f"The pipeline asks for the report {work.report!r}, which does not exist."
    if work.report == "ecg_report" and isinstance(source.study, Volume):
        yield "The pipeline asks for an ECG report, but the study is no waveform."
    labels = [segment.label for segment in result.segments]
    if len(set(labels)) < len(labels):
        yield "Two segments have the same label."
    for segment in result.segments:
        yield from _segment_contradictions(source.study, segment)
    outlined = {segment.label for segment in result.segments if segment.mask.any()}
    for finding in result.findings:
        name = finding.finding.meaning
        if finding.segment is not None and finding.segment not in labels:
            yield f"The finding {name!r} names a segment that the result does not have."
        wrong = (*_wrong(source.study, finding), *_wrong_outline(finding, outlined))
        yield from (f"The finding {name!r} {what}." for what in wrong)


def _segment_contradictions(study: Study, segment: Segment) -> Iterator[str]:
    label = segment.label
    if not 0 < len(label) <= 64 or "|" in label or "\\" in label:
        yield "A segment's label is empty, longer than 64 characters, or has | or \\ in it."
    if isinstance(study, Waveform):
        yield f"The segment {label!r} outlines a waveform."
    elif segment.mask.shape != study.shape:
        yield f"The mask of {label!r} has shape {segment.mask.shape}, not {study.shape}."


def _wrong(study: Study, finding: Finding) -> Iterator[str]:
    if finding.confidence is not None and not 0.0 <= finding.confidence <= 1.0:
        yield "has a confidence that is not within 0 and 1"
    if not all(math.isfinite(measurement.value) for measurement in finding.measurements):
        yield "has a measurement that is not a finite number"
    if finding.laterality is not None and finding.site is None:
        yield "has a side, but no site"
    channels = (
        {
            (group.number, channel)
            for group in study.groups
            for channel in range(1, len(group.channels) + 1)
        }
        if isinstance(study, Waveform)
        else set()
    )
    if not {(span.group, span.channel) for span in finding.spans} <= channels:
        yield "is in a channel that the study does not have"


def _wrong_outline(finding: Finding, outlined: set[str]) -> Iterator[str]:
    """Hold a finding against its mask; ``outlined`` are the labels of segments with a voxel."""
    if finding.presence is Presence.PRESENT and finding.segment not in (None, *outlined):
        yield "is present, but its segment is empty"
    if finding.presence is Presence.ABSENT and finding.segment in outlined:
        yield "is absent, but its segment is not empty"
    for measurement in finding.measurements:
        if (measurement.name.value, measurement.name.scheme) == (VOLUME.value, VOLUME.scheme):
            if measurement.unit not in ML_PER_UNIT:
                yield f"has a volume in {measurement.unit!r}, which is no unit of volume"
            if measurement.value < 0.0:
                yield "has a negative volume"
            if measurement.value > 0.0 and finding.segment not in outlined:
                yield "has a volume, but nothing is outlined"
