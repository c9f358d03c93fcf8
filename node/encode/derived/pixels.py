"""Grey values as stored integers, finer than the source's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydicom.valuerep import DSfloat

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt
    from pydicom import Dataset

MOST = 65535
"""Unsigned, 16 bits stored."""
FINEST = 16.0
"""Parts of a step of the source: rounding then adds nothing that the source's own has not."""


@dataclass(frozen=True)
class Stored:
    """How values become stored ones: ``round((value - intercept) / slope)``.

    Attributes:
        intercept: As it is written, so that a reader computes with the same number.
        slope: Ditto; positive.
    """

    intercept: DSfloat
    slope: DSfloat

    def pixels(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
        """Return stored values of the same shape."""
        scaled = (values.astype(np.float64) - float(self.intercept)) / float(self.slope)
        return np.clip(np.rint(scaled), 0.0, MOST).astype("<u2")


def stored(values: npt.NDArray[np.float32], steps: Iterable[float]) -> Stored:
    """Return how a series is stored: with one rescale, so that equal values are equal everywhere.

    Args:
        values: All that is to be stored.
        steps: Between two values that the source could store, of each of its images.
    """
    lowest, highest = float(values.min()), float(values.max())
    own = min((abs(step) for step in steps if step), default=1.0)
    finest = own / FINEST
    # Powers of two of the source's step: its own values stay exact.
    while (highest - lowest) / finest > MOST - 2:
        finest *= 2.0
    intercept = DSfloat(np.floor(lowest / own) * own, auto_format=True)
    if (highest - float(intercept)) / finest > MOST:
        finest *= 2.0
    return Stored(intercept, DSfloat(finest, auto_format=True))


def set_pixels(dataset: Dataset, pixels: npt.NDArray[np.uint16], photometric: str) -> None:
    """Write stored values, shape (rows, columns) or (frames, rows, columns)."""
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.add_new("PixelData", "OW", np.ascontiguousarray(pixels, "<u2").tobytes())
