"""Masks as pixel data, a frame at a time: no mask is copied, however many there are."""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]


def voxels(masks: Sequence[Mask]) -> Counts:
    """Return how many voxels of each frame are set.

    Args:
        masks: Each of shape (frames, rows, columns).

    Returns:
        Shape (masks, frames).
    """
    return np.array([[np.count_nonzero(frame) for frame in mask] for mask in masks], np.int64)


def overlap(masks: Sequence[Mask], counts: Counts) -> bool:
    """Say whether any voxel is set in two masks; ``counts`` are their ``voxels``."""
    for frame in np.flatnonzero(np.count_nonzero(counts, axis=0) > 1).tolist():
        first, *others = (mask[frame] for mask in compress(masks, counts[:, frame]))
        union = first.copy()
        for other in others:
            union |= other
        if np.count_nonzero(union) < counts[:, frame].sum():
            return True
    return False


def packed(frames: Sequence[Mask | None], size: int) -> bytes:
    """Return frames as bits that follow each other without a gap (PS3.5 section 8.1.1).

    Args:
        frames: bool, ``size`` voxels each; None: none of them is set.
        size: Voxels in a frame.

    Returns:
        Bytes of even number; the first voxel is the lowest bit of the first byte.
    """
    together = 8 if size % 8 else 1  # so many frames end with a byte
    empty, nothing = np.zeros(size, bool), bytes(together * size // 8)
    parts: list[bytes | memoryview] = []
    for start in range(0, len(frames), together):
        some = [empty if one is None else one for one in frames[start : start + together]]
        if len(some) == together and all(one is empty for one in some):
            parts.append(nothing)
        else:
            bits = some[0] if together == 1 else np.concatenate([one.ravel() for one in some])
            parts.append(np.packbits(bits, bitorder="little").data)
    return _even(b"".join(parts))


def occupied(frames: Sequence[Mask | None], size: int, value: int) -> bytes:
    """Return frames with a byte for each voxel: ``value`` where it is set, 0 where not.

    Args:
        frames: As in ``packed``.
        size: Voxels in a frame.
        value: Up to 255.

    Returns:
        Bytes of even number.
    """
    nothing = bytes(size)
    parts: list[bytes | memoryview] = [
        nothing
        if one is None
        else np.multiply(one.view(np.uint8), value, dtype=np.uint8, order="C").data
        for one in frames
    ]
    return b"".join([*parts, bytes(len(frames) * size % 2)])


def labelled(
    masks: Sequence[Mask], counts: Counts, frames: Iterable[int], dtype: type[np.unsignedinteger]
) -> bytes:
    """Return frames of masks that do not overlap as numbers: 1 for the first mask, 0 for none.

    Args:
        masks: Each of shape (frames, rows, columns).
        counts: Their ``voxels``.
        frames: Which, in the order wanted.
        dtype: Of a voxel, little endian.

    Returns:
        Bytes of even number.
    """
    chosen = list(frames)
    labels = np.zeros((len(chosen), *masks[0].shape[1:]), np.dtype(dtype).newbyteorder("<"))
    for plane, frame in zip(labels, chosen, strict=True):
        for number, mask in compress(enumerate(masks, start=1), counts[:, frame]):
            np.copyto(plane, number, where=mask[frame], casting="unsafe")
    return _even(labels.tobytes())


def _even(stored: bytes) -> bytes:
    return stored + b"\0" if len(stored) % 2 else stored
