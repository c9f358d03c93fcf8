"""What makes ten seconds of a lead unfit to be read, in words for the report."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipelines.ecg_atrial_fibrillation.windows import SAMPLING_HZ

MISSING_S = 0.2
"""A longer gap hides a whole QRS complex, and so makes a regular rhythm look irregular."""
LEAST_MV = 0.1
"""Under this there is no deflection to speak of (openecg 0.11.0 flags the same)."""
MOST_MV = 20.0
"""Four times the +-5 mV that IEC 60601-2-25 wants recorded: artefact, or a wrong gain."""
FLAT_MV = 0.02
FLAT_S = 2.0
CLIPPED = 0.05
"""Share of samples at the very top or bottom of the window: the amplifier was at its rail."""
AGREEMENT = 0.8
"""Two beat detectors must find the same beats (bSQI of Li, Mark and Clifford 2008, Physiol Meas
29:15-32, as F1). The model card says what separates at this value."""
_SAME_BEAT_S = 0.08
"""An R peak may lie that far from the middle of its QRS when the QRS is as wide as 160 ms."""


def fault(recorded_mv: npt.NDArray[np.float32], sampling_hz: float) -> str | None:
    """Return what is wrong with a stretch as recorded, or None."""
    missing = np.isnan(recorded_mv)
    if missing.sum() > MISSING_S * sampling_hz:
        return "samples missing"
    signal = recorded_mv[~missing]
    low, high = np.percentile(signal, (0.5, 99.5))
    if high - low < LEAST_MV:
        return f"no signal (under {LEAST_MV} mV; lead off?)"
    if high - low > MOST_MV:
        return f"amplitude over {MOST_MV:.0f} mV"
    if np.mean((signal == signal.min()) | (signal == signal.max())) >= CLIPPED:
        return "saturated amplifier"
    if _flat(signal, sampling_hz):
        return f"flat line for {FLAT_S:.0f} s or more"
    return None


def _flat(signal: npt.NDArray[np.float32], sampling_hz: float) -> bool:
    """Whether the signal keeps within FLAT_MV for FLAT_S, in steps of a tenth of a second."""
    step = max(1, round(sampling_hz / 10))
    blocks = signal[: signal.shape[0] // step * step].reshape(-1, step)
    count = round(FLAT_S * 10)
    if blocks.shape[0] < count:
        return False
    lows = np.lib.stride_tricks.sliding_window_view(blocks.min(axis=1), count).min(axis=1)
    highs = np.lib.stride_tricks.sliding_window_view(blocks.max(axis=1), count).max(axis=1)
    return bool((highs - lows < FLAT_MV).any())


def beats(samples_mv: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return the positions of the QRS complexes, by openecg's gradient detector.

    The 5-20 Hz band, where a QRS has most of its energy, keeps noise from hiding beats.
    """
    from openecg.dsp import butter, filtfilt  # noqa: PLC0415 - not on a listener-only host
    from openecg.qrs import detect_qrs  # noqa: PLC0415 - ditto

    numerator, denominator = butter(2, [5 / (SAMPLING_HZ / 2), 20 / (SAMPLING_HZ / 2)], "band")
    band = filtfilt(numerator, denominator, samples_mv.astype(np.float64))
    return np.asarray(detect_qrs(band, SAMPLING_HZ), dtype=np.int64)


def agreement(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> float:
    """Return the F1 of two lists of beat positions, in 0..1; 0.0 when one is empty."""
    if not first.size or not second.size:
        return 0.0
    apart = np.abs(first[:, None] - second[None, :])
    same = (apart.min(axis=1) <= _SAME_BEAT_S * SAMPLING_HZ).sum()
    return min(1.0, 2.0 * float(same) / (first.size + second.size))
