"""The frames of what was drawn on images, and the images they were drawn on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from node.gate.contents import reference_of
from node.gate.unparsed import decimals_of, encoding_of, items_of, parsed
from node.part10 import once_read, tag_of, uid_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pydicom import Dataset

    from node.gate.unparsed import Part
    from node.part10 import Encoding

Read = TypeVar("Read")

_PER_FRAME = tag_of("PerFrameFunctionalGroupsSequence")
_SOURCE_IMAGE = tag_of("SourceImageSequence")
_POSITION = tag_of("ImagePositionPatient")
_INSTANCE = tag_of("SOPInstanceUID")
_FRAMES = tag_of("NumberOfFrames")

ImageKey = tuple[str, int]
"""SOP Instance UID, and the frame in it, from 1."""

Position = tuple[float, ...]
"""(x, y, z) of the centre of the first voxel, in millimetres."""


@dataclass(frozen=True)
class Frame:
    """One frame of a segmentation or a parametric map.

    Attributes:
        derived_from: The images that it lies on.
        position_mm: Where it says it is.
        segment: Number of the segment that it shows; 0 where it does not say.
    """

    derived_from: tuple[ImageKey, ...]
    position_mm: Position | None
    segment: int


def frames_of(dataset: Dataset) -> list[Frame]:
    """Return the frames in their order.

    Thousands of frames share a few hundred positions and images, in the same bytes: each is
    parsed once.
    """
    shared = macro(dataset.get("SharedFunctionalGroupsSequence"), "SegmentIdentificationSequence")
    stated_once = 0 if shared is None else int(shared.get("ReferencedSegmentNumber") or 0)
    nowhere: tuple[ImageKey, ...] = ()
    if _PER_FRAME not in dataset:
        return []
    encoding = encoding_of(dataset)
    images = _once("DerivationImageSequence", encoding, _images, nowhere)
    position = _once("PlanePositionSequence", encoding, _position, None)
    segment = _once("SegmentIdentificationSequence", encoding, _segment, stated_once)
    per_frame = items_of(dataset.get_item(_PER_FRAME), encoding)
    return [Frame(images(groups), position(groups), segment(groups)) for groups in per_frame]


def images_of(sources: Sequence[Dataset]) -> dict[ImageKey, Position | None]:
    """Return every image of the source, and where it is as far as it says so."""
    images: dict[ImageKey, Position | None] = {}
    for source in sources:
        uid = uid_of(source.get_item(_INSTANCE))
        count = int(source[_FRAMES].value or 1) if _FRAMES in source else 1
        groups = source[_PER_FRAME].value if _PER_FRAME in source else None
        for number in range(1, count + 1):
            place = macro(groups[number - 1 : number], "PlanePositionSequence") if groups else None
            images[uid, number] = triple(place) or triple(source)
    return images


def macro(groups: Sequence[Dataset] | None, name: str) -> Dataset | None:
    """Return the one item of a functional group macro in the first of ``groups``."""
    items: Sequence[Dataset] = (groups[0].get(name) if groups else None) or ()
    return items[0] if items else None


def stated(dataset: Dataset, name: str, keyword: str) -> Any:
    """Return what an object states of its frames, itself or in a macro, as an array; or None."""
    for holder in _holders(dataset, name):
        value = None if holder is None else holder.get(keyword)
        if value not in (None, ""):
            return np.array(value, dtype=float)
    return None


def _holders(dataset: Dataset, name: str) -> Iterator[Dataset | None]:
    """Yield the object, then the macro; the frames, which take long to parse, at last."""
    yield dataset
    yield macro(dataset.get("SharedFunctionalGroupsSequence"), name)
    yield macro(dataset.get("PerFrameFunctionalGroupsSequence"), name)


def triple(place: Dataset | None) -> Position | None:
    """Return Image Position (Patient) of a header or a Plane Position item; None without one."""
    return None if place is None else decimals_of(place.get_item(_POSITION))


def is_at(position: Position, places: Iterable[Position], tolerance_mm: float) -> bool:
    """Say whether a position is one of ``places``."""
    return any(math.dist(position, place) <= tolerance_mm for place in places)


def _once(
    name: str,
    encoding: Encoding,
    read: Callable[[Sequence[Part], Encoding], Read],
    otherwise: Read,
) -> Callable[[Part], Read]:
    """Return a reader of one macro of a frame that parses equal bytes once."""
    tag, known = tag_of(name), dict[bytes, Read]()

    def read_once(groups: Part) -> Read:
        element = groups.get(tag)
        raw = once_read(element)
        if raw in known:
            return known[raw]
        items = items_of(element, encoding)
        value = read(items, encoding) if items else otherwise
        if raw is not None:
            known[raw] = value
        return value

    return read_once


def _images(derivations: Sequence[Part], encoding: Encoding) -> tuple[ImageKey, ...]:
    references = (
        reference_of(image, encoding)
        for derivation in derivations
        for image in items_of(derivation.get(_SOURCE_IMAGE), encoding)
    )
    return tuple(
        (one.sop_instance_uid, number) for one in references for number in one.frames or (1,)
    )


def _position(places: Sequence[Part], _: Encoding) -> Position | None:
    return decimals_of(places[0].get(_POSITION))


def _segment(identifications: Sequence[Part], encoding: Encoding) -> int:
    return int(parsed(identifications[0], encoding).get("ReferencedSegmentNumber") or 0)
