"""Whole heart beats in a clip: end diastole and end systole by the area within the outline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from pipelines.contract import CouldNotLook

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

_SMOOTH_S = 0.1
"""Own choice: shorter than systole, longer than the jitter of outlines."""
_UNTIMED = 3
"""Frames of the same, where nobody says how long one takes."""
SLOWEST, FASTEST = 30.0, 240.0
"""Beats a minute."""
_REPEATED = 0.5
"""Correlation of the curve with itself a beat later, from which on it is called periodic."""
_RETURNS = 0.7
"""How much of its fall a curve rises again before it is one whole beat."""
_STILL = 0.04
"""Own limit: an area that changes by less is that of a still image."""
_RESTLESS = 0.15
"""Own limit: of the whole change, what the curve may differ from its smooth self (root mean
square)."""
FEWEST_FRAMES: Final = 8


class Beat(NamedTuple):
    """One beat: the frames of largest and of smallest area."""

    diastole: int
    systole: int


class Cycle(NamedTuple):
    """The beats of a clip.

    Attributes:
        beats: At least one, in order.
        smooth: The area curve that they were read from, shape (frames,).
        period: Frames of one beat.
        by_header: The period is the header's heart rate, not the curve's own.
    """

    beats: tuple[Beat, ...]
    smooth: Floats
    period: float
    by_header: bool


def find_beats(area: Floats, frame_s: float | None, heart_rate: float | None) -> Cycle:
    """Return the whole beats of an area curve.

    Args:
        area: Shape (frames,), in any unit; without gaps.
        frame_s: Seconds from one frame to the next, where the object tells.
        heart_rate: Beats a minute as the header says, where it does.

    Raises:
        CouldNotLook: The clip is shorter than a beat, still, or the outline flickers.
    """
    if area.size < FEWEST_FRAMES:
        raise CouldNotLook(f"The clip has {area.size} frames, fewer than a heart beat needs.")
    smooth = _smoothed(area, _UNTIMED if frame_s is None else round(_SMOOTH_S / frame_s))
    change = float(np.ptp(smooth))
    if change < _STILL * float(smooth.max()):
        raise CouldNotLook("The ventricle does not change its size in this clip: no beat is seen.")
    if float(np.sqrt(np.mean((area - smooth) ** 2))) > _RESTLESS * change:
        raise CouldNotLook("The outline of the ventricle flickers from frame to frame.")
    period, by_header = _period(smooth, frame_s, heart_rate)
    if period is None:
        return _single_beat(smooth)
    if area.size < 0.9 * period:
        raise CouldNotLook("The clip is shorter than one heart beat.")
    beats = tuple(_beats(smooth, period))
    if not beats:
        raise CouldNotLook("No whole heart beat is seen in this clip.")
    return Cycle(beats, smooth, period, by_header)


def _smoothed(area: Floats, width: int) -> Floats:
    """Return a mean weighted by a triangle; the ends are extended by their own value."""
    reach = max(1, width)
    kernel = np.bartlett(2 * reach + 1)[1:-1] if reach > 1 else np.ones(1)
    padded = np.pad(area, len(kernel) // 2, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def _period(
    smooth: Floats, frame_s: float | None, heart_rate: float | None
) -> tuple[float | None, bool]:
    """Return the frames of one beat, and whether the header had to say it."""
    shortest, longest = 6, int(0.7 * smooth.size)
    if frame_s is not None:
        shortest = max(shortest, int(60.0 / FASTEST / frame_s))
        longest = min(longest, int(60.0 / SLOWEST / frame_s))
    centred = smooth - smooth.mean()
    lags = np.arange(shortest, longest + 1)
    alike = np.array([_alike(centred, int(lag)) for lag in lags])
    peaks = [
        place
        for place in range(1, alike.size - 1)
        if alike[place] >= _REPEATED and alike[place - 1] < alike[place] >= alike[place + 1]
    ]
    if peaks:
        # The first of nearly equal peaks: two beats repeat as well as one.
        best = max(alike[place] for place in peaks)
        return float(lags[next(place for place in peaks if alike[place] > 0.85 * best)]), False
    if heart_rate is not None and frame_s is not None and SLOWEST <= heart_rate <= FASTEST:
        return 60.0 / heart_rate / frame_s, True
    return None, False


def _alike(centred: Floats, lag: int) -> float:
    """Return how a curve correlates with itself some frames later."""
    before, after = centred[:-lag], centred[lag:]
    size = float(np.sqrt((before**2).sum() * (after**2).sum()))
    return float((before * after).sum()) / max(size, 1e-12)


def _beats(smooth: Floats, period: float) -> list[Beat]:
    """Return each smallest area with the largest one before it, less than a beat apart.

    A beat that the clip begins within counts only where there is no other: its largest area may
    have been before.
    """
    low, change = float(smooth.min()), float(np.ptp(smooth))
    taken = np.zeros(smooth.size, np.bool_)
    beats = []
    for frame in np.argsort(smooth, kind="stable").tolist():
        if smooth[frame] > low + 0.35 * change:
            break
        if taken[frame]:
            continue
        reach = int(0.6 * period)
        taken[max(0, frame - reach) : frame + reach + 1] = True
        before = smooth[max(0, frame - int(0.9 * period)) : frame]
        # A systole that the clip ends in may go on behind it.
        if not before.size or frame in (0, smooth.size - 1):
            continue
        largest = frame - before.size + int(before.argmax())
        if smooth[largest] - smooth[frame] >= _RETURNS * change:
            beats.append(Beat(largest, frame))
    whole = [beat for beat in beats if beat.diastole > 0]
    return sorted(whole or beats)


def _single_beat(smooth: Floats) -> Cycle:
    """Return the one beat of a clip that was cut to one.

    Raises:
        CouldNotLook: The curve does not fall and rise again.
    """
    lowest = int(smooth.argmin())
    before, after = smooth[: lowest + 1], smooth[lowest:]
    largest, next_largest = int(before.argmax()), lowest + int(after.argmax())
    change = float(np.ptp(smooth))
    if min(smooth[largest], smooth[next_largest]) - smooth[lowest] < _RETURNS * change:
        raise CouldNotLook("The clip shows less than one whole heart beat.")
    return Cycle((Beat(largest, lowest),), smooth, float(next_largest - largest), by_header=False)
