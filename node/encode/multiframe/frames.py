"""What is said of each frame of a multi-frame object, encoded once a piece, not once a frame.

A segmentation of 40 segments on 300 slices has up to 12,000 items of Per-Frame Functional
Groups, alike but for two numbers: which segment, which slice. Their pieces are encoded ahead and
put together as bytes; a data set written as it stands is not parsed for it.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pydicom import Dataset
from pydicom.charset import convert_encodings
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian

from node.encode.multiframe import planes
from node.encode.multiframe.images import image
from sr_templates import codes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node.encode.multiframe.images import Image
    from node.load.source import Source
    from pipelines.contract import Code

_ITEM = struct.Struct("<HHI")
_SHORT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<HH2s2xI")
"""Tag, VR and length of an element, as PS3.5 section 7.1.2 has them; an item has no VR."""


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
    result.SpecificCharacterSet = "ISO_IR 192"
    result.file_meta = FileMetaDataset()
    result.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    result.set_original_encoding(False, True, convert_encodings("ISO_IR 192"))
    positions = planes.positions(source)
    by_segment = frames[0].segment is not None
    _set_dimensions(result, organisation, by_segment=by_segment, in_patient=bool(positions))
    items = _per_frame_items(source, frames, positions)
    result.NumberOfFrames = len(frames)
    _set_references(result, source)
    _set_items(result, "PerFrameFunctionalGroupsSequence", items)


def _set_references(result: Dataset, source: Source) -> None:
    """Name every instance that the result is derived from, as ``planes.set_references`` does."""
    references = b"".join(
        _item(
            _element("ReferencedSOPClassUID", "UI", str(instance.SOPClassUID))
            + _element("ReferencedSOPInstanceUID", "UI", str(instance.SOPInstanceUID))
        )
        for instance in source.instances
    )
    instances = _LONG.pack(*_tag("ReferencedInstanceSequence"), b"SQ", len(references)) + references
    series = _element("SeriesInstanceUID", "UI", str(source.instances[0].SeriesInstanceUID))
    _set_items(result, "SourceImageSequence", references)
    _set_items(result, "ReferencedSeriesSequence", _item(instances + series))


def _set_items(result: Dataset, keyword: str, items: bytes) -> None:
    tag = Tag(keyword)
    result[tag] = RawDataElement(
        tag, "SQ", len(items), items, 0, is_implicit_VR=False, is_little_endian=True
    )


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
        content = _element("DimensionIndexValues", "UL", struct.pack(f"<{len(indices)}I", *indices))
        # In the order of their tags (PS3.5 section 7.1).
        groups = (
            derivations[k],
            _sequence("FrameContentSequence", content, labels[k]),
            places[k],
            segments[segment],
        )
        items.append(_item(b"".join(groups)))
    return b"".join(items)


def _derivation(of: Image) -> bytes:
    """Say that a frame was segmented from an image, voxel on voxel (PS3.3 C.7.6.16.2.6)."""
    number = of.frame_number
    source = (
        _element("ReferencedSOPClassUID", "UI", str(of.instance.SOPClassUID)),
        _element("ReferencedSOPInstanceUID", "UI", str(of.instance.SOPInstanceUID)),
        b"" if number is None else _element("ReferencedFrameNumber", "IS", str(number)),
        _element("SpatialLocationsPreserved", "CS", "YES"),
        _sequence("PurposeOfReferenceCodeSequence", _concept(codes.SOURCE_IMAGE)),
    )
    return _sequence(
        "DerivationImageSequence",
        _sequence("SourceImageSequence", b"".join(source)),
        _sequence("DerivationCodeSequence", _concept(codes.SEGMENTATION)),
    )


def _plane_position(position: Any) -> bytes:
    numbers = "\\".join(map(str, position))
    return _sequence("PlanePositionSequence", _element("ImagePositionPatient", "DS", numbers))


def _frame_label(of: Image) -> bytes:
    return _element("FrameLabel", "LO", f"Frame {of.frame_number or 1}")


def _segment_identification(number: int) -> bytes:
    """Say it with the frame even of a single segment: some readers look nowhere else."""
    segment = _element("ReferencedSegmentNumber", "US", struct.pack("<H", number))
    return _sequence("SegmentIdentificationSequence", segment)


def _concept(code: Code) -> bytes:
    return (
        _element("CodeValue", "SH", code.value)
        + _element("CodingSchemeDesignator", "SH", code.scheme)
        + _element("CodeMeaning", "LO", code.meaning)
    )


def _element(keyword: str, vr: str, value: str | bytes) -> bytes:
    """Return an element of a VR with a short length, padded to even (PS3.5 section 7.1.2)."""
    stored = value.encode("ascii") if isinstance(value, str) else value
    if len(stored) % 2:
        stored += b"\0" if vr == "UI" else b" "
    return _SHORT.pack(*_tag(keyword), vr.encode(), len(stored)) + stored


def _sequence(keyword: str, *elements: bytes) -> bytes:
    """Return a sequence of one item."""
    item = _item(b"".join(elements))
    return _LONG.pack(*_tag(keyword), b"SQ", len(item)) + item


def _item(elements: bytes) -> bytes:
    return _ITEM.pack(0xFFFE, 0xE000, len(elements)) + elements


@cache
def _tag(keyword: str) -> tuple[int, int]:
    tag = Tag(keyword)
    return tag.group, tag.element
