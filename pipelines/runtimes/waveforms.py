"""Recordings: leads by name, windows of the network's length and rate, and what it says of each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipelines.contract import (
    CouldNotLook,
    Finding,
    MultiplexGroup,
    Presence,
    Result,
    Waveform,
    WaveformSpan,
)
from pipelines.ecg_atrial_fibrillation.leads import lead_number
from pipelines.runtimes.network import NetworkFault, finite
from pipelines.runtimes.prediction import activated
from pipelines.runtimes.results import decided, measured

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pipelines.contract import Channel, Study
    from pipelines.runtimes.network import Network
    from pipelines.runtimes.sections import Label, WaveformInput
    from pipelines.runtimes.site_network import SiteNetwork

    Floats = npt.NDArray[np.float32]

_NUMBERS = {"I": 1, "II": 2, "III": 61, "AVR": 62, "AVL": 63, "AVF": 64} | {
    f"V{chest}": chest + 2 for chest in range(1, 7)
}
"""Lead -> its number in ISO/IEEE 11073-10102 (PS3.16 CID 3001)."""
_MICROVOLT = {"mV": 1000.0, "uV": 1.0}
_CROSSINGS = 16
"""Zero crossings of the sinc on each side."""


class Windows(NamedTuple):
    """Windows of one multiplex group.

    Attributes:
        samples: float32, shape (windows, leads, samples).
        starts_s: Of each window, from the first sample of the group.
        group: Its number, from 1.
        channel: Of the first lead, from 1.
        duration_s: Of the group.
    """

    samples: Floats
    starts_s: tuple[float, ...]
    group: int
    channel: int
    duration_s: float


def waveform(network: SiteNetwork, series: Sequence[Study]) -> Result:
    """Say what a network says of a recording: labels with their places, and numbers.

    Raises:
        CouldNotLook: It lacks a lead, is too short, or has a gap in every window.
    """
    study, to = series[0], network.manifest.waveform
    if not isinstance(study, Waveform) or to is None:
        raise CouldNotLook("This model looks at a waveform, and this is none.")
    windows = cut(study, to)
    answers = _answers(network.network(), windows.samples, network.manifest.input.batch)
    findings: list[Finding] = []
    if network.labels:
        values = activated(answers, network.manifest.output.activation, -1)
        if values.min() < 0.0 or values.max() > 1.0:
            raise NetworkFault("The network's probabilities are not between 0 and 1.")
        findings += _labelled(network, windows, values, to.seconds)
    if network.manifest.quantities:
        findings += measured(network.manifest.quantities, np.median(answers, axis=0).tolist())
    return Result(tuple(findings))


def cut(study: Waveform, to: WaveformInput) -> Windows:
    """Return the windows that the network takes.

    Raises:
        CouldNotLook: No original group has all leads in volts for long enough and without gaps.
    """
    groups = [group for group in study.groups if group.original]
    found = [(group, at) for group in groups if (at := _channels(group, to.leads)) is not None]
    if not found:
        raise CouldNotLook(f"The recording has no lead {' or no lead '.join(to.leads)}, in volts.")
    group, channels = max(found, key=lambda one: one[0].duration_s)
    if group.duration_s + 1.0 / group.sampling_hz < to.seconds:
        raise CouldNotLook(
            f"The recording lasts {group.duration_s:.1f} s; this model needs {to.seconds:g} s."
        )
    if group.sampling_hz < 0.5 * to.sampling_hz:
        raise CouldNotLook(
            f"The recording has {group.sampling_hz:g} samples/s, less than half of what this model "
            f"was trained at ({to.sampling_hz:g})."
        )
    length = round(to.seconds * to.sampling_hz)
    last_s = max(group.duration_s - to.seconds, 0.0)
    starts = np.unique(np.append(np.arange(0.0, last_s, to.hop_s or to.seconds), last_s))
    kept, samples = [], []
    for start in starts.tolist():
        times = start + np.arange(length) / to.sampling_hz
        rows = [_lead(group, channel, times, to) for channel in channels]
        window = np.stack(rows)
        if np.isfinite(window).all():
            kept.append(start)
            samples.append(_normalised(window, to))
    if not kept:
        raise CouldNotLook(f"The recording has gaps in every stretch of {to.seconds:g} s.")
    return Windows(np.stack(samples), tuple(kept), group.number, channels[0] + 1, group.duration_s)


def _channels(group: MultiplexGroup, leads: Sequence[str]) -> list[int] | None:
    """Return which channel each lead is, counted from 0, or None where one is missing."""
    found = []
    for lead in leads:
        match = [at for at, one in enumerate(group.channels) if _is_lead(one, lead)]
        if not match or group.channels[match[0]].unit not in _MICROVOLT:
            return None
        found.append(match[0])
    return found


def _is_lead(channel: Channel, lead: str) -> bool:
    """Whether a channel is a lead: by its code, else by its words."""
    number = lead_number(channel.source)
    if number is not None and lead.upper() in _NUMBERS:
        return number == _NUMBERS[lead.upper()]
    words = {channel.label.upper(), channel.source.meaning.upper(), channel.source.value.upper()}
    return bool(words & {lead.upper(), f"LEAD {lead.upper()}"})


def _lead(
    group: MultiplexGroup, channel: int, times_s: npt.NDArray[np.float64], to: WaveformInput
) -> Floats:
    unit = group.channels[channel].unit
    factor = _MICROVOLT[unit] / _MICROVOLT[to.unit]
    values = resampled(group.samples[channel], group.sampling_hz, to.sampling_hz, times_s)
    return np.asarray(values * np.float32(factor), np.float32)


def resampled(
    samples: Floats, sampling_hz: float, target_hz: float, times_s: npt.NDArray[np.float64]
) -> Floats:
    """Return the values at ``times_s`` (0.0 is the first sample), free of aliasing.

    Hann-windowed sinc, low-pass at the lower of the two Nyquist frequencies; ends are mirrored.
    A gap (NaN) makes all values that it reaches NaN.
    """
    width = max(1.0, sampling_hz / target_hz)
    reach = int(np.ceil(_CROSSINGS * width))
    positions = times_s * sampling_hz
    indices = np.floor(positions).astype(np.int64)[:, None] + np.arange(1 - reach, reach + 1)
    offsets = (positions[:, None] - indices) / width
    weights = np.sinc(offsets) * np.cos(np.clip(offsets / _CROSSINGS, -1, 1) * np.pi / 2) ** 2
    weights /= weights.sum(axis=1, keepdims=True)
    last = samples.shape[0] - 1
    mirrored = np.clip(last - np.abs(last - np.abs(indices)), 0, last)
    return np.asarray((samples[mirrored] * weights).sum(axis=1), np.float32)


def _normalised(window: Floats, to: WaveformInput) -> Floats:
    """Return a window as the network takes it; each lead by its own statistics."""
    if to.normalisation == "none":
        return window
    if to.normalisation == "z-score":
        bottom, width = window.mean(axis=1, keepdims=True), window.std(axis=1, keepdims=True)
    else:
        bottom, width = window.min(axis=1, keepdims=True), np.ptp(window, axis=1, keepdims=True)
    if not (width > 0.0).all():
        raise CouldNotLook("A lead of the recording is a straight line.")
    return np.asarray((window - bottom) / width, np.float32)


def _answers(network: Network, samples: Floats, batch: int) -> Floats:
    rows = []
    for first in range(0, len(samples), batch):
        given = np.ascontiguousarray(samples[first : first + batch])
        answer = finite(network.predict(given)[0], "scores")
        if answer.shape[:1] != given.shape[:1]:
            raise NetworkFault(f"The network answered {given.shape} with {answer.shape}.")
        rows.append(answer.reshape(len(given), -1))
    return np.concatenate(rows)


def _labelled(
    network: SiteNetwork, windows: Windows, values: Floats, seconds: float
) -> list[Finding]:
    output = network.manifest.output
    pooled = values.max(axis=0) if output.pool == "max" else values.mean(axis=0)
    findings = []
    for label in network.labels:
        if label.index >= len(pooled):
            raise NetworkFault(f"The network has {len(pooled)} outputs, none for {label.label}.")
        finding = decided(label, float(pooled[label.index]), output.threshold)
        if finding.presence is Presence.ABSENT and not label.report_absent:
            continue
        spans: tuple[WaveformSpan, ...] = ()
        if finding.presence is not Presence.ABSENT:
            spans = _spans(label, windows, values[:, label.index], output.threshold, seconds)
        findings.append(replace(finding, spans=spans))
    return findings


def _spans(
    label: Label, windows: Windows, values: Floats, threshold: float, seconds: float
) -> tuple[WaveformSpan, ...]:
    """Return the stretches in which the label is there; windows that touch are one stretch."""
    least = threshold if label.threshold is None else label.threshold
    spans: list[list[float]] = []
    for start, value in zip(windows.starts_s, values.tolist(), strict=True):
        if value < least:
            continue
        end = min(start + seconds, windows.duration_s)
        if spans and start <= spans[-1][1] + 1e-6:
            spans[-1][1] = end
        else:
            spans.append([start, end])
    return tuple(WaveformSpan(windows.group, windows.channel, *one) for one in spans)
