"""Where on the images of a study a finding is: references to images, shapes on them, marks.

For every template that points at images: which image shows an outline best, and content items
that refer to an image, or select a shape from it (TID 320).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from highdicom import sr

from pipelines.codes import ANATOMICAL_STRUCTURE, TISSUE
from pipelines.contract import Finding, Graphic, Region, Result
from pipelines.outline import drawable, enclosed_area, outlines
from sr_templates import items

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from pipelines.contract import Code
    from sr_templates.report import Subject

Masks = dict[str, "npt.NDArray[np.bool_]"]
"""Label of a segment that is not empty -> its mask, shape (images, rows, columns)."""


def masks_of(result: Result) -> Masks:
    """Return the masks of a result that outline anything, by the labels of their segments."""
    return {segment.label: segment.mask for segment in result.segments if segment.mask.any()}


def spoken_findings(result: Result) -> tuple[Finding, ...]:
    """Return the findings, and one for each outlined segment that none of them mentions.

    Of anatomy that is outlined nothing more is said than where it is: it counts as normal.
    """
    mentioned = {finding.segment for finding in result.findings}
    return result.findings + tuple(
        Finding(
            segment.property,
            category=segment.category,
            segment=segment.label,
            normal=segment.category in (ANATOMICAL_STRUCTURE, TISSUE),
        )
        for segment in result.segments
        if segment.label not in mentioned and segment.mask.any()
    )


def best_image(mask: npt.NDArray[np.bool_]) -> int:
    """Return the index of the image on which a mask is largest, the first of equals."""
    return int(np.argmax(np.count_nonzero(mask, axis=(1, 2))))


def images_of(finding: Finding, masks: Mapping[str, npt.NDArray[np.bool_]]) -> tuple[int, ...]:
    """Return the indices of all images that a finding is outlined or drawn on, in order."""
    drawn = {region.image for region in finding.regions}
    mask = masks.get(finding.segment or "")
    outlined = () if mask is None else np.flatnonzero(mask.any(axis=(1, 2))).tolist()
    return tuple(sorted(drawn.union(outlined)))


def mark(mask: npt.NDArray[np.bool_]) -> Region:
    """Return the outline of the largest piece of a mask on the image that shows it best."""
    image = best_image(mask)
    polygon = drawable(max(outlines(mask[image]).outer, key=enclosed_area))
    points = tuple((float(column), float(row)) for column, row in polygon)
    return Region(image, Graphic.POLYLINE, points)


def center(region: Region) -> Region:
    """Return the middle of a shape: of a circle its centre, else of the box around it."""
    points = np.array(region.points)
    if region.graphic is Graphic.CIRCLE:
        middle = points[0]
    else:
        middle = (points.min(axis=0) + points.max(axis=0)) / 2.0
    return Region(region.image, Graphic.POINT, ((float(middle[0]), float(middle[1])),))


def image_items(subject: Subject, indices: Iterable[int], name: Code, relation: Any) -> list[Any]:
    """Return an IMAGE item for each instance that holds one of the images, with its frames."""
    frames: dict[str, list[int]] = {}
    instances = {}
    for index in indices:
        instance, frame = subject.image(index)
        instances[str(instance.SOPInstanceUID)] = instance
        listed = frames.setdefault(str(instance.SOPInstanceUID), [])
        if frame is not None:
            listed.append(frame)
    return [
        sr.ImageContentItem(
            items.concept(name),
            instance.SOPClassUID,
            instance.SOPInstanceUID,
            referenced_frame_numbers=sorted(frames[uid]) or None,
            relationship_type=relation,
        )
        for uid, instance in instances.items()
    ]


def shape_item(subject: Subject, region: Region, name: Code, source: Code, relation: Any) -> Any:
    """Return a SCOORD item, selected from the image that the shape is drawn on."""
    item = sr.ScoordContentItem(
        items.concept(name),
        region.graphic.value,
        np.array(region.points, np.float64),
        relationship_type=relation,
    )
    item.ContentSequence = sr.ContentSequence(
        image_items(subject, [region.image], source, items.SELECTED_FROM)
    )
    return item
