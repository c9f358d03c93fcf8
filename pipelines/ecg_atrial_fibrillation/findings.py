"""From bands to the result: what was found, where, how sure, and what could not be judged."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipelines.contract import Finding, Measurement, Presence, Result, WaveformSpan
from pipelines.ecg_atrial_fibrillation import codes
from pipelines.ecg_atrial_fibrillation.codec import Rhythm
from pipelines.ecg_atrial_fibrillation.intervals import intervals, rate
from pipelines.ecg_atrial_fibrillation.leads import PREFERRED, Lead
from pipelines.ecg_atrial_fibrillation.rhythm import EPISODE_S, Band, Call, Episode, episodes
from pipelines.ecg_atrial_fibrillation.windows import SAMPLING_HZ

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Stretch = tuple[int, int]
"""First sample and end of a part of the recording, at 500 Hz."""

_MOST_LISTED = 12
"""Stretches that a note lists one by one."""


def result(lead: Lead, bands: Sequence[Band]) -> Result:
    """Return what the bands of one lead amount to; at least one of them is readable.

    The first findings are about atrial fibrillation: one per episode, or a single one that says
    "absent" or "indeterminate". ``confidence`` is the model's mean probability of what the
    finding states; for "absent", of no fibrillation in the band where it is likeliest; for
    "indeterminate", of fibrillation.
    """
    found = episodes(bands)
    sinus_spans = list(_outside(stretches(bands, Call.SINUS), found))
    findings = [_episode(lead, bands, episode) for episode in found]
    if not findings:
        findings.append(_none_found(lead, bands, with_intervals=not sinus_spans))
    if sinus_spans:
        findings.append(
            Finding(
                codes.SINUS_RHYTHM,
                confidence=_mean(bands, Call.SINUS, Rhythm.SINUS),
                measurements=_measurements(bands, sinus_spans, with_intervals=True),
                spans=_spans(lead, sinus_spans),
                normal=True,
            )
        )
    notes = [*_notes(lead, bands)]
    if found and any(finding.presence is Presence.INDETERMINATE for finding in findings):
        notes.append(
            f"Fibrillation for less than {EPISODE_S:.0f} s, in a recording that it does not fill, "
            "is reported as indeterminate."
        )
    return Result(findings=tuple(findings), notes=tuple(notes))


def readable_share(bands: Sequence[Band]) -> float:
    """Return which part of the recording could be read, 0..1."""
    return _length(stretches(bands)) / (bands[-1].end - bands[0].first)


def stretches(bands: Sequence[Band], *calls: Call) -> list[Stretch]:
    """Return the unbroken runs of bands with one of ``calls``; without any, of readable bands."""
    wanted = set(calls) or set(Call) - {Call.UNREADABLE}
    return _runs(bands, [band.call in wanted for band in bands])


def _runs(bands: Sequence[Band], inside: Sequence[bool]) -> list[Stretch]:
    found = []
    for flag, run in groupby(zip(bands, inside, strict=True), key=lambda pair: pair[1]):
        if flag:
            members = [band for band, _flag in run]
            found.append((members[0].first, members[-1].end))
    return found


def _episode(lead: Lead, bands: Sequence[Band], episode: Episode) -> Finding:
    read = [band for band in episode.bands if not band.fault]
    whole = len(read) == sum(not band.fault for band in bands)
    extent = [(episode.first, episode.end)]
    return Finding(
        codes.ATRIAL_FIBRILLATION,
        Presence.PRESENT
        if episode.duration_s >= EPISODE_S or (whole and readable_share(bands) == 1.0)
        else Presence.INDETERMINATE,
        confidence=float(np.mean([b.probabilities[Rhythm.ATRIAL_FIBRILLATION] for b in read])),
        measurements=_measurements(bands, extent, with_intervals=False),
        spans=_spans(lead, extent),
    )


def _none_found(lead: Lead, bands: Sequence[Band], *, with_intervals: bool) -> Finding:
    readable = stretches(bands)
    undecided = stretches(bands, Call.UNDECIDED)
    probabilities = [
        float(band.probabilities[Rhythm.ATRIAL_FIBRILLATION]) for band in bands if not band.fault
    ]
    if readable_share(bands) < 0.5 or _length(undecided) > _length(readable) / 2:
        return Finding(
            codes.ATRIAL_FIBRILLATION,
            Presence.INDETERMINATE,
            confidence=float(np.mean(probabilities)),
            measurements=_measurements(bands, readable, with_intervals=False),
            spans=_spans(lead, undecided or readable),
        )
    return Finding(
        codes.ATRIAL_FIBRILLATION,
        Presence.ABSENT,
        confidence=1.0 - max(probabilities),
        measurements=_measurements(bands, readable, with_intervals=True) if with_intervals else (),
        spans=_spans(lead, readable),
    )


def _measurements(
    bands: Sequence[Band], extents: Sequence[Stretch], *, with_intervals: bool
) -> tuple[Measurement, ...]:
    """Measure within ``extents``.

    Fibrillation gets no intervals: it has no P wave, and QTc assumes a steady rate.
    """
    peaks = [
        _within(np.concatenate([band.peaks for band in bands]), (first, end))
        for extent in extents
        for first, end in _common(extent, stretches(bands))
    ]
    measured = rate(peaks)
    if not measured or not with_intervals:
        return measured
    beats = [
        beat
        for band in bands
        for beat in band.beats
        if any(first <= beat.qrs_onset < end for first, end in extents)
    ]
    return measured + intervals(beats, mean_rr_s=measured[1].value / 1000.0)


def _notes(lead: Lead, bands: Sequence[Band]) -> Iterator[str]:
    yield (
        f"Read from {lead.name} (multiplex group {lead.group.number}, channel {lead.channel}): "
        f"{lead.group.duration_s:.1f} s, one lead only."
    )
    if lead.number not in PREFERRED[:2]:
        yield "Lead II is missing or unreadable; the model's published figures are for lead II."
    faults = sorted({band.fault for band in bands if band.fault})
    for fault in faults:
        runs = _runs(bands, [band.fault == fault for band in bands])
        yield f"Not judged, {fault}: {_listed(runs)}."
    if undecided := stretches(bands, Call.UNDECIDED):
        yield f"The model does not decide on a rhythm: {_listed(undecided)}."
    others = sorted({band.leading for band in bands if band.call is Call.OTHER})
    for other in others:
        name = other.name.lower().replace("_", " ")
        yield (
            f"The model's leading class in part of the recording is '{name}'; it is not reported "
            "as a finding, because one lead cannot settle it."
        )


def _listed(parts: Sequence[Stretch]) -> str:
    texts = [f"{first / SAMPLING_HZ:.0f}-{end / SAMPLING_HZ:.0f} s" for first, end in parts]
    listed = ", ".join(texts[:_MOST_LISTED])
    rest = len(texts) - _MOST_LISTED
    if rest <= 0:
        return listed
    return f"{listed} and {rest} more ({_length(parts) / SAMPLING_HZ:.0f} s in all)"


def _outside(parts: Sequence[Stretch], found: Sequence[Episode]) -> Iterator[Stretch]:
    """Yield ``parts`` without what a refined onset or offset gave to an episode."""
    for part_first, part_end in parts:
        first, end = part_first, part_end
        for episode in found:
            if first <= episode.first < end <= episode.end:
                end = episode.first
            if episode.first <= first < episode.end < end:
                first = episode.end
        if first < end:
            yield first, end


def _common(extent: Stretch, parts: Sequence[Stretch]) -> Iterator[Stretch]:
    for first, end in parts:
        if max(first, extent[0]) < min(end, extent[1]):
            yield max(first, extent[0]), min(end, extent[1])


def _within(positions: npt.NDArray[np.int64], extent: Stretch) -> npt.NDArray[np.int64]:
    return positions[(positions >= extent[0]) & (positions < extent[1])]


def _length(parts: Sequence[Stretch]) -> int:
    return sum(end - first for first, end in parts)


def _mean(bands: Sequence[Band], call: Call, rhythm: Rhythm) -> float:
    return float(np.mean([band.probabilities[rhythm] for band in bands if band.call is call]))


def _spans(lead: Lead, parts: Sequence[Stretch]) -> tuple[WaveformSpan, ...]:
    return tuple(
        WaveformSpan(
            group=lead.group.number,
            channel=lead.channel,
            start_s=first / SAMPLING_HZ,
            end_s=min(end / SAMPLING_HZ, lead.group.duration_s),
        )
        for first, end in parts
    )
