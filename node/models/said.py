"""What a result says, read back from its objects: numbers of the report, voxels of the outlines."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread

from node.load.pixels import stored_frames
from sr_templates import codes
from sr_templates.tree import children_named, code_of, is_named, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Outline = dict[tuple[str, int], npt.NDArray[np.bool_]]
"""(SOP Instance UID, frame number) of a source image -> bool, its rows and columns."""


def numbers(report: Path) -> dict[str, float]:
    """Return the measurements of a report that it names once, each with what it is of and its unit.

    Several of one name, such as the volumes of many nodules, cannot be told apart in another
    result, so they are left out.
    """
    found = list(_numbers(dcmread(report), ""))
    times = Counter(name for name, _ in found)
    return {name: value for name, value in found if times[name] == 1}


def _numbers(node: Dataset, about: str) -> Iterator[tuple[str, float]]:
    for child in node.get("ContentSequence") or ():
        if child.get("ValueType") == "NUM" and child.get("MeasuredValueSequence"):
            (measured,) = child.MeasuredValueSequence
            unit = code_of(measured.MeasurementUnitsCodeSequence[0]).value
            yield f"{about}{name_of(child).meaning} [{unit}]", float(measured.NumericValue)
        elif is_named(child, codes.MEASUREMENT_GROUP):
            yield from _numbers(child, _subject(child))
        elif not is_named(child, codes.IMAGE_LIBRARY):  # of the images, not of what they show
            yield from _numbers(child, about)


def _subject(group: Dataset) -> str:
    """Return what a measurement group is about: the finding, and where it is."""
    words = []
    for name in (codes.FINDING, codes.FINDING_SITE):
        for item in children_named(group, name):
            words.append(code_of(item.ConceptCodeSequence[0]).meaning)
            words += [
                code_of(one.ConceptCodeSequence[0]).meaning
                for one in item.get("ContentSequence") or ()
                if one.get("ValueType") == "CODE"
            ]
    return ", ".join(words) + ": " if words else ""


def outlines(segmentation: Path) -> dict[str, Outline]:
    """Return what a binary segmentation outlines, by what it is; equal things are one outline."""
    dataset = dcmread(segmentation)
    names = {int(one.SegmentNumber): _property(one) for one in dataset.SegmentSequence}
    found: defaultdict[str, Outline] = defaultdict(dict)
    for name in names.values():
        found[name] = {}
    shared = dataset.SharedFunctionalGroupsSequence[0]
    groups = dataset.PerFrameFunctionalGroupsSequence
    for group, plane in zip(groups, stored_frames(dataset), strict=True):
        number = _of(group, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber
        image = _of(group, shared, "DerivationImageSequence").SourceImageSequence[0]
        where = (str(image.ReferencedSOPInstanceUID), int(image.get("ReferencedFrameNumber") or 1))
        outline = found[names[int(number)]]
        outline[where] = (plane != 0) | outline.get(where, np.False_)
    return dict(found)


def _of(group: Dataset, shared: Dataset, keyword: str) -> Any:
    """Return the first item of a functional group, of the frame or of all frames."""
    return (group.get(keyword) or shared[keyword].value)[0]


def _property(segment: Dataset) -> str:
    """Return what a segment is: its type, with the modifiers that say which side."""
    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    modifiers = kind.get("SegmentedPropertyTypeModifierCodeSequence") or ()
    where = segment.get("AnatomicRegionSequence") or ()
    sides = [m for one in where for m in one.get("AnatomicRegionModifierSequence") or ()]
    return ", ".join(code_of(one).meaning for one in (kind, *modifiers, *where, *sides))


def dice(one: Mapping[tuple[str, int], Any], other: Mapping[tuple[str, int], Any]) -> float:
    """Return 2 |A and B| / (|A| + |B|) (Dice 1945); 1 where both are empty."""
    size = sum(int(plane.sum()) for outline in (one, other) for plane in outline.values())
    shared = sum(int((one[where] & other[where]).sum()) for where in one.keys() & other.keys())
    return 1.0 if size == 0 else 2.0 * shared / size
