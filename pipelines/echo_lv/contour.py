"""The outline of the ventricle in one frame, from a network's mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import SimpleITK

from pipelines.outline import enclosed_area, outlines

if TYPE_CHECKING:
    import numpy.typing as npt

    from pipelines.outline import Mask, Points

POINTS: Final = 128
_HARMONICS = 16
"""Own choice: an endocardium has no corner sharper than that of its base; what turns quicker are
steps of pixels."""
SMALLEST_PX: Final = 60
"""Own limit: below this many pixels nothing can be measured."""


def one_piece(mask: Mask) -> Mask:
    """Return the largest piece of a mask with its holes filled; empty if it is too small.

    Args:
        mask: bool, shape (rows, columns).
    """
    if mask.sum() < SMALLEST_PX:
        return np.zeros_like(mask)
    numbered = SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(mask.astype(np.uint8)))
    largest = SimpleITK.Equal(SimpleITK.RelabelComponent(numbered), 1)
    # The border counts as background, so that a ventricle cut by it keeps its shape.
    filled: npt.NDArray[np.uint8] = SimpleITK.GetArrayFromImage(SimpleITK.BinaryFillhole(largest))
    kept = filled.astype(np.bool_)
    return kept if kept.sum() >= SMALLEST_PX else np.zeros_like(mask)


def contour(mask: Mask) -> Points:
    """Return the smooth outline of a mask of one piece.

    The steps of the pixels go by a low-pass over the closed curve (Fourier descriptors, Kuhl and
    Giardina 1982, Comput Graph Image Process 18:236-258); it is then scaled about its middle to
    the area of the mask, which the low-pass makes slightly smaller.

    Args:
        mask: bool, shape (rows, columns), with one piece.

    Returns:
        Shape (``POINTS`` + 1, 2): (column, row) as in ``Region``; the last point repeats the first.
    """
    polygon = max(outlines(mask).outer, key=enclosed_area)
    steps = np.hypot(*np.diff(polygon, axis=0).T)
    along = np.concatenate(([0.0], np.cumsum(steps)))
    places = np.linspace(0.0, along[-1], 4 * POINTS, endpoint=False)
    x, y = (np.interp(places, along, polygon[:, axis]) for axis in (0, 1))
    spectrum = np.fft.fft(x + 1j * y)
    spectrum[_HARMONICS + 1 : -_HARMONICS] = 0.0
    smooth = np.fft.ifft(spectrum)[::4]
    points = np.column_stack((smooth.real, smooth.imag))
    points = np.concatenate((points, points[:1]))
    middle = points[:-1].mean(axis=0)
    scale = np.sqrt(enclosed_area(polygon) / enclosed_area(points))
    rows, columns = mask.shape
    return np.asarray(np.clip(middle + (points - middle) * scale, 0.0, (columns, rows)))
