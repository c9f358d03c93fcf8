"""A lead of any length and sampling rate, as the overlapping windows that the model takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLING_HZ = 500
WINDOW = 10 * SAMPLING_HZ
GUARD = 2 * SAMPLING_HZ
"""The model sees too little before and after the outer 2 s of a window to be believed there
(openecg 0.11.0, README, "2-s edge guard"). Windows overlap so that only the recording's own
ends lie in a guard."""

_CROSSINGS = 16
"""Zero crossings of the sinc on each side."""


@dataclass(frozen=True)
class Window:
    """Ten seconds of a lead. All positions are in samples at ``SAMPLING_HZ``.

    Attributes:
        first: Position of ``samples_mv[0]`` in the recording.
        keep_from: The window speaks for the recording from here ...
        keep_to: ... to here; the windows of a recording abut.
        samples_mv: float32, shape (WINDOW,), or fewer when the whole recording is shorter.
        recorded_mv: The same stretch as it was recorded; NaN where samples are missing.
    """

    first: int
    keep_from: int
    keep_to: int
    samples_mv: npt.NDArray[np.float32]
    recorded_mv: npt.NDArray[np.float32]


def resample(
    samples: npt.NDArray[np.float32], sampling_hz: float, times_s: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Return the values at ``times_s`` (0.0 is the first sample), free of aliasing.

    Hann-windowed sinc, low-pass at the lower of the two Nyquist frequencies; ends are mirrored.
    A lead sampled at ``SAMPLING_HZ`` comes back unchanged.
    """
    width = max(1.0, sampling_hz / SAMPLING_HZ)
    reach = _reach(sampling_hz)
    positions = times_s * sampling_hz
    indices = np.floor(positions).astype(np.int64)[:, None] + np.arange(1 - reach, reach + 1)
    offsets = (positions[:, None] - indices) / width
    weights = np.sinc(offsets) * np.cos(np.clip(offsets / _CROSSINGS, -1, 1) * np.pi / 2) ** 2
    weights /= weights.sum(axis=1, keepdims=True)
    last = samples.shape[0] - 1
    mirrored = np.clip(last - np.abs(last - np.abs(indices)), 0, last)
    return np.asarray((samples[mirrored] * weights).sum(axis=1), dtype=np.float32)


def windows(lead_mv: npt.NDArray[np.float32], sampling_hz: float) -> Iterator[Window]:
    """Yield the windows of a lead in order; the last one ends with the recording.

    Args:
        lead_mv: float32, shape (samples,); NaN where the recording has none. Short gaps are
            bridged by straight lines, long ones make ``quality.fault`` speak.
        sampling_hz: Samples per second of ``lead_mv``.
    """
    missing = np.isnan(lead_mv)
    bridged = lead_mv
    if missing.any() and not missing.all():
        at = np.arange(lead_mv.shape[0])
        bridged = np.interp(at, at[~missing], lead_mv[~missing]).astype(np.float32)
    length = round(lead_mv.shape[0] / sampling_hz * SAMPLING_HZ)
    margin = _reach(sampling_hz) + 1  # all that resampling one window needs, however long the lead
    keep_from = 0
    while keep_from < length:
        first = max(0, min(keep_from - GUARD, length - WINDOW))
        end = min(first + WINDOW, length)
        keep_to = length if end == length else end - GUARD
        times_s = np.arange(first, end) / SAMPLING_HZ
        low = max(0, math.floor(times_s[0] * sampling_hz) - margin)
        high = math.ceil(times_s[-1] * sampling_hz) + margin
        near_s = times_s - low / sampling_hz
        recorded = slice(
            round(first / SAMPLING_HZ * sampling_hz), round(end / SAMPLING_HZ * sampling_hz)
        )
        yield Window(
            first=first,
            keep_from=keep_from,
            keep_to=keep_to,
            samples_mv=resample(bridged[low:high], sampling_hz, near_s),
            recorded_mv=lead_mv[recorded],
        )
        keep_from = keep_to


def _reach(sampling_hz: float) -> int:
    """Recorded samples that the sinc spans on each side."""
    return math.ceil(_CROSSINGS * max(1.0, sampling_hz / SAMPLING_HZ))
