"""What was drawn on images against those images: same grid, same place."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from node.gate.frames import images_of, is_at, stated
from node.part10 import tag_of, uid_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydicom import Dataset

    from node.gate.frames import Frame, ImageKey, Position

_FRAME_OF_REFERENCE = tag_of("FrameOfReferenceUID")

_SAME_PLACE_MM = 0.01
_SAME_DIRECTION = 1e-4
"""Viewers reject a plane that is off by more than 1e-3 in any cosine."""


def grid_problems(
    drawn: Dataset, frames: Sequence[Frame], sources: Sequence[Dataset]
) -> Iterator[str]:
    """Yield what is wrong with the grid of a segmentation or a parametric map.

    Args:
        drawn: The object.
        frames: Its frames.
        sources: Headers of the images analysed: single-frame ones, or one multi-frame.
    """
    if {*map(_frame_of_reference, sources)} != {_frame_of_reference(drawn)}:
        yield "has another frame of reference than its source"
    if not drawn.get("ReferencedSeriesSequence"):
        yield "does not name the series it belongs to: viewers load nothing"
    if int(drawn.get("NumberOfFrames") or 0) != len(frames) or not frames:
        yield "describes another number of frames than it has"
    source = sources[0]
    if (drawn.Rows, drawn.Columns) != (source.get("Rows"), source.get("Columns")):
        yield "has other rows and columns than its source"
    own = stated(drawn, "PixelMeasuresSequence", "PixelSpacing")
    theirs = list(_spacings_mm(source))
    if own is None:
        # Beside a frame of reference it would need the thickness of a slice (PS3.3 C.7.6.16.2.1).
        if theirs and not (_needs_no_place(sources) and _frame_of_reference(drawn)):
            yield "has another pixel spacing than its source"
    elif not any(_close(own, one, _SAME_PLACE_MM) for one in theirs):
        yield "has another pixel spacing than its source"
    if _needs_no_place(sources) and not any(frame.position_mm for frame in frames):
        if stated(drawn, "PlaneOrientationSequence", "ImageOrientationPatient") is not None:
            yield "has an orientation, but no position"
    else:
        yield from _place_problems(drawn, frames, source)
    yield from _image_problems(frames, images_of(sources))


def _frame_of_reference(dataset: Dataset) -> str:
    return uid_of(dataset.get_item(_FRAME_OF_REFERENCE))


def _needs_no_place(sources: Sequence[Dataset]) -> bool:
    """Say whether the source is a radiograph or a clip: its place in the patient means little."""
    (first, *others) = sources
    return not others and not first.get("PerFrameFunctionalGroupsSequence")


def _place_problems(drawn: Dataset, frames: Sequence[Frame], source: Dataset) -> Iterator[str]:
    own, theirs = (
        stated(one, "PlaneOrientationSequence", "ImageOrientationPatient")
        for one in (drawn, source)
    )
    if own is None or theirs is None or not _close(own, theirs, _SAME_DIRECTION):
        yield "has another orientation than its source"
    unplaced = sum(frame.position_mm is None for frame in frames)
    if unplaced:
        yield f"has {unplaced} frames that have no position"


def _spacings_mm(source: Dataset) -> Iterator[Any]:
    """Yield the distances between (rows, columns) that a source states of its pixels."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing = stated(source, "PixelMeasuresSequence", keyword)
        if spacing is not None:
            yield spacing
    for region in source.get("SequenceOfUltrasoundRegions") or ():
        yield 10.0 * np.abs([float(region.PhysicalDeltaY), float(region.PhysicalDeltaX)])  # cm


def _close(own: Any, theirs: Any, tolerance: float) -> bool:
    return own.shape == theirs.shape and bool(np.allclose(own, theirs, rtol=0, atol=tolerance))


def _image_problems(
    frames: Sequence[Frame], images: dict[ImageKey, Position | None]
) -> Iterator[str]:
    """Compare where each frame is with where the image it was derived from is."""
    places = {key: place for key, place in images.items() if place is not None}
    underived = sum(not frame.derived_from for frame in frames)
    if underived:
        yield f"has {underived} frames that do not say which image they belong to"
    elsewhere = 0
    for (derived_from, position), count in Counter(
        (frame.derived_from, frame.position_mm) for frame in frames
    ).items():
        own_places = [places[key] for key in derived_from if key in places]
        if position is not None and not is_at(
            position, own_places or places.values(), _SAME_PLACE_MM
        ):
            elsewhere += count
    if elsewhere:
        yield f"has {elsewhere} frames that are not where their image is"
    twice = Counter((frame.segment, key) for frame in frames for key in frame.derived_from)
    if any(count > 1 for count in twice.values()):
        yield "has two frames of one segment on the same image"
