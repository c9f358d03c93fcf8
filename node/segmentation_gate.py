"""A segmentation against the images it was drawn on: same grid, same place, whole pixel data."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import Dataset

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ML_PER_UNIT = {"mL": 1.0, "ml": 1.0, "cm3": 1.0, "mm3": 0.001, "L": 1000.0, "dm3": 1000.0}
"""UCUM units in which a result may state a volume."""

_SAME_PLACE_MM = 0.01
_SAME_DIRECTION = 1e-4
"""Viewers reject a plane that is off by more than 1e-3 in any cosine."""


def segmentation_problems(segmentation: Dataset, sources: Sequence[Dataset]) -> Iterator[str]:
    """Yield what is wrong with a binary segmentation, as sentences.

    Args:
        segmentation: With pixel data.
        sources: Headers of the images analysed: single-frame ones, or one multi-frame.
    """
    if any(
        segmentation.get("FrameOfReferenceUID") != source.get("FrameOfReferenceUID")
        for source in sources
    ):
        yield "The segmentation has another frame of reference than its source."
    if segmentation.get("SegmentationType") != "BINARY":
        yield "The segmentation is not binary."
    if not segmentation.get("ReferencedSeriesSequence"):
        yield "The segmentation does not name the series it belongs to: viewers load nothing."
    yield from _segment_problems(segmentation)
    yield from _pixel_problems(segmentation)
    yield from _grid_problems(segmentation, sources)


def segment_volumes_ml(segmentation: Dataset) -> dict[int, float]:
    """Return segment number -> millilitres, counted in the stored bits.

    Empty where the object states no pixel spacing, no distance between slices, or holds fewer
    bits than its frames need.
    """
    measures = _shared(segmentation, "PixelMeasuresSequence")
    spacing = measures.get("PixelSpacing") if measures else None
    between = measures.get("SpacingBetweenSlices") if measures else None
    if not spacing or not between or any(_pixel_problems(segmentation)):
        return {}
    voxel_ml = float(spacing[0]) * float(spacing[1]) * float(between) / 1000.0
    counts: defaultdict[int, int] = defaultdict(int)
    for number, voxels in zip(
        _segment_numbers(segmentation), _voxels_by_frame(segmentation), strict=True
    ):
        counts[number] += voxels
    return {number: count * voxel_ml for number, count in counts.items()}


def _segment_problems(segmentation: Dataset) -> Iterator[str]:
    segments = segmentation.get("SegmentSequence") or ()
    numbers = [int(segment.SegmentNumber) for segment in segments]
    if numbers != list(range(1, len(numbers) + 1)) or not numbers:
        yield "Segment numbers do not count from 1: viewers colour the wrong segments."
    for segment in segments:
        for keyword in (
            "TrackingID",
            "TrackingUID",
            "SegmentLabel",
            "SegmentAlgorithmName",
            "RecommendedDisplayCIELabValue",
        ):
            if not segment.get(keyword):
                yield f"Segment {segment.SegmentNumber} has no {keyword}."
    tracking = [str(segment.get("TrackingUID")) for segment in segments]
    if len(set(tracking)) < len(tracking):
        yield "Two segments are tracked by the same UID."
    if not set(_segment_numbers(segmentation)) <= set(numbers):
        yield "A frame belongs to a segment that does not exist."


def _pixel_problems(segmentation: Dataset) -> Iterator[str]:
    frames = len(segmentation.get("PerFrameFunctionalGroupsSequence") or ())
    if int(segmentation.get("NumberOfFrames", 0)) != frames or not frames:
        yield "The segmentation describes another number of frames than it has."
    bits = frames * segmentation.Rows * segmentation.Columns
    stored = len(segmentation.get("PixelData") or b"")
    # PS3.5 section 8.1.1: frames follow each other bit by bit, the end is padded to even bytes.
    if stored != (bits + 15) // 16 * 2:
        yield "The segmentation's pixel data are not as long as its frames need."


def _grid_problems(segmentation: Dataset, sources: Sequence[Dataset]) -> Iterator[str]:
    source = sources[0]
    if (segmentation.Rows, segmentation.Columns) != (source.get("Rows"), source.get("Columns")):
        yield "The segmentation has other rows and columns than its source."
    for macro, keyword, tolerance, what in (
        ("PlaneOrientationSequence", "ImageOrientationPatient", _SAME_DIRECTION, "orientation"),
        ("PixelMeasuresSequence", "PixelSpacing", _SAME_PLACE_MM, "pixel spacing"),
    ):
        own = _values(_shared(segmentation, macro), keyword)
        theirs = _values(source, keyword)
        if theirs is None:
            theirs = _values(_shared(source, macro) or _first_frame(source, macro), keyword)
        if own is None or theirs is None or not np.allclose(own, theirs, rtol=0, atol=tolerance):
            yield f"The segmentation has another {what} than its source."
    yield from _position_problems(segmentation, sources)


def _position_problems(segmentation: Dataset, sources: Sequence[Dataset]) -> Iterator[str]:
    """Compare where each frame is with where the image it was derived from is."""
    places = _places(sources)
    underived = unplaced = elsewhere = 0
    for frame in segmentation.get("PerFrameFunctionalGroupsSequence") or ():
        derived_from = [
            (str(image.ReferencedSOPInstanceUID), int(image.get("ReferencedFrameNumber") or 1))
            for derivation in frame.get("DerivationImageSequence") or ()
            for image in derivation.get("SourceImageSequence") or ()
        ]
        underived += not derived_from
        own = _values(_macro([frame], "PlanePositionSequence"), "ImagePositionPatient")
        if own is None:
            unplaced += 1
            continue
        expected = [places[key] for key in derived_from if key in places] or [*places.values()]
        elsewhere += not any(
            float(np.linalg.norm(own - place)) <= _SAME_PLACE_MM for place in expected
        )
    if underived:
        yield f"{underived} frames of the segmentation do not say which image they belong to."
    if unplaced:
        yield f"{unplaced} frames of the segmentation have no position."
    if elsewhere:
        yield f"{elsewhere} frames of the segmentation are not where their image is."


def _places(sources: Sequence[Dataset]) -> dict[tuple[str, int], Any]:
    """Return (instance, frame number) -> position of every image of the source."""
    places = {}
    for source in sources:
        uid = str(source.SOPInstanceUID)
        frames = source.get("PerFrameFunctionalGroupsSequence") or ()
        for number, frame in enumerate(frames, start=1):
            position = _macro([frame], "PlanePositionSequence")
            places[uid, number] = _values(position, "ImagePositionPatient")
        if not frames:
            places[uid, 1] = _values(source, "ImagePositionPatient")
    return {key: place for key, place in places.items() if place is not None}


def _segment_numbers(segmentation: Dataset) -> list[int]:
    """Return the segment of each frame; highdicom states a single segment once for all."""
    macro, keyword = "SegmentIdentificationSequence", "ReferencedSegmentNumber"
    shared = _shared(segmentation, macro) or Dataset()
    return [
        int((_macro([frame], macro) or shared).get(keyword, 0))
        for frame in segmentation.get("PerFrameFunctionalGroupsSequence") or ()
    ]


def _voxels_by_frame(segmentation: Dataset) -> Iterator[int]:
    """Yield how many bits of each frame are set, a frame in memory at a time."""
    packed = np.frombuffer(segmentation.PixelData, np.uint8)
    size = segmentation.Rows * segmentation.Columns
    for start in range(0, int(segmentation.NumberOfFrames) * size, size):
        first, last = start // 8, (start + size + 7) // 8
        bits = np.unpackbits(packed[first:last], bitorder="little")
        yield int(bits[start - 8 * first :][:size].sum())


def _shared(dataset: Dataset, macro: str) -> Dataset | None:
    return _macro(dataset.get("SharedFunctionalGroupsSequence"), macro)


def _first_frame(dataset: Dataset, macro: str) -> Dataset | None:
    return _macro(dataset.get("PerFrameFunctionalGroupsSequence"), macro)


def _macro(groups: Sequence[Dataset] | None, macro: str) -> Dataset | None:
    """Return the one item of a functional group macro in the first of ``groups``."""
    items: Sequence[Dataset] = (groups[0].get(macro) if groups else None) or ()
    return items[0] if items else None


def _values(dataset: Dataset | None, keyword: str) -> Any:
    value = dataset.get(keyword) if dataset is not None else None
    return None if value is None else np.array(value, dtype=float)
