"""Windows cover a recording without gap or overlap, and resampling neither bends nor aliases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.ecg_atrial_fibrillation.windows import (
    GUARD,
    SAMPLING_HZ,
    WINDOW,
    resample,
    windows,
)

TIMES_S = np.arange(WINDOW) / SAMPLING_HZ


def sine(hertz: float, sampling_hz: float, seconds: float = 10.0) -> np.ndarray:
    times_s = np.arange(round(seconds * sampling_hz)) / sampling_hz
    return np.sin(2 * np.pi * hertz * times_s).astype(np.float32)


@pytest.mark.parametrize("sampling_hz", [128.0, 200.0, 250.0, 257.3, 360.0, 500.0, 1000.0, 8000.0])
def test_a_sine_keeps_frequency_phase_and_height_at_any_rate(sampling_hz):
    resampled = resample(sine(20.0, sampling_hz), sampling_hz, TIMES_S)
    inner = slice(100, -100)  # the mirrored ends are not the sine
    assert resampled[inner] == pytest.approx(np.sin(2 * np.pi * 20 * TIMES_S)[inner], abs=0.01)


def test_a_lead_at_500_hz_comes_back_unchanged():
    signal = sine(7.0, 500.0)
    assert resample(signal, 500.0, TIMES_S) == pytest.approx(signal, abs=1e-6)


def test_what_500_hz_cannot_carry_is_removed_not_folded_back():
    folded = resample(sine(400.0, 1000.0), 1000.0, TIMES_S)  # would come back as 100 Hz
    assert np.abs(folded[100:-100]).max() < 0.01


@settings(deadline=None, max_examples=40)
@given(
    seconds=st.floats(9.0, 65.0),
    sampling_hz=st.sampled_from([100.0, 128.0, 200.0, 257.3, 500.0, 1000.0]),
)
def test_the_kept_parts_abut_and_lie_outside_the_guards(seconds, sampling_hz):
    lead = np.zeros(round(seconds * sampling_hz), dtype=np.float32)
    found = list(windows(lead, sampling_hz))
    length = round(lead.size / sampling_hz * SAMPLING_HZ)
    assert [w.keep_from for w in found] == [0, *(w.keep_to for w in found[:-1])]
    assert found[-1].keep_to == length
    for window in found:
        end = window.first + window.samples_mv.size
        assert window.samples_mv.size == min(WINDOW, length)
        assert window.keep_from == 0 or window.keep_from >= window.first + GUARD
        assert window.keep_to == length or window.keep_to <= end - GUARD


def test_a_window_of_a_long_recording_is_the_same_as_that_stretch_alone():
    signal = sine(3.0, 200.0, seconds=60.0)
    window = list(windows(signal, 200.0))[4]
    start = window.first * 200 // SAMPLING_HZ
    alone = next(iter(windows(signal[start : start + 2000], 200.0)))
    assert window.samples_mv[50:-50] == pytest.approx(alone.samples_mv[50:-50], abs=1e-3)


def test_short_gaps_are_bridged_for_the_model_and_still_seen_as_missing():
    signal = sine(1.0, 500.0)
    signal[1000:1010] = np.nan
    (window,) = windows(signal, 500.0)
    assert not np.isnan(window.samples_mv).any()
    assert np.isnan(window.recorded_mv).sum() == 10
