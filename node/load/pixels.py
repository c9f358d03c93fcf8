"""Stored pixel values of each frame, whatever the transfer syntax."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.part10 import PIXEL_DATA, said, tag_of, unparsed
from pipelines.contract import CouldNotLook

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    from pydicom import Dataset

GREY = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"

_BULK_GROUP = 0x7FE0
_LAYOUT = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation")
_HOW_STORED = tuple(
    map(
        tag_of,
        (*_LAYOUT, "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "PixelData"),
    )
)
_PADDING = tag_of("PixelPaddingValue")
_DAMAGED = "The pixel data of an image are too short or damaged and cannot be decoded."


class Layout(NamedTuple):
    """How pixel data lie in a file that are not compressed: one grey value after the other.

    Attributes:
        dtype: Of a value, in the machine's own order.
        shape: Frames, rows, columns.
        spare_bits: Of a value, above Bits Stored.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, int, int]
    spare_bits: int


Layouts = dict[tuple[object, ...], Layout | None]
"""What data sets say of their pixels, in bytes -> how these lie, None where that is unusual."""


def require_decodable(dataset: Dataset) -> None:
    """Raise CouldNotLook unless ``dataset`` holds pixel data that can be decoded here."""
    if "PixelData" not in dataset:
        raise CouldNotLook("An image holds no pixel data.")
    if any(keyword not in dataset for keyword in _LAYOUT):
        raise CouldNotLook("The header of an image does not say how its pixel data are laid out.")
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise CouldNotLook(
            f"The images are compressed as {syntax.name}, for which this node has no decoder."
        )


def stored_frames(dataset: Dataset, layouts: Layouts | None = None) -> Iterator[npt.NDArray[Any]]:
    """Yield the stored values of each frame, shape (rows, columns), before any rescale.

    Bits above Bits Stored, where old objects hide overlays, are cleared and the sign bit is
    extended (PS3.5 section 8.1.1).

    Args:
        dataset: With pixel data.
        layouts: Of other images of the series; more are added.

    Raises:
        CouldNotLook: The pixel data are too short or damaged.
    """
    layout = _layout(dataset, {} if layouts is None else layouts)
    plain = None if layout is None else _from_file(dataset, layout)
    for values in _decoded(dataset, raw=True) if plain is None else plain:
        bits = 8 * values.dtype.itemsize
        spare = bits - int(dataset.BitsStored) if layout is None else layout.spare_bits
        if spare <= 0:
            yield values
        elif plain is None:
            yield (values << spare) >> spare
        elif values.dtype.kind == "u":
            yield np.bitwise_and(values, (1 << (bits - spare)) - 1, out=values)
        else:
            np.left_shift(values, spare, out=values)
            yield np.right_shift(values, spare, out=values)


def lies_on_disk(dataset: Dataset) -> bool:
    """Say whether the pixel data have not been read: they are not compressed, and not small."""
    element = unparsed(dataset, PIXEL_DATA)
    return element is not None and element.value is None


def _layout(dataset: Dataset, layouts: Layouts) -> Layout | None:
    """Return how pixel data lie in their file that nobody has read yet.

    None where they are in memory, or anything about them is unusual: pydicom knows what to do.
    """
    if not lies_on_disk(dataset):
        return None
    known = said(dataset, _HOW_STORED)
    if known is None:
        return _stated_layout(dataset)
    if known not in layouts:
        layouts[known] = _stated_layout(dataset)
    return layouts[known]


def _stated_layout(dataset: Dataset) -> Layout | None:
    """Return what the header states. Little endian is assumed to be the machine's own order."""
    element = unparsed(dataset, PIXEL_DATA)
    syntax = dataset.file_meta.TransferSyntaxUID
    if element is None:
        return None
    if syntax not in (ExplicitVRLittleEndian, ImplicitVRLittleEndian) or sys.byteorder != "little":
        return None
    allocated, signed = dataset.BitsAllocated, dataset.PixelRepresentation
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if (
        allocated not in (8, 16)
        or signed not in (0, 1)
        or not 1 <= dataset.BitsStored <= allocated
        or dataset.get("SamplesPerPixel") != 1
        or dataset.get("PhotometricInterpretation") not in GREY
        or frames < 1
    ):
        return None
    dtype = np.dtype(f"{'i' if signed else 'u'}{allocated // 8}")
    length = frames * rows * columns * dtype.itemsize
    if not length or element.length != length + length % 2:
        return None
    spare_bits = 8 * dtype.itemsize - int(dataset.BitsStored)
    return Layout(dtype, (frames, rows, columns), spare_bits)


def _from_file(dataset: Dataset, layout: Layout) -> Iterator[npt.NDArray[Any]]:
    """Yield each frame from where it lies in the file."""
    element = unparsed(dataset, PIXEL_DATA)
    if element is None:
        raise AssertionError("Pixel data with a layout lie on the disk.")
    frames, *shape = layout.shape
    with Path(dataset.filename).open("rb", buffering=0) as file:
        file.seek(element.value_tell)
        for _ in range(frames):
            values = np.empty(shape, layout.dtype)
            if file.readinto(values.data.cast("B")) != values.nbytes:
                raise CouldNotLook(_DAMAGED)
            yield values


def colour_frames(dataset: Dataset) -> Iterator[npt.NDArray[Any]]:
    """Yield each frame of a colour image as RGB, shape (rows, columns, 3), of 8 or 16 bits.

    Luminance and chrominance are converted (PS3.3 C.7.6.3.1.2), palettes looked up.

    Raises:
        CouldNotLook: The pixel data are too short or damaged, or the palette is.
    """
    palette = dataset.PhotometricInterpretation == PALETTE
    for values in _decoded(dataset, raw=palette):
        try:
            yield apply_color_lut(values, dataset) if palette else values
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise CouldNotLook("The colour palette of an image is damaged.") from error


def _decoded(dataset: Dataset, *, raw: bool) -> Iterator[npt.NDArray[Any]]:
    expected = int(dataset.get("NumberOfFrames", 1) or 1)
    decoded = 0
    try:
        for values in iter_pixels(dataset, raw=raw):
            yield values
            decoded += 1
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise CouldNotLook(_DAMAGED) from error
    if decoded != expected:
        raise CouldNotLook(_DAMAGED)


def drop_pixels(dataset: Dataset) -> None:
    """Delete the pixel data and what belongs to them, in place."""
    # ``group_dataset`` would read from the disk what is not read yet.
    for tag in [tag for tag in dataset.keys() if tag.group == _BULK_GROUP]:  # noqa: SIM118 - tags
        del dataset[tag]


def padding_range(dataset: Dataset) -> tuple[int, int] | None:
    """Return the lowest and highest stored value that mean "no data here" (PS3.3 C.7.5.1.1.2)."""
    value = dataset.PixelPaddingValue if _PADDING in dataset else None
    if value is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    bounds = sorted((int(value), int(value if limit is None else limit)))
    return bounds[0], bounds[1]
