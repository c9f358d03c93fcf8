"""The outline of a mask along the edges of its pixels, exact, as viewers draw it.

Coordinates are (column, row) as in PS3.3 C.18.6.1.1: (0, 0) is the outer corner of the first
pixel, whose centre is at (0.5, 0.5); the corners of pixels are whole numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
"""Shape (n, 2): (column, row) of each."""
Mask = npt.NDArray[np.bool_]

_TURNS = np.array([0b0001, 0b0010, 0b0100, 0b1000, 0b0111, 0b1011, 0b1101, 0b1110], np.uint8)
"""One or three of the four pixels around a corner are in the mask: the outline turns there."""
_FALLING, _RISING = np.uint8(0b1001), np.uint8(0b0110)
"""Two pixels touch at a corner: upper left with lower right, or upper right with lower left."""

_MOST_POINTS = 8190
"""Of an open polygon; closing it adds one."""


class Outlines(NamedTuple):
    """Closed polygons: the last point repeats the first, and the polygon turns at each.

    Attributes:
        outer: Around each piece of the mask; pixels that touch at a corner are one piece.
        holes: Around each hole.
    """

    outer: tuple[Points, ...]
    holes: tuple[Points, ...]


def outlines(mask: Mask) -> Outlines:
    """Return the outlines of a mask, in raster order of their first points.

    The corners of the outline, sorted along any one grid line, are the ends of its edges in
    turn: first to second, third to fourth. Joining these pairs row by row and column by column
    gives the polygons.

    Args:
        mask: bool, shape (rows, columns).
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return Outlines((), ())
    first = np.array([columns[0], rows[0]])
    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    x, y, to_right, to_below = _corners(part)
    along_row, starts = _partners((y * (part.shape[1] + 1) + x) * 2 + to_right)
    along_column, _ = _partners((x * (part.shape[0] + 1) + y) * 2 + to_below)
    points = np.column_stack((x, y))
    outer: list[Points] = []
    holes: list[Points] = []
    seen = bytearray(len(points))
    for start in starts.tolist():
        if seen[start]:
            continue
        polygon = _follow(start, along_row, along_column, seen)
        column, row = points[start]  # the upper left corner of what the polygon encloses
        (outer if part[row, column] else holes).append((points[polygon] + first).astype(np.float64))
    return Outlines(tuple(outer), tuple(holes))


def enclosed_area(polygon: Points) -> float:
    """Return the area within a closed polygon in pixels (shoelace formula)."""
    x, y = (polygon - polygon[0]).T
    return float(abs(x[:-1] @ y[1:] - x[1:] @ y[:-1])) / 2.0


def drawable(polygon: Points) -> Points:
    """Return a polygon of so many points that one element holds it, others left out evenly.

    GraphicData (0070,0022) is of VR FL, whose length field has 16 bits in Explicit VR (PS3.5
    section 7.1.2): 16383 numbers. Only an outline of noise has as many corners.
    """
    step = -(-(len(polygon) - 1) // _MOST_POINTS)
    return np.concatenate((polygon[:-1:step], polygon[-1:])) if step > 1 else polygon


def _corners(mask: Mask) -> tuple[npt.NDArray[np.int64], ...]:
    """Return x, y of each turn of the outline, and which of its edges go right and down.

    A corner at which two pixels touch is two turns, each around one of the pixels that are not
    in the mask, so that the pixels that touch stay one piece. The directions tell these apart;
    at any other corner they are 0.
    """
    padded = np.pad(mask, 1).astype(np.uint8)
    pairs = padded[:, :-1] | padded[:, 1:] << 1
    around = pairs[:-1] | pairs[1:] << 2
    turns, falling, rising = (
        np.nonzero(np.isin(around, codes)) for codes in (_TURNS, _FALLING, _RISING)
    )
    kinds = ((turns, 0, 0), (falling, 1, 0), (falling, 0, 1), (rising, 0, 0), (rising, 1, 1))
    x = np.concatenate([place[1] for place, _, _ in kinds])
    y = np.concatenate([place[0] for place, _, _ in kinds])
    counts = [place[0].size for place, _, _ in kinds]
    to_right = np.repeat([right for _, right, _ in kinds], counts)
    to_below = np.repeat([below for _, _, below in kinds], counts)
    return x, y, to_right, to_below


def _partners(keys: npt.NDArray[np.int64]) -> tuple[list[int], npt.NDArray[np.int64]]:
    """Return the other end of each corner's edge along one grid line, and the sorted order."""
    order = np.argsort(keys)
    partners = np.empty(len(keys), np.int64)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    return partners.tolist(), order


def _follow(
    start: int, along_row: list[int], along_column: list[int], seen: bytearray
) -> list[int]:
    polygon: list[int] = []
    here = start
    while not seen[here]:
        there = along_row[here]
        polygon += (here, there)
        seen[here] = seen[there] = 1
        here = along_column[there]
    return [*polygon, start]
