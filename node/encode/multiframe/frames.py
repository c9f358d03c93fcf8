"""What is said of each frame of a multi-frame object, encoded once a piece, not once a frame.

A segmentation of 40 segments on 300 slices has up to 12,000 items of Per-Frame Functional
Groups, alike but for two numbers: which segment, which slice. Their pieces are encoded ahead and
put together as bytes; a data set written as it stands is not parsed for it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from pydicom import Dataset
from pydicom.tag import Tag

from node.encode.identity import count_as_read
from node.encode.multiframe import planes
from node.encode.multiframe.images import image
from sr_templates import codes
from sr_templates.encoded import concept, element, item, reference, sequence, set_items

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node.encode.multiframe.images import Image
    from node.load.source import Source


_VOXEL_ON_VOXEL = element("SpatialLocationsPreserved", "CS", "YES") + sequence(
    "PurposeOfReferenceCodeSequence", concept(codes.SOURCE_IMAGE)
)
_SEGMENTED = sequence("DerivationCodeSequence", concept(codes.SEGMENTATION))


class Frame(NamedTuple):
    """One frame.

    Attributes:
        image: Index of the slice or frame of the source.
        place: Of that image among those that have a frame, from 1.
        segment: From 1; None for a frame that shows all segments.
    """

    image: int
    place: int
    segment: int | None


def set_frames(result: Dataset, source: Source, frames: Sequence[Frame], organisation: str) -> None:
    """Describe every frame, the dimensions that order them, and what they were derived from.

    From here on the data set counts as one read in Explicit VR Little Endian: pydicom writes
    what was not touched as it is, and decodes it when asked for it or for another encoding.

    Args:
        result: Written in UTF-8.
        source: What the frames are drawn on.
        frames: In order.
        organisation: UID of the dimension organisation.
    """
    count_as_read(result)
    positions = planes.positions(source)
    by_segment = frames[0].segment is not None
    _set_dimensions(result, organisation, by_segment=by_segment, in_patient=bool(positions))
    items = _per_frame_items(source, frames, positions)
    result.NumberOfFrames = len(frames)
    _set_references(result, source)
    set_items(result, "PerFrameFunctionalGroupsSequence", items)


def _set_references(result: Dataset, source: Source) -> None:
    """Name every instance that the result is derived from, as ``planes.set_references`` does."""
    references = b"".join(item(reference(instance)) for instance in source.instances)
    series = item(
        sequence("ReferencedInstanceSequence", references),
        element("SeriesInstanceUID", "UI", str(source.instances[0].SeriesInstanceUID)),
    )
    set_items(result, "SourceImageSequence", references)
    set_items(result, "ReferencedSeriesSequence", series)


def _set_dimensions(
    result: Dataset, organisation: str, *, by_segment: bool, in_patient: bool
) -> None:
    """State what counts the frames: the segment, then the place in the patient or in the clip."""
    counted = [("PlanePositionSequence", "ImagePositionPatient", "Image Position Patient")]
    if not in_patient:
        counted = [("FrameContentSequence", "FrameLabel", "Frame Label")]
    if by_segment:
        macro, keyword = "SegmentIdentificationSequence", "ReferencedSegmentNumber"
        counted.insert(0, (macro, keyword, "Referenced Segment Number"))
    indices = []
    for macro, keyword, label in counted:
        index = Dataset()
        index.DimensionOrganizationUID = organisation
        index.DimensionIndexPointer = Tag(keyword)
        index.FunctionalGroupPointer = Tag(macro)
        index.DimensionDescriptionLabel = label
        indices.append(index)
    dimensions = Dataset()
    dimensions.DimensionOrganizationUID = organisation
    result.DimensionOrganizationSequence = [dimensions]
    result.DimensionIndexSequence = indices


def _per_frame_items(source: Source, frames: Sequence[Frame], positions: Sequence[Any]) -> bytes:
    images = {frame.image: image(source, frame.image) for frame in frames}
    derivations = {k: _derivation(of) for k, of in images.items()}
    labels = {k: b"" if positions else _frame_label(of) for k, of in images.items()}
    places = {k: _plane_position(positions[k]) if positions else b"" for k in images}
    segments = {
        number: b"" if number is None else _segment_identification(number)
        for number in {frame.segment for frame in frames}
    }
    items = []
    for k, place, segment in frames:
        indices = (place,) if segment is None else (segment, place)
        content = element("DimensionIndexValues", "UL", struct.pack(f"<{len(indices)}I", *indices))
        # In the order of their tags (PS3.5 section 7.1).
        groups = (
            derivations[k],
            sequence("FrameContentSequence", item(content, labels[k])),
            places[k],
            segments[segment],
        )
        items.append(item(*groups))
    return b"".join(items)


def _derivation(of: Image) -> bytes:
    """Say that a frame was segmented from an image, voxel on voxel (PS3.3 C.7.6.16.2.6)."""
    number = of.frame_number
    source = item(
        reference(of.instance),
        b"" if number is None else element("ReferencedFrameNumber", "IS", str(number)),
        _VOXEL_ON_VOXEL,
    )
    return sequence(
        "DerivationImageSequence", item(sequence("SourceImageSequence", source), _SEGMENTED)
    )


def _plane_position(position: Any) -> bytes:
    place = element("ImagePositionPatient", "DS", "\\".join(map(str, position)))
    return sequence("PlanePositionSequence", item(place))


def _frame_label(of: Image) -> bytes:
    return element("FrameLabel", "LO", f"Frame {of.frame_number or 1}")


def _segment_identification(number: int) -> bytes:
    """Say it with the frame even of a single segment: some readers look nowhere else."""
    segment = element("ReferencedSegmentNumber", "US", struct.pack("<H", number))
    return sequence("SegmentIdentificationSequence", item(segment))
