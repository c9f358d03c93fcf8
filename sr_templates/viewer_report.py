"""TID 1500 for viewers: what the result found, drawn on its images, and nothing else.

A viewer that draws coordinates shows nothing at all of a report in which one group has none
(OHIF 3.13), and merges groups of one tracking UID. So every group here has coordinates on an
image and a tracking UID of its own; the complete report is another object.

- A finding with a segment: a planar group (TID 1410), the outline of its largest piece on the
  image where that is largest, with the finding's measurements. Shape features of IBSI and
  standard deviations are left to the complete report: beside a drawing they are clutter.
- If it is a lesion (category Morphologically Abnormal Structure) and pixels have a size: one group
  (TID 1501) instead, in which the area is inferred from the outline and the long and short axis
  each from its line. In groups of their own their labels would lie on top of each other.
- A finding with regions: a planar group for each, the first with the measurements.

Only what is present is drawn. Identifiers are plain, so that no viewer asks to edit.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
from highdicom import sr
from pydicom.uid import ComprehensiveSRStorage

from pipelines.codes import AREA, LONG_AXIS, MEAN, MORPHOLOGICALLY_ABNORMAL, SHORT_AXIS
from pipelines.contract import Finding, Graphic, Presence, Region, Result, Segment, Waveform
from pipelines.diameters import Diameters, diameters
from pipelines.outline import enclosed_area
from sr_templates import codes, context, items, places
from sr_templates.measurement_report import common, document, planar
from sr_templates.report import Report, Subject

_AXES = (LONG_AXIS, SHORT_AXIS)
_LESION = (MORPHOLOGICALLY_ABNORMAL.value, MORPHOLOGICALLY_ABNORMAL.scheme)


class Lesion(NamedTuple):
    """The outline and the axes of a lesion, drawn as one; no outline if it is on another image."""

    outline: Region | None
    axes: Diameters


def viewer_report(subject: Subject, result: Result) -> Report | None:
    """Return what is drawn of the result as a Comprehensive SR, None where nothing is.

    Args:
        subject: What the report is about.
        result: Its masks are on the images of the source.
    """
    if isinstance(subject.study, Waveform):
        return None
    segments = {one.label: one for one in result.segments if one.mask.any()}
    groups: list[Any] = []
    taken: set[str] = set()
    for number, finding in enumerate(places.spoken_findings(result), start=1):
        if finding.presence is not Presence.PRESENT:
            continue
        own = subject.tracking_uid_of(finding, number)
        drawings = _drawings(subject, finding, number, segments.get(finding.segment or ""))
        numbers = _beside(finding, [drawing for _, drawing in drawings])
        for name, drawing in drawings:
            uid = subject.tracking_uid(f"drawing-{len(groups) + 1}") if own in taken else own
            taken.add(uid)
            if isinstance(drawing, Lesion):
                content = common(subject, finding, [*_drawn(subject, drawing), *numbers], uid, name)
                groups.append(sr.MeasurementsAndQualitativeEvaluations(**content))
            else:
                content = common(subject, finding, numbers, uid, name)
                groups.append(planar(subject, drawing, **content))
            numbers = []
    return Report(ComprehensiveSRStorage, document(subject, result, groups)) if groups else None


def _drawings(
    subject: Subject, finding: Finding, number: int, segment: Segment | None
) -> list[tuple[str, Region | Lesion]]:
    """Return what is drawn of a finding, each with its name for the reader."""
    if segment is None:
        name = f"{finding.finding.meaning} {number}"
        alone = len(finding.regions) == 1
        return [
            (name if alone else f"{name}, drawing {place}", region)
            for place, region in enumerate(finding.regions, start=1)
        ]
    category = finding.category or segment.category
    spacing_mm = subject.study.spacing_mm  # type: ignore[union-attr]
    lesion = (category.value, category.scheme) == _LESION
    found = diameters(segment.mask, spacing_mm[-2:]) if lesion and spacing_mm else None
    outline = places.mark(segment.mask)
    if found is None:
        return [(segment.label, outline)]
    if found.image == outline.image:
        return [(segment.label, Lesion(outline, found))]
    return [(segment.label, outline), (f"{segment.label}, axes", Lesion(None, found))]


def _beside(finding: Finding, drawings: list[Region | Lesion]) -> list[Any]:
    """Return the measurements that a reader understands by their names, save those drawn."""
    drawn = _AXES if any(isinstance(one, Lesion) for one in drawings) else ()
    numbers = [
        context.measured(one)
        for one in finding.measurements
        if one.name not in drawn and one.name.scheme != "IBSI" and one.derivation in (None, MEAN)
    ]
    return [*numbers, *context.certainty(finding)]


def _drawn(subject: Subject, lesion: Lesion) -> list[Any]:
    """Return area and axes, each inferred from its line (TID 300 with TID 320)."""
    found, outline = lesion.axes, lesion.outline
    drawn = [
        (name, chord.length_mm, "mm", Region(found.image, Graphic.POLYLINE, chord[:2]))
        for name, chord in zip(_AXES, (found.long, found.short), strict=True)
    ]
    if outline is not None:
        pixel_mm2 = prod(subject.study.spacing_mm[-2:])  # type: ignore[union-attr,index]
        area_mm2 = enclosed_area(np.array(outline.points)) * pixel_mm2
        drawn.insert(0, (AREA, area_mm2, "mm2", outline))
    return [
        items.number(name, value, unit, children=[_line(subject, region)])
        for name, value, unit, region in drawn
    ]


def _line(subject: Subject, line: Region) -> Any:
    return places.shape_item(subject, line, codes.SOURCE, codes.SOURCE, items.INFERRED_FROM)
