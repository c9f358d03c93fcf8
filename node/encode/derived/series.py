"""Images that a pipeline made of the source's own, as a series of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from node.domain import Role
from node.encode.derived.multi_frame import encode_derived_clip, encode_derived_frames
from node.encode.derived.pixels import stored
from node.encode.derived.single_frame import encode_derived_image, instance_numbers
from node.encode.multiframe.images import image
from node.encode.work import Encoded
from pipelines.contract import Images

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.encode.work import Work
    from node.load.source import Source
    from pipelines.contract import DerivedImages


def derived_series(
    source: Source, images: DerivedImages, number: int, work: Work
) -> Iterator[Encoded]:
    """Yield the objects of one series: an image for each of the source, or one of many frames.

    Args:
        source: What they were made of.
        images: Their values lie on the source's own images.
        number: Place of the series in the result, from 1.
        work: The job.
    """
    series = f"{Role.IMAGES}-{number}"
    if isinstance(source.study, Images):
        role = f"{series}-0001"
        yield Encoded(role, encode_derived_clip(source, images, work, role))
        return
    how = stored(images.values, _steps(source))
    if source.frame_numbers:
        role = f"{series}-0001"
        yield Encoded(role, encode_derived_frames(source, images, work, role, how))
        return
    numbers = instance_numbers(source.instances)
    for index, values in enumerate(images.values):
        role = f"{series}-{index + 1:04}"
        dataset = encode_derived_image(
            source,
            images,
            index,
            work,
            role=role,
            series=series,
            values=values,
            stored=how,
            number=numbers[index],
        )
        yield Encoded(role, dataset)


def grey_on_images(source: Source, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return grey values of a straightened volume as they lie on the source's own images.

    Moved back by the very part of a pixel, interpolating linearly: an image that is half a pixel
    beside its source would jump when a reader compares them.
    """
    if not source.shifts_px:
        return values
    rows, columns = int(source.instances[0].Rows), int(source.instances[0].Columns)
    moved = np.empty((len(values), rows, columns), np.float32)
    for plane, target, (down, right) in zip(values, moved, source.shifts_px, strict=True):
        row, column = int(down), int(right)
        part = np.pad(plane, ((0, 1), (0, 1)), mode="edge")
        part = part[row : row + rows + 1, column : column + columns + 1]
        part = part[:-1] + np.float32(down % 1.0) * (part[1:] - part[:-1])
        target[...] = part[:, :-1] + np.float32(right % 1.0) * (part[:, 1:] - part[:, :-1])
    return moved


def _steps(source: Source) -> Iterator[float]:
    """Yield the rescale slope of every image of the source."""
    for index in range(len(source.frame_numbers) or len(source.instances)):
        slope: Any = image(source, index).first("RescaleSlope")
        yield 1.0 if slope is None else float(slope)
