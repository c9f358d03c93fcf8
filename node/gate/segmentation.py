"""A segmentation or label map: whole pixel data, trackable segments, nothing empty."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from node.gate.frames import Frame, frames_of
from node.gate.grid import grid_problems
from node.gate.voxels import (
    bits_of_a_voxel,
    holds_all_voxels,
    is_all_or_nothing,
    voxel_counts,
    voxel_ml,
)
from node.profiles import LABEL_MAP_SEGMENTATION_STORAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydicom import Dataset

_NEEDED = (
    "TrackingID",
    "TrackingUID",
    "SegmentLabel",
    "SegmentAlgorithmName",
    "RecommendedDisplayCIELabValue",
)


@dataclass(frozen=True)
class Outlines:
    """A segmentation, read once.

    Attributes:
        dataset: With pixel data.
        frames: Its frames, in order.
        voxels: Segment number -> how many voxels are stored; empty where they cannot be counted.
        voxel_ml: Volume of one; None where the object does not tell.
    """

    dataset: Dataset
    frames: list[Frame]
    voxels: dict[int, int]
    voxel_ml: float | None

    @property
    def is_label_map(self) -> bool:
        """Whether its pixels are segment numbers, instead of frames of their own a segment."""
        return bool(self.dataset.SOPClassUID == LABEL_MAP_SEGMENTATION_STORAGE)

    @cached_property
    def segments(self) -> dict[int, Dataset]:
        """Segment number -> its description."""
        return {
            int(segment.SegmentNumber): segment
            for segment in self.dataset.get("SegmentSequence") or ()
        }

    @cached_property
    def by_tracking_uid(self) -> dict[str, int]:
        """Tracking UID -> segment number."""
        return {str(one.get("TrackingUID")): number for number, one in self.segments.items()}

    @cached_property
    def volumes_ml(self) -> dict[int, float]:
        """Segment number -> millilitres; empty where the voxels have no volume."""
        of_one = self.voxel_ml
        if of_one is None:
            return {}
        return {number: count * of_one for number, count in self.voxels.items() if number}


def outlines_of(segmentation: Dataset) -> Outlines:
    """Read the frames of a segmentation and count its voxels."""
    frames = frames_of(segmentation)
    return Outlines(
        segmentation, frames, voxel_counts(segmentation, frames), voxel_ml(segmentation)
    )


def segmentation_problems(outlines: Outlines, sources: Sequence[Dataset]) -> Iterator[str]:
    """Yield what is wrong with a segmentation, as predicates of it.

    Args:
        outlines: The segmentation.
        sources: Headers of the images analysed: single-frame ones, or one multi-frame.
    """
    yield from _pixel_problems(outlines)
    yield from grid_problems(outlines.dataset, outlines.frames, sources)
    yield from _segment_problems(outlines)
    if not outlines.voxels:
        yield "has voxels that cannot be counted"
    elif set(outlines.voxels) - {0, *outlines.segments}:
        yield "has voxels of a segment that does not exist"


def _pixel_problems(outlines: Outlines) -> Iterator[str]:
    """A voxel belongs to a segment or does not: in one bit, or wholly or not at all in a byte."""
    segmentation, frames = outlines.dataset, len(outlines.frames)
    if outlines.is_label_map:
        if segmentation.get("SegmentationType") != "LABELMAP":
            yield "is no label map"
        return
    bits = bits_of_a_voxel(segmentation)
    if bits is None:
        yield "is not binary, nor does it say of each voxel whether it is occupied"
    elif segmentation.get("BitsAllocated") != bits:
        yield f"has other than {bits} bits for each voxel"
    elif not holds_all_voxels(segmentation, frames):
        yield "has pixel data that are not as long as its frames need"
    elif bits > 1 and not is_all_or_nothing(segmentation, frames):
        yield "has voxels that are occupied in part: viewers draw none of it"


def _segment_problems(outlines: Outlines) -> Iterator[str]:
    segments = outlines.dataset.get("SegmentSequence") or ()
    numbers = [int(segment.SegmentNumber) for segment in segments]
    if numbers != list(range(1, len(numbers) + 1)) or not numbers:
        yield "has segment numbers that do not count from 1: viewers colour the wrong segments"
    for number, segment in zip(numbers, segments, strict=True):
        for keyword in _NEEDED:
            if not segment.get(keyword):
                yield f"has a segment {number} without {keyword}"
        if outlines.voxels and not outlines.voxels.get(number):
            yield f"has a segment {number} without a voxel"
    tracking = [str(segment.get("TrackingUID")) for segment in segments]
    if len(set(tracking)) < len(tracking):
        yield "has two segments that are tracked by the same UID"
    if not outlines.is_label_map and not {frame.segment for frame in outlines.frames} <= {*numbers}:
        yield "has a frame of a segment that does not exist"
