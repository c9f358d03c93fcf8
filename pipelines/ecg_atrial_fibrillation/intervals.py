"""Waves, heart rate and intervals: medians over beats, given only where they are sound."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipelines.contract import Code, Measurement
from pipelines.ecg_atrial_fibrillation import codes
from pipelines.ecg_atrial_fibrillation.codec import Wave
from pipelines.ecg_atrial_fibrillation.windows import SAMPLING_HZ

if TYPE_CHECKING:
    from collections.abc import Sequence

SHORTEST_WAVE_MS = 40.0
"""Shorter runs of a label are flicker, not a P, QRS or T wave."""
LONGEST_PR_MS = 400.0
LONGEST_QT_MS = 650.0
REFRACTORY_S = 0.2
"""Two windows may place the same beat a few milliseconds apart; no heart beats twice in 0.2 s."""

FEWEST_BEATS = 5
MOST_SCATTER_MS = 20.0
"""Median absolute deviation. The codec's own median timing error is 11 ms (openecg's card)."""
LEAST_SHARE = 0.7
"""Of all beats, that many must have the wave."""


@dataclass(frozen=True)
class Beat:
    """One QRS complex and the waves that belong to it, in samples at 500 Hz."""

    qrs_onset: int
    qrs_end: int
    p_onset: int | None
    t_end: int | None

    def later(self, samples: int) -> Beat:
        """Return the beat with all positions moved."""
        return replace(
            self,
            qrs_onset=self.qrs_onset + samples,
            qrs_end=self.qrs_end + samples,
            p_onset=None if self.p_onset is None else self.p_onset + samples,
            t_end=None if self.t_end is None else self.t_end + samples,
        )


def qrs_centres(waves: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return the middles of the QRS complexes among per-sample labels."""
    return np.array([(start + end) // 2 for start, end in _spans(waves, Wave.QRS)], dtype=np.int64)


def delineate(waves: npt.NDArray[np.uint8]) -> tuple[Beat, ...]:
    """Return the beats in per-sample labels; a P or T is a beat's own if it is near enough."""
    complexes = _spans(waves, Wave.QRS)
    p_waves, t_waves = _spans(waves, Wave.P), _spans(waves, Wave.T)
    found = []
    for index, (onset, end) in enumerate(complexes):
        previous = complexes[index - 1][1] if index else 0
        following = complexes[index + 1][0] if index + 1 < len(complexes) else waves.shape[0]
        earliest = max(previous, onset - _samples(LONGEST_PR_MS))
        latest = min(following, onset + _samples(LONGEST_QT_MS))
        p_onsets = [start for start, stop in p_waves if earliest <= start and stop <= onset]
        t_ends = [stop for start, stop in t_waves if end <= start and stop <= latest]
        found.append(
            Beat(
                qrs_onset=onset,
                qrs_end=end,
                p_onset=p_onsets[-1] if p_onsets else None,
                t_end=t_ends[0] if t_ends else None,
            )
        )
    return tuple(found)


def _spans(waves: npt.NDArray[np.uint8], wave: Wave) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], waves == wave, [False]]))).tolist()
    shortest = _samples(SHORTEST_WAVE_MS)
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= shortest]


def rate(stretches: Sequence[npt.NDArray[np.int64]]) -> tuple[Measurement, ...]:
    """Return the mean heart rate and RR interval, or nothing when there are too few beats.

    Args:
        stretches: R peaks of each unbroken stretch, at 500 Hz; no interval spans two of them.
    """
    intervals_s = np.array([gap for peaks in stretches for gap in np.diff(peaks)]) / SAMPLING_HZ
    intervals_s = intervals_s[intervals_s >= REFRACTORY_S]
    if intervals_s.size < FEWEST_BEATS - 1:
        return ()
    mean_s = float(intervals_s.mean())
    return (
        Measurement(codes.HEART_RATE, 60.0 / mean_s, "/min"),
        Measurement(codes.RR_INTERVAL, mean_s * 1000.0, "ms"),
    )


def intervals(beats: Sequence[Beat], mean_rr_s: float) -> tuple[Measurement, ...]:
    """Return PR, QRS, QT and the two QTc, each only if it is sound."""
    pr = [beat.qrs_onset - beat.p_onset for beat in beats if beat.p_onset is not None]
    qt = [beat.t_end - beat.qrs_onset for beat in beats if beat.t_end is not None]
    found = [
        *_sound(codes.PR_INTERVAL, pr, len(beats)),
        *_sound(codes.QRS_DURATION, [b.qrs_end - b.qrs_onset for b in beats], len(beats)),
    ]
    for measured in _sound(codes.QT_INTERVAL, qt, len(beats)):
        bazett = measured.value / mean_rr_s**0.5
        fridericia = measured.value / mean_rr_s ** (1 / 3)
        found += [
            measured,
            Measurement(codes.QTC_BAZETT, bazett, "ms"),
            Measurement(codes.QTC_FRIDERICIA, fridericia, "ms"),
        ]
    return tuple(found)


def _sound(name: Code, lengths: Sequence[int], beats: int) -> tuple[Measurement, ...]:
    values_ms = np.array(lengths) * (1000.0 / SAMPLING_HZ)
    if len(lengths) < max(FEWEST_BEATS, LEAST_SHARE * beats):
        return ()
    median_ms = float(np.median(values_ms))
    if np.median(np.abs(values_ms - median_ms)) > MOST_SCATTER_MS:
        return ()
    return (Measurement(name, median_ms, "ms"),)


def _samples(milliseconds: float) -> int:
    return round(milliseconds / 1000.0 * SAMPLING_HZ)
