"""From windows to the rhythm of a whole recording: bands, calls, episodes."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipelines.ecg_atrial_fibrillation import quality
from pipelines.ecg_atrial_fibrillation.codec import Codec, Rhythm
from pipelines.ecg_atrial_fibrillation.intervals import Beat, delineate, qrs_centres
from pipelines.ecg_atrial_fibrillation.windows import GUARD, SAMPLING_HZ, WINDOW, Window, windows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EPISODE_S = 30.0
"""Atrial fibrillation on a single-lead tracing counts from 30 s on, or when it fills the tracing
(2020 ESC guidelines, Hindricks et al., Eur Heart J 2021;42:373-498, section 3)."""


class Call(enum.Enum):
    """What a band is, to this pipeline."""

    FIBRILLATION = "fibrillation"
    SINUS = "sinus"
    OTHER = "other"
    UNDECIDED = "undecided"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Band:
    """The part of the recording that one window speaks for. Positions at 500 Hz.

    Attributes:
        first: Where it begins.
        end: Where the next one begins.
        fault: Why it could not be read, or None.
        probabilities: Mean of each ``Rhythm`` outside the window's guards, shape (6,).
        fibrillation: Probability of atrial fibrillation at each sample of the band.
        peaks: R peaks in the band.
        beats: Its QRS complexes with their waves.
    """

    first: int
    end: int
    fault: str | None
    probabilities: npt.NDArray[np.float32]
    fibrillation: npt.NDArray[np.float32]
    peaks: npt.NDArray[np.int64]
    beats: tuple[Beat, ...]

    @property
    def call(self) -> Call:
        """The class more likely than all others together; undecided when there is none.

        "Paced" is never believed: its recall on confirmed pacing was 0.02 (openecg's card).
        """
        if self.fault:
            return Call.UNREADABLE
        leading = self.leading
        if leading is Rhythm.PACED or self.probabilities[leading] < 0.5:
            return Call.UNDECIDED
        known = {Rhythm.ATRIAL_FIBRILLATION: Call.FIBRILLATION, Rhythm.SINUS: Call.SINUS}
        return known.get(leading, Call.OTHER)

    @property
    def leading(self) -> Rhythm:
        """The most likely rhythm."""
        return Rhythm(int(self.probabilities.argmax()))


@dataclass(frozen=True)
class Episode:
    """One stretch of atrial fibrillation, in samples at 500 Hz, and the bands it touches."""

    first: int
    end: int
    bands: tuple[Band, ...]

    @property
    def duration_s(self) -> float:
        """Seconds from onset to offset."""
        return (self.end - self.first) / SAMPLING_HZ


def read_bands(
    lead_mv: npt.NDArray[np.float32], sampling_hz: float, codec: Codec
) -> tuple[Band, ...]:
    """Read a lead, band after band; together they cover the recording."""
    return tuple(_band(window, sampling_hz, codec) for window in windows(lead_mv, sampling_hz))


def _band(window: Window, sampling_hz: float, codec: Codec) -> Band:
    fault = quality.fault(window.recorded_mv, sampling_hz)
    if not fault:
        reading = codec.read(window.samples_mv)
        peaks = quality.beats(window.samples_mv)
        if quality.agreement(peaks, qrs_centres(reading.waves)) < quality.AGREEMENT:
            fault = "noise (two beat detectors disagree)"
    if fault:
        return Band(
            first=window.keep_from,
            end=window.keep_to,
            fault=fault,
            probabilities=np.zeros(len(Rhythm), dtype=np.float32),
            fibrillation=np.zeros(window.keep_to - window.keep_from, dtype=np.float32),
            peaks=np.empty(0, dtype=np.int64),
            beats=(),
        )
    kept = slice(window.keep_from - window.first, window.keep_to - window.first)
    inner = reading.rhythm[GUARD : WINDOW - GUARD]
    return Band(
        first=window.keep_from,
        end=window.keep_to,
        fault=None,
        probabilities=inner.mean(axis=0),
        fibrillation=reading.rhythm[kept, Rhythm.ATRIAL_FIBRILLATION],
        peaks=peaks[(peaks >= kept.start) & (peaks < kept.stop)] + window.first,
        beats=tuple(
            beat.later(window.first)
            for beat in delineate(reading.waves)
            if kept.start <= beat.qrs_onset < kept.stop
        ),
    )


def episodes(bands: Sequence[Band]) -> tuple[Episode, ...]:
    """Return the stretches of atrial fibrillation, with onset and offset between bands refined.

    A single band that could not be read or decided does not end an episode that goes on
    behind it.
    """
    calls = [band.call for band in bands]
    inside = [
        call is Call.FIBRILLATION
        or (
            call in {Call.UNDECIDED, Call.UNREADABLE}
            and 0 < k < len(calls) - 1
            and calls[k - 1] is calls[k + 1] is Call.FIBRILLATION
        )
        for k, call in enumerate(calls)
    ]
    found = []
    for first, last in _runs(inside):
        before = bands[first - 1] if first else None
        after = bands[last + 1] if last + 1 < len(bands) else None
        found.append(
            Episode(
                first=_onset(before, bands[first]),
                end=_offset(bands[last], after),
                bands=tuple(bands[first : last + 1]),
            )
        )
    return tuple(found)


def _runs(flags: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Yield first and last index of each run of true values."""
    for flag, run in groupby(range(len(flags)), key=flags.__getitem__):
        if flag:
            indices = list(run)
            yield indices[0], indices[-1]


def _onset(before: Band | None, band: Band) -> int:
    """Return the change point from other to fibrillation in two neighbouring bands.

    It is where the sum of (1/2 - p) before and (p - 1/2) behind is largest: the best place for
    one single step.
    """
    if before is None or before.fault:
        return band.first
    return before.first + int(_evidence(before, band).argmin())


def _offset(band: Band, after: Band | None) -> int:
    """Return the change point from fibrillation to other, as ``_onset``."""
    if after is None or after.fault:
        return band.end
    return band.first + int(_evidence(band, after).argmax())


def _evidence(first: Band, second: Band) -> npt.NDArray[np.float64]:
    probabilities = np.concatenate([first.fibrillation, second.fibrillation])
    return np.concatenate([[0.0], np.cumsum(probabilities.astype(np.float64) - 0.5)])
