"""What is wrong with a result before it is encoded: what it says against itself or its source."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

import numpy as np

from node.gate.voxels import ML_PER_UNIT
from pipelines.codes import VOLUME
from pipelines.contract import (
    Finding,
    Graphic,
    ParametricMap,
    Presence,
    Region,
    Result,
    Segment,
    Study,
    Waveform,
)
from sr_templates import ecg_report, echo_report, measurement_report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.load.source import Source

TEMPLATES = {
    "measurement_report": measurement_report.measurement_report,
    "ecg_report": ecg_report.ecg_report,
    "echo_report": echo_report.echo_report,
}
"""Name of a report, as a pipeline asks for it -> what writes it."""

_POINTS = {
    Graphic.POINT: range(1, 2),
    Graphic.POLYLINE: range(2, sys.maxsize),
    Graphic.CIRCLE: range(2, 3),
    Graphic.ELLIPSE: range(4, 5),
}
"""How many points each shape has (PS3.3 C.18.6.1.2)."""


def contradictions(source: Source, result: Result, report: str) -> Iterator[str]:
    """Yield what is wrong with a result, as sentences.

    Args:
        source: What was analysed.
        result: As the pipeline gave it.
        report: Name of the report that the pipeline asks for.
    """
    if report not in TEMPLATES:
        yield f"The pipeline asks for the report {report!r}, which does not exist."
    elif report == "ecg_report" and not isinstance(source.study, Waveform):
        yield "The pipeline asks for an ECG report, but the study is no waveform."
    elif report != "ecg_report" and isinstance(source.study, Waveform):
        yield "The pipeline asks for a report on images, but the study is a waveform."
    labels = [segment.label for segment in result.segments]
    if len(set(labels)) < len(labels):
        yield "Two segments have the same label."
    names = [one.label for one in result.maps]
    if len(set(names)) < len(names):
        yield "Two parametric maps have the same label."
    for one in result.maps:
        yield from _map_contradictions(source.study, one)
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


def _map_contradictions(study: Study, one: ParametricMap) -> Iterator[str]:
    if not 0 < len(one.label) <= 64 or "\\" in one.label:
        yield "A parametric map's label is empty, longer than 64 characters, or has \\ in it."
    if isinstance(study, Waveform):
        yield f"The parametric map {one.label!r} is of a waveform."
    elif one.values.shape != study.shape:
        yield f"The parametric map {one.label!r} has shape {one.values.shape}, not {study.shape}."
    elif not np.isfinite(one.values).all():
        yield f"The parametric map {one.label!r} has values that are not finite numbers."


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
    for region in finding.regions:
        yield from _wrong_region(study, region)


def _wrong_region(study: Study, region: Region) -> Iterator[str]:
    if isinstance(study, Waveform):
        yield "is drawn on a waveform"
        return
    images, rows, columns = study.shape
    if not 0 <= region.image < images:
        yield "is drawn on an image that the study does not have"
    if len(region.points) not in _POINTS[region.graphic]:
        yield f"has a {region.graphic.value} of {len(region.points)} points"
    if not all(0.0 <= x <= columns and 0.0 <= y <= rows for x, y in region.points):
        yield "is drawn outside of its image"


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
