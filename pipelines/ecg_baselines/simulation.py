"""Simulated strips: rhythms that few recordings show, with a truth that is known.

A sum of Gaussians at every beat (after McSharry et al. 2003, IEEE Trans Biomed Eng 50:289-294),
with shapes, rates, irregularities and disturbances drawn at random. What learns from them is
trained on synthetic data, and says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipelines.ecg_atrial_fibrillation.windows import SAMPLING_HZ, WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable

    Signal = npt.NDArray[np.float64]

_DURATION_S = WINDOW / SAMPLING_HZ
_LEAD_IN_S = 2.0
_SHORTEST_RR_S = 0.28


def strip(random: np.random.Generator) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return ten seconds in millivolts at 500 Hz, and where they fibrillate.

    A sixth of the strips turns from one rhythm into the other.
    """
    turn_s = random.uniform(2.0, 8.0) if random.random() < 1 / 6 else 0.0
    first, then = random.permutation([True, False])
    times_s = np.arange(WINDOW) / SAMPLING_HZ
    fibrillating = np.where(times_s < turn_s, first, then)
    peaks_s, has_p, wide = _beats(random, turn_s, fibrillates_first=first, fibrillates_then=then)
    signal = _waves(random, times_s, peaks_s, has_p, wide)
    signal += np.where(fibrillating, _fibrillatory(random, times_s), 0.0)
    signal += _disturbance(random, times_s)
    return (signal * random.choice([-1, 1, 1, 1])).astype(np.float32), fibrillating


