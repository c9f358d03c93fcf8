"""Counting what is stored in a segmentation, in bits or in labels."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from pydicom.pixels.utils import iter_pixels

from node.gate.frames import macro
from node.malformed import MALFORMED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydicom import Dataset

    from node.gate.frames import Frame

ML_PER_UNIT = {"mL": 1.0, "ml": 1.0, "cm3": 1.0, "mm3": 0.001, "L": 1000.0, "dm3": 1000.0}
"""UCUM units in which a result may state a volume."""

LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"
"""Label Map Segmentation Storage; younger than pydicom's list of names."""


def voxel_counts(segmentation: Dataset, frames: Sequence[Frame]) -> dict[int, int]:
    """Return segment number -> how many voxels it has.

    A label map's background is number 0. Empty where the pixel data cannot be read, or are not
    as long as the frames need.
    """
    if segmentation.SOPClassUID == LABEL_MAP_SEGMENTATION:
        return _labels(segmentation)
    if not holds_all_bits(segmentation, len(frames)):
        return {}
    counts: Counter[int] = Counter()
    for frame, voxels in zip(frames, _bits_by_frame(segmentation, len(frames)), strict=True):
        counts[frame.segment] += voxels
    return dict(counts)


def voxel_ml(segmentation: Dataset) -> float | None:
    """Return the volume of one voxel in millilitres; None where the object does not tell."""
    measures = macro(segmentation.get("SharedFunctionalGroupsSequence"), "PixelMeasuresSequence")
    spacing = measures.get("PixelSpacing") if measures else None
    between = measures.get("SpacingBetweenSlices") if measures else None
    if not spacing or not between:
        return None
    return float(spacing[0]) * float(spacing[1]) * float(between) / 1000.0


def holds_all_bits(segmentation: Dataset, frames: int) -> bool:
    """Say whether binary pixel data are as long as ``frames`` frames need.

    They follow each other bit by bit, the end is padded to even bytes (PS3.5 section 8.1.1).
    """
    bits = frames * segmentation.Rows * segmentation.Columns
    content: bytes = segmentation.get("PixelData") or b""
    return len(content) == (int(bits) + 15) // 16 * 2


def _bits_by_frame(segmentation: Dataset, frames: int) -> Iterator[int]:
    """Yield how many bits of each frame are set."""
    packed = np.frombuffer(segmentation.PixelData, np.uint8)
    size = segmentation.Rows * segmentation.Columns
    for start in range(0, frames * size, size):
        (first, before), (last, after) = divmod(start, 8), divmod(start + size, 8)
        whole = int(np.bitwise_count(packed[first:last]).sum(dtype=np.int64))
        yield whole - _low_bits(packed, first, before) + _low_bits(packed, last, after)


def _low_bits(packed: np.typing.NDArray[np.uint8], byte: int, bits: int) -> int:
    """Return how many of the lowest ``bits`` of a byte are set."""
    return (int(packed[byte]) & ((1 << bits) - 1)).bit_count() if bits else 0


def _labels(segmentation: Dataset) -> dict[int, int]:
    counts = np.zeros(0, np.int64)
    try:
        for plane in iter_pixels(segmentation):
            own = np.bincount(plane.ravel())
            counts = np.pad(counts, (0, max(len(own) - len(counts), 0)))
            counts[: len(own)] += own
    except (*MALFORMED, RuntimeError):
        return {}
    return {int(number): int(counts[number]) for number in np.flatnonzero(counts)}
