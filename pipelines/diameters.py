"""The two diameters a radiologist measures: the longest in a slice, and across it.

Sources: RECIST 1.1 (Eisenhauer et al. 2009, Eur J Cancer 45:228-247): the longest diameter in
the plane of acquisition, and the short axis perpendicular to it; WHO handbook for reporting
results of cancer treatment (1979): longest diameter times the greatest perpendicular one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.outline import Mask, Points, outlines

_SAME = 1e-9
"""Lengths that differ by less, relatively, are equal but for rounding."""


class Chord(NamedTuple):
    """A straight line on an image: its ends (column, row) as in ``Region``, and its length."""

    start: tuple[float, float]
    end: tuple[float, float]
    length_mm: float


class Diameters(NamedTuple):
    """The longest diameter, the longest across it, and the image that both are on."""

    image: int
    long: Chord
    short: Chord


def diameters(mask: Mask, spacing_mm: tuple[float, float]) -> Diameters | None:
    """Return the longest diameter of any piece in any image, and the longest one across it.

    Both are measured between the outer edges of pixels, on one connected piece of the mask in
    one image (pixels that touch at a corner are connected). A diameter may cross a notch or a
    hole. Of equally long ones, that which is longest across is taken.

    Args:
        mask: bool, shape (images, rows, columns).
        spacing_mm: Distance between pixel centres along (row, column) index.

    Returns:
        None for an empty mask.
    """
    scale = np.array([spacing_mm[1], spacing_mm[0]])
    longest = 0.0
    tied: list[tuple[int, Points, Points]] = []
    for image, bound in _widest_first(mask, scale):
        if bound < longest * (1.0 - _SAME):
            break
        for polygon in outlines(mask[image]).outer:
            if np.hypot(*(np.ptp(polygon, axis=0) * scale)) < longest * (1.0 - _SAME):
                continue
            length, pairs = _farthest(polygon, scale)
            if length > longest * (1.0 + _SAME):
                longest, tied = length, []
            if length >= longest * (1.0 - _SAME):
                tied += [(image, polygon, pair) for pair in pairs]
    candidates = [
        Diameters(image, _chord(pair, scale), _across(polygon, pair, scale))
        for image, polygon, pair in tied
    ]
    return max(candidates, key=lambda found: found.short.length_mm, default=None)


def hull(points: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the corners of the convex hull of whole-numbered points (n, 2).

    Source: Andrew 1979, Inf Process Lett 9:216-219 (monotone chain).
    """
    order = np.lexsort((points[:, 1], points[:, 0]))
    ordered = points[order].tolist()
    chains = []
    for walk in (ordered, ordered[::-1]):
        chain: list[list[int]] = []
        for x, y in walk:
            while len(chain) > 1:
                (x0, y0), (x1, y1) = chain[-2:]
                if (x1 - x0) * (y - y0) > (y1 - y0) * (x - x0):
                    break
                chain.pop()
            chain.append([x, y])
        chains += chain[:-1]
    return np.array(chains or ordered[:1], np.int64)


def _widest_first(mask: Mask, scale: Points) -> list[tuple[int, float]]:
    """Return images with a pixel and the diagonal of the box around it, the longest first."""
    profiles = np.any(mask, axis=1), np.any(mask, axis=2)
    images = np.flatnonzero(profiles[1].any(axis=1))
    extents = (
        line.shape[1] - line[:, ::-1].argmax(axis=1) - line.argmax(axis=1) for line in profiles
    )
    diagonals = np.hypot(*(extent * step for extent, step in zip(extents, scale, strict=True)))
    order = images[np.argsort(-diagonals[images], kind="stable")]
    return [(int(image), float(diagonals[image])) for image in order]


def _farthest(polygon: Points, scale: Points) -> tuple[float, list[Points]]:
    """Return the greatest distance in mm, and each pair of points (2, 2) that far apart."""
    corners = hull(polygon.astype(np.int64))
    squares = sum(
        ((axis[:, None] - axis[None, :]) * step) ** 2
        for axis, step in zip(corners.T, scale, strict=True)
    )
    greatest = float(squares.max())
    pairs = np.argwhere(np.triu(squares >= greatest * (1.0 - _SAME)))
    return float(np.sqrt(greatest)), [corners[pair].astype(np.float64) for pair in pairs]


def _across(polygon: Points, pair: Points, scale: Points) -> Chord:
    """Return the longest chord at right angles to the line between a pair of points.

    Between two corners of the polygon its width across that line is a convex function of the
    place along it, so the widest place is at a corner.
    """
    x, y = (polygon * scale).T
    cosine, sine = (pair[1] - pair[0]) * scale / np.hypot(*((pair[1] - pair[0]) * scale))
    along, across = cosine * x + sine * y, cosine * y - sine * x
    places = np.unique(along)
    starts = np.searchsorted(places, np.minimum(along[:-1], along[1:]))
    stops = np.searchsorted(places, np.maximum(along[:-1], along[1:]), side="right")
    # An edge that lies across has its two ends in its neighbours.
    counts = np.where(along[:-1] == along[1:], 0, stops - starts)
    edge = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts - starts, counts)
    slopes = np.diff(across) / np.where(counts, np.diff(along), 1.0)
    height = across[edge] + (places[place] - along[edge]) * slopes[edge]
    top, bottom = np.full(len(places), -np.inf), np.full(len(places), np.inf)
    np.maximum.at(top, place, height)
    np.minimum.at(bottom, place, height)
    widest = int((top - bottom).argmax())
    ends = [
        (cosine * places[widest] - sine * end, sine * places[widest] + cosine * end)
        for end in (bottom[widest], top[widest])
    ]
    return _chord(np.array(ends) / scale, scale)


def _chord(pair: Points, scale: Points) -> Chord:
    # A millionth of a pixel: rounding must leave no end outside the image.
    (x0, y0), (x1, y1) = (np.round(pair, 6) + 0.0).tolist()
    return Chord((x0, y0), (x1, y1), float(np.hypot(*((pair[1] - pair[0]) * scale))))
