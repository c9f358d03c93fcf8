"""Stored pixel values of each frame, whatever the transfer syntax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID

from pipelines.contract import CouldNotLook

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    from pydicom import Dataset

GREY = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"

_BULK_GROUP = 0x7FE0
_LAYOUT = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation")
_DAMAGED = "The pixel data of an image are too short or damaged and cannot be decoded."


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


def stored_frames(dataset: Dataset) -> Iterator[npt.NDArray[Any]]:
    """Yield the stored values of each frame, shape (rows, columns), before any rescale.

    Bits above Bits Stored, where old objects hide overlays, are cleared and the sign bit is
    extended (PS3.5 section 8.1.1).

    Raises:
        CouldNotLook: The pixel data are too short or damaged.
    """
    for values in _decoded(dataset, raw=True):
        spare = 8 * values.dtype.itemsize - int(dataset.BitsStored)
        yield (values << spare) >> spare if spare > 0 else values


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
    for element in list(dataset.group_dataset(_BULK_GROUP)):
        del dataset[element.tag]


def padding_range(dataset: Dataset) -> tuple[int, int] | None:
    """Return the lowest and highest stored value that mean "no data here" (PS3.3 C.7.5.1.1.2)."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    bounds = sorted((int(value), int(value if limit is None else limit)))
    return bounds[0], bounds[1]
