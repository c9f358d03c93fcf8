"""TID 3700 ECG Report: findings about a waveform, each tied to samples of its channels.

TID 3700 rather than TID 1500, because a viewer that takes every Imaging Measurement Report
for graphics (OHIF 3.13) shows nothing of one without graphics, while it shows any other SR as
text; and because TID 1500 has no row for a waveform. The document is a Comprehensive SR: that
IOD holds temporal coordinates and is the most widely accepted of those that do.

Rows of PS3.16 that do not fit an algorithm, and what stands instead:

- TID 3713 Global Measurements wants all of rate, PR, QRS, QT and RR, over all leads. There is no
  PR in atrial fibrillation, and a NUM without a value breaks viewers. So measurements of one
  lead go to TID 3714 Lead Measurements, others straight under Quantitative Analysis; the
  template is extensible.
- TID 3717 has "ECG Finding = X" only for what is there. What was looked for and not found is
  said as question and answer, "Atrial Fibrillation = Absent", which cannot be misread.
- TID 3719's overall finding (normal or abnormal ECG) is left out: one question was asked.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from highdicom import sr
from pydicom.uid import ComprehensiveSRStorage

from pipelines.contract import (
    Code,
    Finding,
    MultiplexGroup,
    Presence,
    Result,
    Waveform,
    WaveformSpan,
)
from sr_templates import codes, context, items
from sr_templates.code_table import meanings
from sr_templates.report import Report, Subject

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydicom import Dataset


def ecg_report(subject: Subject, result: Result) -> Report:
    """Return the result as a Comprehensive SR.

    Raises:
        TypeError: The study is not a waveform.
    """
    if not isinstance(subject.study, Waveform):
        raise TypeError("An ECG report is about a waveform; got images.")
    waveform = subject.study
    quantities = _quantities(waveform, result.findings)
    sections = [
        _waveform_information(subject),
        *([items.container(codes.QUANTITATIVE_ANALYSIS, quantities)] if quantities else []),
        items.container(
            codes.QUALITATIVE_ANALYSIS,
            [
                _finding(subject, waveform, finding, number)
                for number, finding in enumerate(result.findings, start=1)
            ]
            or _nothing_found(),
            template="3717",
        ),
        items.container(
            codes.SUMMARY,
            [items.text(codes.SUMMARY, " ".join(context.summary(result)))],
            template="3719",
        ),
        *(items.text(codes.COMMENT, line) for line in context.provenance(subject.author)),
    ]
    header = [*context.language(), *context.observer(subject.author)]
    return Report(
        ComprehensiveSRStorage, items.root(codes.ECG_REPORT, [*header, *sections], "3700")
    )


def _waveform_information(subject: Subject) -> Any:
    """Return TID 3708: when it was recorded, which object it is, which algorithm read it."""
    instance = subject.instances[0]
    recorded = _recorded_at(instance)
    times = (
        [sr.DateTimeContentItem(items.concept(codes.PROCEDURE_DATETIME), recorded, items.CONTAINS)]
        if recorded
        else []
    )
    return items.container(
        codes.CURRENT_PROCEDURE,
        [
            *times,
            sr.WaveformContentItem(
                items.concept(codes.SOURCE_OF_MEASUREMENT),
                instance.SOPClassUID,
                instance.SOPInstanceUID,
                relationship_type=items.CONTAINS,
            ),
            *context.algorithm(subject.author),
        ],
        template="3708",
    )


def _quantities(waveform: Waveform, findings: Iterable[Finding]) -> list[Any]:
    """Return the measurements, under their lead where one lead was read (TID 3714)."""
    quantities: list[Any] = []
    for finding in findings:
        numbers = [context.measured(measurement) for measurement in finding.measurements]
        lead = _lead(waveform, finding.spans)
        if numbers and lead is not None:
            lead_item = items.code(codes.LEAD_ID, lead, items.HAS_CONCEPT_MOD)
            numbers = [
                items.container(codes.ECG_LEAD_MEASUREMENTS, [lead_item, *numbers], template="3714")
            ]
        quantities += numbers
    return quantities


def _finding(subject: Subject, waveform: Waveform, finding: Finding, number: int) -> Any:
    """Return the finding, how sure the model is, and the samples it was read from."""
    answer = context.PRESENCE_CODES[finding.presence]
    children = [
        items.text(
            codes.TRACKING_IDENTIFIER,
            f"{finding.finding.meaning} {number}",
            items.HAS_OBS_CONTEXT,
        ),
        items.uid(
            codes.TRACKING_UID, subject.tracking_uid_of(finding, number), items.HAS_OBS_CONTEXT
        ),
    ]
    children += context.certainty(finding, items.HAS_PROPERTIES)
    children += _time_ranges(waveform, subject.instances[0], finding.spans)
    if finding.presence is Presence.PRESENT:
        return items.code(codes.ECG_FINDING, finding.finding, children=children)
    return items.code(finding.finding, answer, children=children)


def _time_ranges(waveform: Waveform, instance: Dataset, spans: Iterable[WaveformSpan]) -> list[Any]:
    """Return a TCOORD for each stretch of time, selected from all channels that share it."""
    channels: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
    for span in spans:
        group = _group(waveform, span)
        first, last = _samples(group, span)
        channels.setdefault((span.group, first, last), []).append((span.group, span.channel))
    ranges = []
    for (_, first, last), pairs in channels.items():
        coordinates = sr.TcoordContentItem(
            items.concept(codes.SOURCE_OF_MEASUREMENT),
            "SEGMENT",
            referenced_sample_positions=[first, last],
            relationship_type=items.INFERRED_FROM,
        )
        source = sr.WaveformContentItem(
            items.concept(codes.SOURCE),
            instance.SOPClassUID,
            instance.SOPInstanceUID,
            referenced_waveform_channels=_pairs(pairs),
            relationship_type=items.SELECTED_FROM,
        )
        coordinates.ContentSequence = sr.ContentSequence([source])
        ranges.append(coordinates)
    return ranges


def _samples(group: MultiplexGroup, span: WaveformSpan) -> tuple[int, int]:
    """Return the first and last sample of a span, from 1 in its group (PS3.3 C.18.7.1.1)."""
    count = group.samples.shape[1]
    # A millionth of a sample: 0.3 s at 1000 Hz is not exactly 300 samples in floating point.
    first = min(max(math.floor(span.start_s * group.sampling_hz + 1e-6) + 1, 1), count)
    last = min(max(math.ceil(span.end_s * group.sampling_hz - 1e-6), first), count)
    return first, last


def _pairs(channels: Iterable[tuple[int, int]]) -> Any:
    """Return (group, channel) pairs as highdicom takes them, though it declares other types."""
    return sorted(set(channels))


def _nothing_found() -> list[Any]:
    return [
        items.code(codes.PROCESSING_SUMMARY, codes.SUCCEEDED_WITHOUT_FINDINGS),
        items.code(codes.ANY_FINDING, codes.ABSENT),
    ]


def _lead(waveform: Waveform, spans: Iterable[WaveformSpan]) -> Code | None:
    """Return the one lead that all spans are of, by its MDC code (CID 3001), if there is one.

    The object's own meaning is the maker's wording, and SCPECG is the retired scheme whose
    lead numbers MDC kept; both are told in the words of PS3.16.
    """
    sources = {_group(waveform, span).channels[span.channel - 1].source for span in spans}
    if len(sources) != 1:
        return None
    source = sources.pop()
    number = source.value.removeprefix("5.6.3-9-") if source.scheme == "SCPECG" else ""
    value = f"2:{number}" if number else source.value
    scheme = "MDC" if number else source.scheme
    for meaning in sorted(meanings(value, scheme)):
        return Code(value, scheme, meaning)
    return None


def _group(waveform: Waveform, span: WaveformSpan) -> MultiplexGroup:
    return next(group for group in waveform.groups if group.number == span.group)


def _recorded_at(instance: Dataset) -> str | None:
    """Return when the recording began to the second, in the object's own time zone."""
    stamp = str(instance.get("AcquisitionDateTime", "") or "")[:14]
    return stamp if len(stamp) == 14 and stamp.isdigit() else None
