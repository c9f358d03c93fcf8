"""How much noise there is in the tissue of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW_PX = 7
"""Side of the square in which the spread of values is taken."""

FEWEST_PX = 400
"""With less tissue than this a slice tells nothing of its noise."""

_LARGEST_OF_MEDIAN = 3.0
_BINS = 96
_NORMAL_QUARTILE = 0.6745
"""Median of the absolute value of a standard normal number."""

FloatImage = npt.NDArray[np.float32]


def noise_level(image: FloatImage, tissue: Callable[[FloatImage], npt.NDArray[np.bool_]]) -> float:
    """Return the standard deviation of the noise in one slice.

    The most frequent of the local standard deviations over tissue: where anatomy varies, they are
    larger, and there are fewer of each.

    Args:
        image: Shape (rows, columns).
        tissue: Says of the local means which are tissue.

    Returns:
        In the image's unit; 0.0 where it shows too little tissue to tell.

    Source: Christianson et al. 2015, AJR 205:W93-W99 (global noise level).
    """
    values = image.astype(np.float64)
    mean = _box_mean(values)
    variance = np.maximum(_box_mean(values * values) - mean * mean, 0.0)
    samples = WINDOW_PX * WINDOW_PX
    spread = np.sqrt(variance * samples / (samples - 1))
    own = spread[tissue(mean.astype(np.float32))]
    own = own[own > 0.0]
    if own.size < FEWEST_PX:
        return 0.0
    counts, edges = np.histogram(
        own, bins=_BINS, range=(0.0, _LARGEST_OF_MEDIAN * float(np.median(own)))
    )
    smooth = np.convolve(counts, np.hanning(9)[1:-1], mode="same")
    highest = int(np.argmax(smooth))
    return float((edges[highest] + edges[highest + 1]) / 2.0)


def fine_level(image: FloatImage, tissue: Callable[[FloatImage], npt.NDArray[np.bool_]]) -> float:
    """Return the standard deviation of the noise in one slice whose tissue is full of structure.

    From the median of the finest diagonal details, which anatomy has few of; noise that was
    interpolated has fewer, too, and is told as less than it is.

    Args:
        image: Shape (rows, columns).
        tissue: Says of the local means which are tissue.

    Returns:
        In the image's unit; 0.0 where it shows too little tissue to tell.

    Source: Donoho and Johnstone 1994, Biometrika 81:425-455.
    """
    values = image.astype(np.float64)
    above, below = values[:-1], values[1:]
    detail = (above[:, :-1] - above[:, 1:] - below[:, :-1] + below[:, 1:]) / 2.0
    mean = (above[:, :-1] + above[:, 1:] + below[:, :-1] + below[:, 1:]) / 4.0
    own = np.abs(detail[tissue(mean.astype(np.float32))])
    return float(np.median(own)) / _NORMAL_QUARTILE if own.size >= FEWEST_PX else 0.0


def noise_levels(
    voxels: FloatImage, level: Callable[[FloatImage], float]
) -> npt.NDArray[np.float64]:
    """Return the noise of each slice: the median of its own level and its neighbours'.

    Args:
        voxels: Shape (slices, rows, columns).
        level: Of one slice; 0.0 where it does not tell.

    Returns:
        Shape (slices,); all 0.0 where no slice shows enough tissue.
    """
    own = np.array([level(plane) for plane in voxels])
    known = np.flatnonzero(own)
    if not known.size:
        return own
    # A slice without tissue has the noise of those nearest to it.
    filled = np.interp(np.arange(len(own)), known, own[known])
    padded = np.pad(filled, 2, mode="edge")
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1))


def _box_mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the mean of every whole window, shape smaller by ``WINDOW_PX - 1``."""
    if min(values.shape) < WINDOW_PX:
        return np.empty((0, 0))
    total = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    k = WINDOW_PX
    whole = total[k:, k:] - total[:-k, k:] - total[k:, :-k] + total[:-k, :-k]
    return np.asarray(whole / (k * k))
