"""Intervals come from labels whose truth is known, and only when they are sound."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.ecg_atrial_fibrillation import codes
from pipelines.ecg_atrial_fibrillation.codec import Wave
from pipelines.ecg_atrial_fibrillation.intervals import delineate, intervals, rate

BEAT_MS = 800


def labels(beats: int = 12, *, p: bool = True, t: bool = True, scatter_ms: int = 0) -> np.ndarray:
    """P 0-100 ms, QRS 160-250 ms, T 400-540 ms of each beat: PR 160, QRS 90, QT 380 ms."""
    random = np.random.default_rng(0)
    waves = np.zeros(beats * BEAT_MS // 2, dtype=np.uint8)
    for index in range(beats):
        start = index * BEAT_MS // 2
        shift = int(random.integers(-scatter_ms, scatter_ms + 1)) // 2
        if p:
            waves[max(0, start + shift) : start + 50 + shift] = Wave.P
        waves[start + 80 : start + 125] = Wave.QRS
        if t:
            waves[start + 200 : start + 270] = Wave.T
    return waves


def measured(waves: np.ndarray) -> dict[str, float]:
    found = intervals(delineate(waves), mean_rr_s=0.64)
    return {measurement.name.value: measurement.value for measurement in found}


def test_intervals_are_those_of_the_labels():
    assert measured(labels()) == pytest.approx(
        {
            codes.PR_INTERVAL.value: 160.0,
            codes.QRS_DURATION.value: 90.0,
            codes.QT_INTERVAL.value: 380.0,
            codes.QTC_BAZETT.value: 475.0,  # 380 / 0.64 ** (1 / 2)
            codes.QTC_FRIDERICIA.value: 440.9,  # 380 / 0.64 ** (1 / 3)
        },
        abs=0.1,
    )


@pytest.mark.parametrize(
    ("waves", "missing"),
    [
        (labels(p=False), {codes.PR_INTERVAL.value}),
        (labels(scatter_ms=70), {codes.PR_INTERVAL.value}),
        (
            labels(t=False),
            {codes.QT_INTERVAL.value, codes.QTC_BAZETT.value, codes.QTC_FRIDERICIA.value},
        ),
    ],
    ids=["no P", "P wanders", "no T"],
)
def test_an_interval_that_is_not_sound_is_not_reported(waves, missing):
    assert measured(labels()).keys() - measured(waves).keys() == missing


def test_four_beats_are_too_few_for_any_interval():
    assert not measured(labels(beats=4))


def test_flicker_is_not_a_beat():
    waves = labels()
    waves[300:310] = Wave.QRS  # 20 ms
    assert len(delineate(waves)) == 12


def test_the_rate_spans_no_gap_and_counts_no_beat_twice():
    before, after = np.arange(0, 5000, 400), np.arange(50_000, 55_000, 400)
    twice = np.sort(np.append(before, 804))  # two windows, one beat
    heart_rate, rr = rate([twice, after])
    assert heart_rate.value == pytest.approx(75.0, rel=0.01)
    assert rr.value == pytest.approx(800.0, rel=0.01)


def test_too_few_beats_have_no_rate():
    assert rate([np.array([0, 400, 800])]) == ()
