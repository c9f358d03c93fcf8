"""TID 5300 Simplified Echo Procedure Report: what was measured on an ultrasound clip.

Each measurement goes where its code allows (PS3.17 annex CCCC):

- codes of CID 12300, whose meaning says all, under Pre-coordinated Measurements (TID 5301), bare
  but for the images they were taken from;
- the three general codes for the left ventricle under Post-coordinated Measurements (TID 5302),
  with the modifiers that their meaning leaves open;
- any other under Adhoc Measurements (TID 5303), labelled with its name; so too a mean or another
  statistic under a code of CID 12300, which TID 5301 could not tell from the plain value.

What no row of TID 5300 is for stands after its sections, as in an ECG report: findings said as
codes, which object was read by which algorithm, and everything in words, intervals included.
The document is a Comprehensive SR: that IOD holds coordinates on images and is the most widely
accepted of those that do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from highdicom import sr
from pydicom.uid import ComprehensiveSRStorage

from pipelines.contract import Code, Finding, Measurement, Presence, Result, Waveform
from sr_templates import codes, context, items, places
from sr_templates.code_table import is_in_context_group
from sr_templates.report import Report, Subject

if TYPE_CHECKING:
    from collections.abc import Iterable

_CORE_ECHO_MEASUREMENTS = 12300

_CALCULATED = Code("125315", "DCM", "Calculated")
_LEFT_VENTRICLE = Code("87878005", "SCT", "Left ventricle")
_STRUCTURE = Code("125311", "DCM", "Structure of the Finding Site")
_HEMODYNAMIC = Code("44324008", "SCT", "Hemodynamic Measurements")
_VOLUME = Code("118565006", "SCT", "Volume")
_EJECTION_FRACTION = Code("70822001", "SCT", "Cardiac ejection fraction")
_END_DIASTOLE = Code("416190007", "SCT", "End diastole")
_END_SYSTOLE = Code("416430001", "SCT", "End Systole")

POST_COORDINATED: Final = {
    Code("18043-0", "LN", "Left Ventricular Ejection Fraction by US"): (
        (codes.OBSERVATION_TYPE, _HEMODYNAMIC),
        (codes.MEASURED_PROPERTY, _EJECTION_FRACTION),
    ),
    Code("18026-5", "LN", "Left Ventricular End Diastolic Volume"): (
        (codes.OBSERVATION_TYPE, _STRUCTURE),
        (codes.MEASURED_PROPERTY, _VOLUME),
        (codes.CARDIAC_CYCLE_POINT, _END_DIASTOLE),
    ),
    Code("18148-7", "LN", "Left Ventricular End Systolic Volume"): (
        (codes.OBSERVATION_TYPE, _STRUCTURE),
        (codes.MEASURED_PROPERTY, _VOLUME),
        (codes.CARDIAC_CYCLE_POINT, _END_SYSTOLE),
    ),
}
"""Name -> modifiers of its own (CID 12302, 12304, 12307); all are calculated, and of the left
ventricle."""


def echo_report(subject: Subject, result: Result) -> Report:
    """Return the result as a Comprehensive SR.

    Raises:
        TypeError: The study is a waveform.
    """
    if isinstance(subject.study, Waveform):
        raise TypeError("An echo report is about images; got a waveform.")
    header = [*context.language(), *context.observer(subject.author)]
    words = [*context.summary(result), *_in_words(result), *context.provenance(subject.author)]
    sections = [
        *_measurements(subject, result),
        items.container(codes.FINDINGS, _findings(subject, result)),
        _what_was_read(subject),
        *(items.text(codes.COMMENT, sentence) for sentence in words),
    ]
    root = items.root(codes.ADULT_ECHO_REPORT, [*header, *sections], "5300")
    return Report(ComprehensiveSRStorage, root)


def _measurements(subject: Subject, result: Result) -> list[Any]:
    """Return the containers of TID 5300 that have a measurement, in its order."""
    masks = places.masks_of(result)
    filed: dict[Code, list[Any]] = {
        codes.PRE_COORDINATED: [],
        codes.POST_COORDINATED: [],
        codes.ADHOC: [],
    }
    for finding in result.findings:
        for measurement in finding.measurements:
            section, item = _measurement(measurement)
            # A NUM has children of its own only where it was measured with a method or bounds.
            item.ContentSequence = sr.ContentSequence(
                [*item.get("ContentSequence", ()), *_sources(subject, finding, masks)]
            )
            filed[section].append(item)
    return [items.container(name, numbers) for name, numbers in filed.items() if numbers]


def _measurement(measurement: Measurement) -> tuple[Code, Any]:
    """Return a measurement and the section it belongs in."""
    name, value, unit = measurement.name, float(measurement.value), measurement.unit
    if is_in_context_group(name, _CORE_ECHO_MEASUREMENTS) and measurement.derivation is None:
        return codes.PRE_COORDINATED, items.number(name, value, unit)
    if name in POST_COORDINATED:
        item = context.measured(measurement)
        modifiers = (
            (codes.MEASUREMENT_TYPE, _CALCULATED),
            (codes.FINDING_SITE, _LEFT_VENTRICLE),
            *POST_COORDINATED[name],
        )
        item.ContentSequence = sr.ContentSequence(
            [
                *(items.code(what, kind, items.HAS_CONCEPT_MOD) for what, kind in modifiers),
                *item.get("ContentSequence", ()),
            ]
        )
        return codes.POST_COORDINATED, item
    label = items.text(codes.SHORT_LABEL, _label(measurement), items.HAS_PROPERTIES)
    return codes.ADHOC, items.number(name, value, unit, children=[label])


def _sources(subject: Subject, finding: Finding, masks: places.Masks) -> list[Any]:
    """Return what a finding was read from (TID 320): its shapes, its images, or the whole clip."""
    name = codes.SOURCE_OF_MEASUREMENT
    shapes = [
        places.shape_item(subject, region, name, codes.SOURCE, items.INFERRED_FROM)
        for region in finding.regions
    ]
    drawn = {region.image for region in finding.regions}
    outlined = [index for index in places.images_of(finding, masks) if index not in drawn]
    images = places.image_items(subject, outlined, name, items.INFERRED_FROM)
    return [*shapes, *images] or _all_images(subject, items.INFERRED_FROM)


def _all_images(subject: Subject, relation: Any) -> list[Any]:
    return [
        sr.ImageContentItem(
            items.concept(codes.SOURCE_OF_MEASUREMENT),
            instance.SOPClassUID,
            instance.SOPInstanceUID,
            relationship_type=relation,
        )
        for instance in subject.instances
    ]


def _findings(subject: Subject, result: Result) -> Iterable[Any]:
    """Return each finding as an answer in codes; what is not there, never as a Finding."""
    if not result.findings:
        return (
            items.code(codes.PROCESSING_SUMMARY, codes.SUCCEEDED_WITHOUT_FINDINGS),
            items.code(codes.ANY_FINDING, codes.ABSENT),
        )
    return [_finding(subject, finding, number) for number, finding in enumerate(result.findings, 1)]


def _finding(subject: Subject, finding: Finding, number: int) -> Any:
    label = finding.segment or f"{finding.finding.meaning} {number}"
    tracking_uid = subject.tracking_uid_of(finding, number)
    children = [
        items.text(codes.TRACKING_IDENTIFIER, label, items.HAS_OBS_CONTEXT),
        items.uid(codes.TRACKING_UID, tracking_uid, items.HAS_OBS_CONTEXT),
        *context.certainty(finding, items.HAS_PROPERTIES),
    ]
    if finding.site is not None:
        children.append(items.code(codes.FINDING_SITE, finding.site, items.HAS_PROPERTIES))
    if finding.presence is Presence.PRESENT:
        return items.code(codes.FINDING, finding.finding, children=children)
    answer = context.PRESENCE_CODES[finding.presence]
    return items.code(finding.finding, answer, children=children)


def _what_was_read(subject: Subject) -> Any:
    """Return which objects were analysed, and by which algorithm (TID 4019)."""
    return items.container(
        codes.CURRENT_PROCEDURE,
        [*_all_images(subject, items.CONTAINS), *context.algorithm(subject.author)],
    )


def _in_words(result: Result) -> list[str]:
    """Return every measurement as a sentence, with its interval."""
    return [
        f"{_label(one)}: {_quantity(one.value, one.unit)}{_interval(one)}."
        for finding in result.findings
        for one in finding.measurements
    ]


def _label(measurement: Measurement) -> str:
    """Return the name of a measurement, and which statistic of many values it is."""
    statistic = measurement.derivation
    name = measurement.name.meaning
    return name if statistic is None else f"{name} ({statistic.meaning})"


def _quantity(value: float, unit: str) -> str:
    return f"{value:.6g}" if unit == "1" else f"{value:.6g} {unit}"


def _interval(measurement: Measurement) -> str:
    if measurement.lowest is None or measurement.highest is None:
        return ""
    return f" (95 % interval {measurement.lowest:.6g} to {measurement.highest:.6g})"
