"""Shapes drawn on images: whole, on an image of the source, and within its edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.gate.contents import frame_numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pydicom import Dataset

_NUMBERS = {"POINT": 2, "CIRCLE": 4, "ELLIPSE": 8}
"""How many coordinates each shape has (PS3.3 C.18.6.1.2, C.10.5); others any even number."""


def region_problems(items: Iterable[Dataset], sources: Sequence[Dataset]) -> Iterator[str]:
    """Yield what is wrong with the spatial coordinates of a report, as predicates of it."""
    shapes = [item for item in items if item.get("ValueType") == "SCOORD"]
    images = {str(source.SOPInstanceUID): source for source in sources if shapes}
    for item in shapes:
        references = [
            reference
            for child in item.get("ContentSequence") or ()
            for reference in child.get("ReferencedSOPSequence") or ()
        ]
        yield from _shape_problems(item)
        if not references:
            yield "has a region that does not say on which image it is"
        for reference in references:
            yield from _place_problems(item, reference, images)


def graphic_problems(state: Dataset, sources: Sequence[Dataset]) -> Iterator[str]:
    """Yield what is wrong with the graphics of a presentation state, as predicates of it."""
    images = {str(source.SOPInstanceUID): source for source in sources}
    annotations = state.get("GraphicAnnotationSequence") or ()
    if not annotations:
        yield "has no graphics"
    for annotation in annotations:
        for shape in annotation.get("GraphicObjectSequence") or ():
            yield from _shape_problems(shape)
            for reference in annotation.get("ReferencedImageSequence") or ():
                if shape.get("GraphicAnnotationUnits") == "PIXEL":
                    yield from _place_problems(shape, reference, images)


def _shape_problems(shape: Dataset) -> Iterator[str]:
    count, kind = len(_coordinates(shape)), shape.get("GraphicType")
    if count % 2:
        yield "has a region with an odd number of coordinates"
    elif not count or count != _NUMBERS.get(str(kind), count):
        yield f"has a region of type {kind} with {count} coordinates"


def _place_problems(
    shape: Dataset, reference: Dataset, images: dict[str, Dataset]
) -> Iterator[str]:
    image = images.get(str(reference.get("ReferencedSOPInstanceUID")))
    if image is None:
        yield "has a region on an image that was not analysed"
        return
    count = int(image.get("NumberOfFrames") or 1)
    if count > 1 and len(frame_numbers(reference)) != 1:
        yield "has a region that does not say on which frame it is"
    points = _coordinates(shape)
    columns, rows = float(image.get("Columns") or 0), float(image.get("Rows") or 0)
    if not all(
        0.0 <= x <= columns and 0.0 <= y <= rows
        for x, y in zip(points[::2], points[1::2], strict=False)
    ):
        yield "has a region that reaches beyond its image"


def _coordinates(shape: Dataset) -> list[float]:
    value = shape.get("GraphicData")
    return [] if value is None else [float(one) for one in value]
