"""Which stretch of a strip speaks for fibrillation, and which against it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from pipelines.contract import Chart, Curve
from pipelines.ecg_atrial_fibrillation.codec import Rhythm
from pipelines.ecg_atrial_fibrillation.windows import SAMPLING_HZ

if TYPE_CHECKING:
    from pipelines.ecg_atrial_fibrillation.codec import Reading

HIDDEN = SAMPLING_HZ
"""One second is hidden at a time: a beat with what is around it."""
STEP = SAMPLING_HZ // 2
_SMOOTH = SAMPLING_HZ // 2


class Reads(Protocol):
    """Anything that labels a window, such as ``codec.Codec``."""

    def read(self, samples_mv: npt.NDArray[np.float32]) -> Reading:
        """Label one window."""


@runtime_checkable
class HasGradients(Protocol):
    """A reader that knows its own gradients, as a torch network does."""

    def attribution(self, samples_mv: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return what each sample adds to the evidence of fibrillation."""


def saliency(samples_mv: npt.NDArray[np.float32], codec: Reads) -> npt.NDArray[np.float64]:
    """Return what each sample of a window adds to the call of fibrillation.

    By integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365) where the codec has
    them, otherwise by occlusion (Zeiler and Fergus 2014, arXiv:1311.2901): how much of the
    probability goes when a second is hidden. Then a mean over half a second, as a beat speaks
    as a whole.

    Args:
        samples_mv: float32, shape (samples,): at most one window, at 500 Hz.
        codec: What judged it. One that has no gradients runs once for every half second.

    Returns:
        float64, same shape: above 0 speaks for fibrillation, below 0 against it; the largest
        size is 1, or all are 0.
    """
    if isinstance(codec, HasGradients):
        raw = codec.attribution(samples_mv)
    else:
        raw = _occlusion(samples_mv, codec)
    smooth = np.convolve(raw, np.full(_SMOOTH, 1.0 / _SMOOTH), mode="same")
    largest = np.abs(smooth).max(initial=0.0)
    return np.asarray(smooth / largest if largest > 0 else smooth)


def _occlusion(samples_mv: npt.NDArray[np.float32], codec: Reads) -> npt.NDArray[np.float64]:
    """Hide one stretch after the other behind a straight line."""
    whole = _probability(samples_mv, codec)
    lost = np.zeros(samples_mv.shape[0])
    times = np.zeros(samples_mv.shape[0])
    for first in range(0, max(1, samples_mv.shape[0] - HIDDEN + 1), STEP):
        part = slice(first, first + HIDDEN)
        hidden = samples_mv.copy()
        hidden[part] = np.linspace(hidden[part][0], hidden[part][-1], hidden[part].size)
        lost[part] += whole - _probability(hidden, codec)
        times[part] += 1
    return np.asarray(lost / np.maximum(times, 1))


def _probability(samples_mv: npt.NDArray[np.float32], codec: Reads) -> float:
    return float(codec.read(samples_mv).rhythm[:, Rhythm.ATRIAL_FIBRILLATION].mean())


def chart(
    samples_mv: npt.NDArray[np.float32], values: npt.NDArray[np.float64], *, start_s: float = 0.0
) -> Chart:
    """Return a window and its saliency as one picture, for ``Result.charts``.

    Args:
        samples_mv: float32, shape (samples,), at 500 Hz.
        values: Of ``saliency``.
        start_s: When in the recording the window begins.
    """
    times_s = start_s + np.arange(samples_mv.shape[0]) / SAMPLING_HZ
    trace = samples_mv.astype(np.float64)
    return Chart(
        title="What speaks for fibrillation",
        x_title="time, s",
        y_title="lead, mV; saliency, of its largest",
        curves=(
            Curve("lead", times_s, trace),
            Curve("speaks for fibrillation (above 0) or against it", times_s, values),
        ),
    )
