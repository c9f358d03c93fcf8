"""TID 4100 Chest CAD Document Root: marks on chest images, for sites that ask for CAD SR.

Each finding becomes a Single Image Finding (TID 4104) on every image it is drawn on, or on the
image that shows its segment best, with a centre and an outline (TID 4107). The templates are
not extensible, so nothing else is added:

- A concept of CID 6102 modifies its class, so that a nodule is an abnormal opacity. A concept
  outside it becomes a Selected Region, whose description names it.
- A finding without a place still needs one here. It is a Selected Region that encloses the whole
  middle image, marked Not for Presentation: told, but never drawn.
- Of a measurement, method and statistic are told, but no interval.
- What was looked for and not found is among the detections performed, and has no mark.
- The warning and the training data are algorithm parameters (TID 4019), for want of other rows.

There is no image library: rows refer to images by value, as TID 4107 and 4017 allow.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydicom.uid import ChestCADSRStorage

from pipelines.contract import Code, Finding, Graphic, Presence, Region, Result, Waveform
from sr_templates import codes, context, items, places
from sr_templates.code_table import is_in_context_group
from sr_templates.report import Report, Subject

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CLASSES = 6101
_MODIFIERS_OF = (
    (6104, Code("112033", "DCM", "Abnormal opacity")),
    (6103, Code("112061", "DCM", "Abnormal lines (1D)")),
    (6105, Code("112062", "DCM", "Abnormal lucency")),
    (6106, Code("112064", "DCM", "Abnormal texture")),
    (6109, Code("112005", "DCM", "Radiographic anatomy")),
    (6138, Code("111102", "DCM", "Non-lesion")),
)
"""Context groups of CID 6102, and the class in CID 6101 that each modifies."""
_LOCATIONS = 6124

_INTENT = {
    Presence.PRESENT: codes.PRESENTATION_REQUIRED,
    Presence.INDETERMINATE: codes.PRESENTATION_OPTIONAL,
}


def chest_cad_report(subject: Subject, result: Result) -> Report:
    """Return the result as a Chest CAD SR.

    Raises:
        TypeError: The study is a waveform.
    """
    if isinstance(subject.study, Waveform):
        raise TypeError("A chest CAD report is about images; got a waveform.")
    findings = places.spoken_findings(result)
    marks = list(_marks(subject, result, findings))
    said = codes.SUCCEEDED_WITH_FINDINGS if marks else codes.SUCCEEDED_WITHOUT_FINDINGS
    detections = items.container(
        codes.SUCCESSFUL_DETECTIONS, _detections(subject, findings), items.INFERRED_FROM
    )
    children = [
        *context.language(),
        items.code(codes.PROCESSING_SUMMARY, said, children=marks),
        items.code(codes.SUMMARY_OF_DETECTIONS, codes.SUCCEEDED, children=[detections]),
        items.code(codes.SUMMARY_OF_ANALYSES, codes.NOT_ATTEMPTED),
    ]
    return Report(ChestCADSRStorage, items.root(codes.CHEST_CAD_REPORT, children, "4100"))


def _marks(subject: Subject, result: Result, findings: Iterable[Finding]) -> Iterator[Any]:
    """Yield a Single Image Finding for each place of each finding that is, or may be, there."""
    masks = places.masks_of(result)
    for number, finding in enumerate(findings, start=1):
        if finding.presence is Presence.ABSENT or finding.normal:
            continue
        mask = masks.get(finding.segment or "")
        outlined = () if mask is None else (places.mark(mask),)
        for region in (*outlined, *finding.regions):
            yield _mark(subject, finding, number, region)
        if mask is None and not finding.regions:
            yield _mark(subject, finding, number, None)


def _mark(subject: Subject, finding: Finding, number: int, region: Region | None) -> Any:
    """Return TID 4104 at ``region``, or hidden where the finding has no place."""
    kind, modifier = (codes.SELECTED_REGION, None) if region is None else _class(finding.finding)
    intent = codes.NOT_FOR_PRESENTATION if region is None else _INTENT[finding.presence]
    children = [] if modifier is None else [_modifier(modifier)]
    children += [
        items.code(codes.RENDERING_INTENT, intent, items.HAS_CONCEPT_MOD),
        items.text(codes.TRACKING_IDENTIFIER, _label(finding, number), items.HAS_OBS_CONTEXT),
        items.uid(
            codes.TRACKING_UID, subject.tracking_uid_of(finding, number), items.HAS_OBS_CONTEXT
        ),
        *_algorithm(subject, items.HAS_OBS_CONTEXT),
    ]
    if finding.confidence is not None:
        percent = round(100.0 * finding.confidence, 2)
        children.append(
            items.number(codes.CERTAINTY_OF_FINDING, percent, "%", items.HAS_PROPERTIES)
        )
    if kind == codes.SELECTED_REGION:
        words = context.statement(finding) + (" No place was given." if region is None else "")
        children.append(items.text(codes.SELECTED_REGION_DESCRIPTION, words, items.HAS_PROPERTIES))
    children += _geometry(subject, region or _whole_middle_image(subject))
    if finding.site is not None and is_in_context_group(finding.site, _LOCATIONS):
        children.append(items.code(codes.LOCATION_IN_CHEST, finding.site, items.HAS_PROPERTIES))
    children += [
        context.measured(replace(one, lowest=None, highest=None), items.HAS_PROPERTIES)
        for one in finding.measurements
    ]
    return items.code(codes.SINGLE_IMAGE_FINDING, kind, items.INFERRED_FROM, children)


def _class(finding: Code) -> tuple[Code, Code | None]:
    """Return the class of a finding (CID 6101), and the finding where it modifies that."""
    if is_in_context_group(finding, _CLASSES):
        return finding, None
    for group, kind in _MODIFIERS_OF:
        if is_in_context_group(finding, group):
            return kind, finding
    return codes.SELECTED_REGION, None


def _modifier(code: Code) -> Any:
    return items.code(codes.SINGLE_IMAGE_FINDING_MODIFIER, code, items.HAS_CONCEPT_MOD)


def _label(finding: Finding, number: int) -> str:
    """Return a name for people, with the site and its side, which have no row of their own."""
    name = finding.segment or f"{finding.finding.meaning} {number}"
    place = [one.meaning for one in (finding.site, finding.laterality) if one is not None]
    return ", ".join([name, *place])


def _geometry(subject: Subject, region: Region) -> list[Any]:
    """Return TID 4107: the centre, and the outline of what is more than a point."""
    shapes = [(codes.CENTER, places.center(region))]
    if region.graphic is not Graphic.POINT:
        shapes.append((codes.OUTLINE, region))
    return [
        places.shape_item(subject, shape, name, codes.SOURCE, items.HAS_PROPERTIES)
        for name, shape in shapes
    ]


def _whole_middle_image(subject: Subject) -> Region:
    images = len(subject.frame_numbers) or len(subject.instances)
    middle = images // 2
    instance, _ = subject.image(middle)
    right, bottom = float(instance.Columns), float(instance.Rows)
    corners = ((0.0, 0.0), (right, 0.0), (right, bottom), (0.0, bottom), (0.0, 0.0))
    return Region(middle, Graphic.POLYLINE, corners)


def _detections(subject: Subject, findings: Iterable[Finding]) -> list[Any]:
    """Return TID 4017 for each concept that was looked for: by whom, and in which series."""
    looked_for = {
        modifier or kind: None for kind, modifier in (_class(one.finding) for one in findings)
    } or {codes.SELECTED_REGION: None}
    series = str(subject.instances[0].SeriesInstanceUID)
    return [
        items.code(
            codes.DETECTION_PERFORMED,
            concept,
            children=[
                *_algorithm(subject, items.HAS_PROPERTIES),
                items.uid(codes.SERIES_INSTANCE_UID, series, items.HAS_PROPERTIES),
            ],
        )
        for concept in looked_for
    ]


def _algorithm(subject: Subject, relation: Any) -> list[Any]:
    """Return TID 4019 in the relation that the including template asks for."""
    identification = list(context.algorithm(subject.author))
    parameters = [
        items.text(codes.ALGORITHM_PARAMETERS, sentence)
        for sentence in context.provenance(subject.author)
    ]
    for item in (*identification, *parameters):
        item.RelationshipType = relation.value
    return [*identification, *parameters]
