"""Which values an image is shown with: its own window, or one that spans what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydicom.multival import MultiValue

if TYPE_CHECKING:
    from node.encode.multiframe.images import Image

_SAMPLES = 500_000
"""Enough values to find a percentile in; a series has a hundred million."""


@dataclass(frozen=True)
class Window:
    """Values in the modality's unit, as ``Volume`` and ``Images`` hold them.

    Attributes:
        center: Shown mid grey.
        width: From black to white; positive.
        function: Of PS3.3 C.11.2.1.3: ``LINEAR``, ``LINEAR_EXACT`` or ``SIGMOID``.
    """

    center: float
    width: float
    function: str = "LINEAR"

    def before(self, slope: float, intercept: float) -> Window:
        """Return the same window in the values before the modality's rescale."""
        return Window((self.center - intercept) / slope, self.width / abs(slope), self.function)

    def gray(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Return what is seen of the values, 0 black to 255 white."""
        scaled = (values - self.center) / self.width
        shown = 1.0 / (1.0 + np.exp(-4.0 * scaled)) if self.function == "SIGMOID" else scaled + 0.5
        gray: npt.NDArray[np.uint8] = (255.0 * np.clip(shown, 0.0, 1.0)).astype(np.uint8)
        return gray


def spanning(values: npt.NDArray[np.float32]) -> Window:
    """Return the window from the 1st to the 99.5th percentile of all values."""
    sampled = values.reshape(-1)[:: max(1, values.size // _SAMPLES)]
    darkest, brightest = (float(value) for value in np.percentile(sampled, (1.0, 99.5)))
    if brightest <= darkest:
        darkest, brightest = float(sampled.min()), float(sampled.max())
    return Window((darkest + brightest) / 2.0, max(brightest - darkest, 1.0))


def stated(image: Image) -> Window | None:
    """Return the first window that the header gives, if it gives one that can be used."""
    center, width = (_first(image.first(f"Window{part}")) for part in ("Center", "Width"))
    function = str(image.first("VOILUTFunction") or "LINEAR")
    if center is None or width is None or width <= 0.0 or (function == "LINEAR" and width < 1.0):
        return None
    return Window(center, width, function)


def _first(value: object) -> float | None:
    try:
        number = float(str(value[0] if isinstance(value, MultiValue | list) else value))
    except (ValueError, IndexError):
        return None
    return number if np.isfinite(number) else None
