"""What is wrong with a result before it is encoded: what it says against itself or its source."""

from __future__ import annotations

import math
import sys
import unicodedata
from typing import TYPE_CHECKING

import numpy as np

from node.gate.voxels import ML_PER_UNIT
from node.uids import is_uid
from pipelines.codes import VOLUME
from pipelines.contract import (
    Chart,
    Code,
    DerivedImages,
    Finding,
    Graphic,
    Measurement,
    ParametricMap,
    Presence,
    Region,
    Result,
    Segment,
    Study,
    Waveform,
    WaveformSpan,
)
from sr_templates import ecg_report, echo_report, measurement_report
from sr_templates.code_table import problem_with

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


_MOST_CHARTS = 4
"""More would leave no room for words in the picture."""


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
    yield from _repeated(result)
    yield from _chart_contradictions(result.charts)
    yield from _untellable(result)
    for one in result.maps:
        yield from _map_contradictions(source.study, one)
    for images in result.images:
        yield from _images_contradictions(source.study, images)
    for segment in result.segments:
        yield from _segment_contradictions(source.study, segment)
    labels = [segment.label for segment in result.segments]
    outlined = {segment.label for segment in result.segments if segment.mask.any()}
    for finding in result.findings:
        name = finding.finding.meaning
        if finding.segment is not None and finding.segment not in labels:
            yield f"The finding {name!r} names a segment that the result does not have."
        wrong = (*_wrong(source.study, finding), *_wrong_outline(finding, outlined))
        yield from (f"The finding {name!r} {what}." for what in wrong)


def _repeated(result: Result) -> Iterator[str]:
    for what, labels in (
        ("segments", [one.label for one in result.segments]),
        ("parametric maps", [one.label for one in result.maps]),
        ("series of derived images", [one.label for one in result.images]),
        ("charts", [one.title for one in result.charts]),
    ):
        if len(set(labels)) < len(labels):
            yield f"Two {what} have the same label."


def _untellable(result: Result) -> Iterator[str]:
    """Yield what of the words, codes and UIDs of a result no object can hold as it is."""
    if not all(note.strip() and _is_text(note, but="\r\n\t") for note in result.notes):
        yield "A note is empty or has a control character in it."
    if not all(map(_is_storable, _codes(result))):
        yield "A code has a control character or \\ in it, or a meaning of more than 64 characters."
    yield from filter(None, map(problem_with, dict.fromkeys(_codes(result))))
    tracked = [one.tracking_uid for one in result.segments if one.tracking_uid]
    if len(set(tracked)) < len(tracked):
        yield "Two segments are tracked by the same UID."
    if not all(map(is_uid, {*tracked, *(one.tracking_uid for one in result.findings)} - {""})):
        yield "A tracking UID is no UID."


def _codes(result: Result) -> Iterator[Code]:
    for finding in result.findings:
        own = (finding.finding, finding.category, finding.site, finding.laterality)
        yield from (code for code in own if code is not None)
        for one in finding.measurements:
            modifiers = (one.name, one.method, one.derivation)
            yield from (code for code in modifiers if code is not None)
    for segment in result.segments:
        yield from (segment.category, segment.property)
    yield from (one.quantity for one in result.maps)
    yield from (one.derivation for one in result.images)


def _is_storable(code: Code) -> bool:
    """Whether a code fits its elements (VR SH and LO, PS3.5 section 6.2)."""
    words = (code.value, code.scheme, code.meaning)
    return (
        len(code.meaning) <= 64
        and len(code.scheme) <= 16
        and not any("\\" in word for word in words)
        and all(map(_is_text, words))
    )


def _is_text(text: str, but: str = "") -> bool:
    """Whether a text has no control character, ``but`` these, and can be written in UTF-8."""
    return not any(unicodedata.category(one) in ("Cc", "Cs") and one not in but for one in text)


def _segment_contradictions(study: Study, segment: Segment) -> Iterator[str]:
    label = segment.label
    if not _is_label(label) or "|" in label:
        yield (
            "A segment's label is empty, longer than 64 characters, or has a control character,"
            " | or \\ in it."
        )
    if segment.mask.dtype != np.bool_:
        yield f"The mask of {label!r} is of type {segment.mask.dtype}, not bool."
    if isinstance(study, Waveform):
        yield f"The segment {label!r} outlines a waveform."
    elif segment.mask.shape != study.shape:
        yield f"The mask of {label!r} has shape {segment.mask.shape}, not {study.shape}."


