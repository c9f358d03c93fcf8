"""Volume of the left ventricle from one apical view: the method of discs.

Source: Lang et al. 2015, J Am Soc Echocardiogr 28:1-39, section I.B: the sum of 20 discs of equal
height along the long axis, from the middle of the mitral annulus to the apex, each as round as
its diameter is wide. One plane tells nothing of the other diameter: a ventricle that is not round
across has another volume.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from pipelines.outline import Points

DISCS: Final = 20
_LINES = 8
"""On which the width of one disc is measured."""
_END = 0.08
"""Part of the length within which the outline is the base."""


class LongAxis(NamedTuple):
    """From the middle of the base to the apex, each (x, y)."""

    base: npt.NDArray[np.float64]
    apex: npt.NDArray[np.float64]


class Measured(NamedTuple):
    """What the discs tell of one frame, in millimetres, or in pixels where they have no size.

    Attributes:
        volume: Of all discs.
        length: Of the long axis.
        width: Diameter of the widest disc.
    """

    volume: float
    length: float
    width: float


def long_axis(outline: Points) -> LongAxis:
    """Return the long axis of an outline whose apex is nearer to the transducer.

    The base is the far end along the axis of largest spread, where the mitral annulus cuts the
    outline off; the apex is the point that is farthest from its middle (Lang et al. 2015). Apical
    views show the transducer, and so the apex, at the top (ibid., section I).

    Args:
        outline: Closed, shape (n, 2): (x, y), of one unit along both.
    """
    points = _evenly(outline)
    centred = points - points.mean(axis=0)
    axis = np.linalg.svd(centred, full_matrices=False)[2][0]
    axis = axis if axis[1] > 0.0 else -axis  # down, towards the base
    along = centred @ axis
    base = points[along > along.max() - _END * np.ptp(along)]
    across = (base - points.mean(axis=0)) @ np.array([-axis[1], axis[0]])
    middle = points.mean(axis=0) + along.max() * axis
    middle = middle + np.array([-axis[1], axis[0]]) * (across.min() + across.max()) / 2.0
    far = points[along < 0.0]
    apex = far[np.hypot(*(far - middle).T).argmax()]
    return LongAxis(middle, apex)


def method_of_discs(outline: Points, spacing_mm: tuple[float, float] | None = None) -> Measured:
    """Return the volume within an outline turned about its long axis.

    Args:
        outline: Closed, shape (n, 2): (column, row) in pixels.
        spacing_mm: Between (rows, columns). None: pixels are as high as wide, and the unit.
    """
    if spacing_mm is not None:
        outline = outline * np.array(spacing_mm[::-1])
    base, apex = long_axis(outline)
    axis = (apex - base) / np.hypot(*(apex - base))
    relative = outline - base
    along, across = relative @ axis, relative @ np.array([-axis[1], axis[0]])
    low, high = float(along.min()), float(along.max())
    height = (high - low) / DISCS
    lines = low + (np.arange(DISCS * _LINES) + 0.5) * height / _LINES
    widths = np.array([_chord(along, across, at) for at in lines]).reshape(DISCS, _LINES)
    diameters = widths.mean(axis=1)
    volume = float((np.pi / 4.0 * diameters**2 * height).sum())
    return Measured(volume, float(np.hypot(*(apex - base))), float(diameters.max()))


def _evenly(outline: Points) -> Points:
    """Return as many points at even distances along a closed outline."""
    along = np.concatenate(([0.0], np.cumsum(np.hypot(*np.diff(outline, axis=0).T))))
    places = np.linspace(0.0, along[-1], 512, endpoint=False)
    return np.column_stack([np.interp(places, along, outline[:, axis]) for axis in (0, 1)])


def _chord(along: npt.NDArray[np.float64], across: npt.NDArray[np.float64], at: float) -> float:
    """Return how much of the line across at ``at`` lies within the closed outline."""
    before, after = along[:-1] - at, along[1:] - at
    cuts = np.flatnonzero((before <= 0.0) != (after <= 0.0))
    share = before[cuts] / (before[cuts] - after[cuts])
    places = np.sort(across[cuts] + share * (across[cuts + 1] - across[cuts]))
    return float((places[1::2] - places[::2]).sum())
