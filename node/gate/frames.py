"""The frames of what was drawn on images, and the images they were drawn on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from pydicom import Dataset
from pydicom.tag import Tag

from node.gate.contents import encoding_of, frame_numbers, items_of, once_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pydicom.tag import BaseTag

Read = TypeVar("Read")

_PER_FRAME = Tag("PerFrameFunctionalGroupsSequence")

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
    images = _once("DerivationImageSequence", _images, nowhere)
    position = _once("PlanePositionSequence", _position, None)
    segment = _once("SegmentIdentificationSequence", _segment, stated_once)
    if _PER_FRAME not in dataset:
        return []
    per_frame = items_of(dataset.get_item(_PER_FRAME), encoding_of(dataset))
    return [Frame(images(groups), position(groups), segment(groups)) for groups in per_frame]


def images_of(sources: Sequence[Dataset]) -> dict[ImageKey, Position | None]:
    """Return every image of the source, and where it is as far as it says so."""
    images: dict[ImageKey, Position | None] = {}
    for source in sources:
        uid = str(source.SOPInstanceUID)
        groups = source.get("PerFrameFunctionalGroupsSequence")
        for number in range(1, int(source.get("NumberOfFrames") or 1) + 1):
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
    value = None if place is None else place.get("ImagePositionPatient")
    return None if value in (None, "") else tuple(float(one) for one in value)


def is_at(position: Position, places: Iterable[Position], tolerance_mm: float) -> bool:
    """Say whether a position is one of ``places``."""
    return any(math.dist(position, place) <= tolerance_mm for place in places)


def _once(
    name: str, read: Callable[[Sequence[Dataset]], Read], otherwise: Read
) -> Callable[[Mapping[BaseTag, Any]], Read]:
    """Return a reader of one macro of a frame that parses equal bytes once."""
    tag, known = Tag(name), dict[bytes, Read]()

    def read_once(groups: Mapping[BaseTag, Any]) -> Read:
        element = groups.get(tag)
        raw = once_read(element)
        if raw in known:
            return known[raw]
        items = () if element is None else Dataset({tag: element})[tag].value or ()
        value = read(items) if items else otherwise
        if raw is not None:
            known[raw] = value
        return value

    return read_once


def _images(derivations: Sequence[Dataset]) -> tuple[ImageKey, ...]:
    return tuple(
        (str(image.ReferencedSOPInstanceUID), number)
        for derivation in derivations
        for image in derivation.get("SourceImageSequence") or ()
        for number in frame_numbers(image) or (1,)
    )


def _position(places: Sequence[Dataset]) -> Position | None:
    return triple(places[0])


def _segment(identifications: Sequence[Dataset]) -> int:
    return int(identifications[0].get("ReferencedSegmentNumber") or 0)