def _is_label(label: str) -> bool:
    return bool(label.strip()) and len(label) <= 64 and "\\" not in label and _is_text(label)


def _map_contradictions(study: Study, one: ParametricMap) -> Iterator[str]:
    if not _is_label(one.label):
        yield (
            "A parametric map's label is empty, longer than 64 characters, or has a control"
            " character or \\ in it."
        )
    if isinstance(study, Waveform):
        yield f"The parametric map {one.label!r} is of a waveform."
    elif one.values.shape != study.shape:
        yield f"The parametric map {one.label!r} has shape {one.values.shape}, not {study.shape}."
    elif not np.isfinite(one.values).all():
        yield f"The parametric map {one.label!r} has values that are not finite numbers."


def _images_contradictions(study: Study, one: DerivedImages) -> Iterator[str]:
    if not _is_label(one.label) or "|" in one.label:
        yield (
            "A label of derived images is empty, longer than 64 characters, or has a control"
            " character, | or \\ in it."
        )
    if not one.description.strip() or not _is_text(one.description, but="\r\n\t"):
        yield f"The derived images {one.label!r} do not say how they were made."
    if isinstance(study, Waveform):
        yield f"The derived images {one.label!r} are of a waveform."
    elif one.values.shape != study.shape:
        yield f"The derived images {one.label!r} have shape {one.values.shape}, not {study.shape}."
    elif not all(np.isfinite(plane).all() for plane in one.values):
        yield f"The derived images {one.label!r} have values that are not finite numbers."


def _chart_contradictions(charts: tuple[Chart, ...]) -> Iterator[str]:
    if len(charts) > _MOST_CHARTS:
        yield f"The result has {len(charts)} charts; the picture holds {_MOST_CHARTS}."
    for chart in charts:
        said = [chart.x_title, chart.y_title, *(one.label for one in chart.curves)]
        said += [words for _, words in chart.marks]
        if not _is_label(chart.title):
            yield (
                "A chart's title is empty, longer than 64 characters, or has a control character"
                " or \\ in it."
            )
        if not all(words.strip() and _is_text(words) for words in said):
            yield f"The chart {chart.title!r} has an axis, a curve or a mark without a name."
        if not chart.curves:
            yield f"The chart {chart.title!r} has no curve."
        for curve in chart.curves:
            if curve.x.ndim != 1 or curve.x.shape != curve.y.shape or not curve.x.size:
                yield f"A curve of {chart.title!r} is empty, or not one row of x and as many of y."
            elif not np.isfinite(curve.x).all() or np.isinf(curve.y).any():
                yield f"A curve of {chart.title!r} has numbers that are none."
        if not all(math.isfinite(at) for at, _ in chart.marks):
            yield f"A mark of {chart.title!r} is nowhere."


def _wrong(study: Study, finding: Finding) -> Iterator[str]:
    if finding.confidence is not None and not 0.0 <= finding.confidence <= 1.0:
        yield "has a confidence that is not within 0 and 1"
    if not all(math.isfinite(measurement.value) for measurement in finding.measurements):
        yield "has a measurement that is not a finite number"
    if not all(map(_is_within_bounds, finding.measurements)):
        yield "has a measurement outside of its own interval"
    if finding.laterality is not None and finding.site is None:
        yield "has a side, but no site"
    yield from _wrong_spans(study, finding.spans)
    for region in finding.regions:
        yield from _wrong_region(study, region)


def _is_within_bounds(measurement: Measurement) -> bool:
    """Whether a measurement's interval, as far as it has one, is finite and holds its value."""
    low, high = (
        measurement.value if bound is None else bound
        for bound in (measurement.lowest, measurement.highest)
    )
    return -math.inf < low <= measurement.value <= high < math.inf


def _wrong_spans(study: Study, spans: tuple[WaveformSpan, ...]) -> Iterator[str]:
    groups = {group.number: group for group in study.groups} if isinstance(study, Waveform) else {}
    for span in spans:
        group = groups.get(span.group)
        if group is None or not 1 <= span.channel <= len(group.channels):
            yield "is in a channel that the study does not have"
        elif not (0.0 <= span.start_s <= span.end_s and math.isfinite(span.end_s)):
            yield "is in a span that does not end after it begins"
        elif span.start_s > group.duration_s:
            yield "is in a span that begins after the recording"


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
