"""TID 2000: the whole result in words, for viewers that show a report as text.

An Enhanced SR, whose title is not that of TID 1500: OHIF 3.13 takes any report of that title for
graphics, and shows any other as text. It shows names and values of items, but not what hangs
below them, and of containers whose content is continuous not even the names. So each finding is
one text that says all of it, in containers of separate content; codes and exact numbers hang
below that text, for machines.

Only what is there is called a Finding (121071, DCM); what was looked for and not found, or is
undecided, is a Conclusion.
"""

from __future__ import annotations

from typing import Any

from highdicom import sr
from pydicom.uid import EnhancedSRStorage

from pipelines.contract import Finding, Measurement, Presence, Result, Waveform
from sr_templates import codes, context, items, places
from sr_templates.measurement_report import sites
from sr_templates.quantities import in_words
from sr_templates.report import Report, Subject

_LISTED = 5
"""Places that a sentence lists before it only counts the rest."""


def text_report(subject: Subject, result: Result) -> Report:
    """Return the result as an Enhanced SR of sentences.

    Args:
        subject: What the report is about.
        result: Its masks are on the images of the source.
    """
    about_waveform = isinstance(subject.study, Waveform)
    masks = places.masks_of(result)
    findings = [_finding(subject, masks, finding) for finding in result.findings]
    rest = context.summary(result)[len(findings) :]
    nothing = not findings and not masks
    conclusions = [
        *(
            [items.code(codes.PROCESSING_SUMMARY, codes.SUCCEEDED_WITHOUT_FINDINGS)]
            if nothing
            else []
        ),
        *(items.text(codes.CONCLUSION, line) for line in rest),
        *(items.text(codes.COMMENT, line) for line in context.provenance(subject.author)),
    ]
    root = items.root(
        codes.ECG_REPORT if about_waveform else codes.DIAGNOSTIC_IMAGING_REPORT,
        [
            *context.language(),
            *sr.ObservationContext(observer_device_context=context.observer(subject.author)),
            *([items.container(codes.FINDINGS, findings)] if findings else []),
            items.container(codes.CONCLUSIONS, conclusions),
        ],
        "2000",
    )
    return Report(EnhancedSRStorage, root)


def _line(measurement: Measurement) -> str:
    name, value, remark = in_words(measurement)
    return f"{name}: {value} {remark}".rstrip()


def _finding(subject: Subject, masks: places.Masks, finding: Finding) -> Any:
    """Return a finding in words, a line for each measurement, its codes and numbers below."""
    said = [context.statement(finding), *context.place(finding), *_where(subject, masks, finding)]
    lines = [" ".join(said), *map(_line, finding.measurements)]
    present = finding.presence is Presence.PRESENT
    item = items.text(codes.FINDING if present else codes.CONCLUSION, "\r\n".join(lines))
    item.ContentSequence = sr.ContentSequence(
        [
            *(sites(finding) or ()),
            items.code(
                finding.finding, context.PRESENCE_CODES[finding.presence], items.HAS_PROPERTIES
            ),
            *context.certainty(finding, items.HAS_PROPERTIES),
            *(context.measured(one, items.INFERRED_FROM) for one in finding.measurements),
        ]
    )
    return item


def _where(subject: Subject, masks: places.Masks, finding: Finding) -> list[str]:
    """Say on which image to look, or at which time of a waveform."""
    if isinstance(subject.study, Waveform):
        groups = {group.number: group for group in subject.study.groups}
        spans = [
            f"{groups[span.group].channels[span.channel - 1].source.meaning}"
            f" {span.start_s:.1f} s to {span.end_s:.1f} s"
            for span in finding.spans
        ]
        return [f"Judged from {_list(spans)}."] if spans else []
    mask = masks.get(finding.segment or "")
    if mask is not None:
        return [f"Largest on {_image(subject, places.best_image(mask))}."]
    images = [_image(subject, one) for one in sorted({one.image for one in finding.regions})]
    return [f"Drawn on {_list(images)}."] if images else []


def _image(subject: Subject, index: int) -> str:
    """Return the name of an image as viewers number it."""
    instance, frame = subject.image(index)
    number = instance.get("InstanceNumber")
    if frame is not None:
        return f"frame {frame}"
    return f"image {number}" if number is not None else f"image {index + 1} in slice order"


def _list(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