def _beats(
    random: np.random.Generator, turn_s: float, *, fibrillates_first: bool, fibrillates_then: bool
) -> tuple[Signal, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return the times of the R peaks, which beats have a P wave, and which are ventricular."""
    fibrillating, regular = (
        _fibrillation(random),
        _REGULAR[int(random.integers(len(_REGULAR)))](random),
    )
    peaks_s, has_p, wide = [-_LEAD_IN_S + random.uniform(0.0, 1.0)], [False], [False]
    while peaks_s[-1] < _DURATION_S + 1.0:
        now = fibrillates_first if peaks_s[-1] < turn_s else fibrillates_then
        spacing_s, ventricular = (fibrillating if now else regular)(peaks_s[-1])
        peaks_s.append(peaks_s[-1] + max(_SHORTEST_RR_S, spacing_s))
        has_p.append(not now and not ventricular)
        wide.append(ventricular)
    return np.array(peaks_s), np.array(has_p), np.array(wide)


Spacing = "Callable[[float], tuple[float, bool]]"
"""Time of a beat -> seconds to the next one, and whether that one is ventricular."""


def _fibrillation(random: np.random.Generator) -> Callable[[float], tuple[float, bool]]:
    mean_s, scatter = 60.0 / random.uniform(50.0, 160.0), random.uniform(0.14, 0.32)
    return lambda _: (mean_s * float(np.exp(scatter * random.standard_normal())), False)


def _sinus(random: np.random.Generator) -> Callable[[float], tuple[float, bool]]:
    """Sinus rhythm that follows the breath, up to marked sinus arrhythmia; slow hearts, more."""
    mean_s = 60.0 / random.uniform(38.0, 130.0)
    depth = random.uniform(0.0, 0.15 if mean_s < 0.9 else 0.25)
    breaths_hz, phase = random.uniform(0.12, 0.4), random.uniform(0.0, 2 * np.pi)
    jitter = random.uniform(0.003, 0.03)
    return lambda at_s: (
        mean_s
        * float(
            1.0
            + depth * np.sin(2 * np.pi * breaths_hz * at_s + phase)
            + jitter * random.standard_normal()
        ),
        False,
    )


def _ectopic(random: np.random.Generator) -> Callable[[float], tuple[float, bool]]:
    """Sinus rhythm with early beats, atrial or ventricular, and the pause behind each."""
    sinus, often = _sinus(random), random.uniform(0.08, 0.35)
    ventricular = bool(random.random() < 0.5)
    pause_s = 0.0

    def next_beat(at_s: float) -> tuple[float, bool]:
        nonlocal pause_s
        spacing_s, _ = sinus(at_s)
        if pause_s:
            spacing_s, pause_s = spacing_s + pause_s, 0.0
        elif random.random() < often:
            early_s = spacing_s * random.uniform(0.25, 0.45)
            pause_s = early_s if ventricular else early_s * random.uniform(0.1, 0.6)
            return spacing_s - early_s, ventricular
        return spacing_s, False

    return next_beat


def _dropping(random: np.random.Generator) -> Callable[[float], tuple[float, bool]]:
    """Sinus rhythm in which every few beats one is not conducted (second-degree block)."""
    sinus, every = _sinus(random), int(random.integers(2, 6))
    count = 0

    def next_beat(at_s: float) -> tuple[float, bool]:
        nonlocal count
        count += 1
        spacing_s, _ = sinus(at_s)
        return (2.0 * spacing_s if count % every == 0 else spacing_s), False

    return next_beat


_REGULAR = (_sinus, _sinus, _ectopic, _dropping)


def _waves(
    random: np.random.Generator,
    times_s: Signal,
    peaks_s: Signal,
    has_p: npt.NDArray[np.bool_],
    wide: npt.NDArray[np.bool_],
) -> Signal:
    """Return the beats in one random shape: P, Q, R, S and T, or a wide complex."""
    p_s, t_s = random.uniform(0.12, 0.24), random.uniform(0.2, 0.34)
    shape = (
        (-p_s, random.uniform(0.015, 0.03), random.uniform(0.04, 0.25) * random.choice([-1, 1, 1])),
        (-0.03, random.uniform(0.006, 0.012), -random.uniform(0.0, 0.25)),
        (0.0, random.uniform(0.008, 0.018), random.uniform(0.4, 1.8)),
        (0.03, random.uniform(0.007, 0.015), -random.uniform(0.0, 0.6)),
        (t_s, random.uniform(0.03, 0.07), random.uniform(0.05, 0.5) * random.choice([-1, 1, 1])),
    )
    ventricular = ((0.0, 0.04, random.uniform(0.8, 2.0)), (0.25, 0.07, -random.uniform(0.2, 0.6)))
    signal = np.zeros_like(times_s)
    for peak_s, with_p, is_wide in zip(peaks_s, has_p, wide, strict=True):
        for number, (centre_s, width_s, height_mv) in enumerate(ventricular if is_wide else shape):
            if number == 0 and not is_wide and not with_p:
                continue
            near = np.abs(times_s - peak_s - centre_s) < 5 * width_s
            z = (times_s[near] - peak_s - centre_s) / width_s
            signal[near] += height_mv * np.exp(-0.5 * z * z)
    return signal


def _fibrillatory(random: np.random.Generator, times_s: Signal) -> Signal:
    """Return the waves of the atria, 4 to 9 a second; often too small to be seen."""
    hertz, wander = random.uniform(4.0, 9.0), random.uniform(0.2, 1.5)
    phase = 2 * np.pi * hertz * times_s + wander * np.sin(2 * np.pi * 0.7 * times_s)
    return np.asarray(random.uniform(0.0, 0.12) * np.sin(phase + random.uniform(0.0, 6.3)))


def _disturbance(random: np.random.Generator, times_s: Signal) -> Signal:
    """Return breath and movement, mains hum, and the noise of muscles."""
    wander = random.uniform(0.0, 0.3) * np.sin(
        2 * np.pi * random.uniform(0.05, 0.5) * times_s + random.uniform(0.0, 6.3)
    )
    mains = random.uniform(0.0, 0.03) * np.sin(2 * np.pi * 50.0 * times_s)
    return np.asarray(
        wander + mains + random.uniform(0.003, 0.06) * random.standard_normal(times_s.size)
    )
