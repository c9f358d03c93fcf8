"""Counting what is stored in a segmentation: in bits, in bytes or in labels."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from pydicom.pixels.utils import iter_pixels

from node.gate.frames import macro
from node.malformed import MALFORMED
from node.profiles import LABEL_MAP_SEGMENTATION_STORAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydicom import Dataset

    from node.gate.frames import Frame

ML_PER_UNIT = {"mL": 1.0, "ml": 1.0, "cm3": 1.0, "mm3": 0.001, "L": 1000.0, "dm3": 1000.0}
"""UCUM units in which a result may state a volume."""


_BITS_OF_A_VOXEL = {("BINARY", None): 1, ("FRACTIONAL", "OCCUPANCY"): 8}
"""By type and fractional type (PS3.3 C.8.20.2)."""


def voxel_counts(segmentation: Dataset, frames: Sequence[Frame]) -> dict[int, int]:
    """Return segment number -> how many voxels it has.

    A label map's background is number 0. Empty where the pixel data cannot be read, or are not
    as long as the frames need.
    """
    if segmentation.SOPClassUID == LABEL_MAP_SEGMENTATION_STORAGE:
        return _labels(segmentation)
    if not holds_all_voxels(segmentation, len(frames)):
        return {}
    by_frame = _bits_by_frame if bits_of_a_voxel(segmentation) == 1 else _bytes_by_frame
    counts: Counter[int] = Counter()
    for frame, voxels in zip(frames, by_frame(segmentation, len(frames)), strict=True):
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


def bits_of_a_voxel(segmentation: Dataset) -> int | None:
    """Return 1 for BINARY, 8 for FRACTIONAL of occupancy; None for all else, label maps too."""
    kind = segmentation.get("SegmentationType"), segmentation.get("SegmentationFractionalType")
    return _BITS_OF_A_VOXEL.get(kind)


def holds_all_voxels(segmentation: Dataset, frames: int) -> bool:
    """Say whether pixel data are as long as ``frames`` frames of bits or bytes need.

    They follow each other without a gap, the end is padded to even bytes (PS3.5 section 8.1.1).
    """
    bits = frames * segmentation.Rows * segmentation.Columns * (bits_of_a_voxel(segmentation) or 0)
    content: bytes = segmentation.get("PixelData") or b""
    return len(content) == (int(bits) + 15) // 16 * 2


def is_all_or_nothing(segmentation: Dataset, frames: int) -> bool:
    """Say whether a FRACTIONAL segmentation occupies each voxel wholly or not at all."""
    whole = segmentation.get("MaximumFractionalValue")
    return whole is not None and all(
        ((plane == 0) | (plane == whole)).all() for plane in _bytes(segmentation, frames)
    )


def _bits_by_frame(segmentation: Dataset, frames: int) -> Iterator[int]:
    """Yield how many bits of each frame are set."""
    packed = np.frombuffer(segmentation.PixelData, np.uint8)
    size = segmentation.Rows * segmentation.Columns
    for start in range(0, frames * size, size):
        (first, before), (last, after) = divmod(start, 8), divmod(start + size, 8)
        whole = _bits(packed[first:last])
        yield whole - _low_bits(packed, first, before) + _low_bits(packed, last, after)


def _bits(packed: np.typing.NDArray[np.uint8]) -> int:
    """Return how many bits are set, counted in as large numbers as fit."""
    words = packed if packed.size % 8 else packed.view(np.uint64)
    return int(np.bitwise_count(words).sum(dtype=np.int64))


def _low_bits(packed: np.typing.NDArray[np.uint8], byte: int, bits: int) -> int:
    """Return how many of the lowest ``bits`` of a byte are set."""
    return (int(packed[byte]) & ((1 << bits) - 1)).bit_count() if bits else 0


def _bytes_by_frame(segmentation: Dataset, frames: int) -> Iterator[int]:
    """Yield how many bytes of each frame are not 0."""
    return map(np.count_nonzero, _bytes(segmentation, frames))


def _bytes(segmentation: Dataset, frames: int) -> np.typing.NDArray[np.uint8]:
    size = segmentation.Rows * segmentation.Columns
    return np.frombuffer(segmentation.PixelData, np.uint8, frames * size).reshape(frames, size)


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
