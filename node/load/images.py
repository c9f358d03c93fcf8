"""One radiograph, ultrasound image or clip as a pipeline sees it: frames that make no volume."""

from __future__ import annotations

from contextlib import suppress
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydicom.pixels.processing import apply_modality_lut

from node.load.headers import technical_attributes
from node.load.pixels import (
    GREY,
    PALETTE,
    colour_frames,
    drop_pixels,
    padding_range,
    require_decodable,
    stored_frames,
)
from node.load.source import Source
from node.malformed import MALFORMED
from pipelines.contract import CouldNotLook, Images

if TYPE_CHECKING:
    from pydicom import Dataset

_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", PALETTE)

_TISSUE_2D = (1, 1)
"""Region Spatial Format and Region Data Type (PS3.3 C.8.5.5.1.1, C.8.5.5.1.2)."""

_CENTIMETRES = (3, 3)
"""Physical Units along x and y (PS3.3 C.8.5.5.1.15)."""

FloatFrames = npt.NDArray[np.float32]
ColourFrames = npt.NDArray[np.uint8]


def load_images(dataset: Dataset) -> Source:
    """Return the frames of one object, how far apart their pixels are, and when they were taken.

    Grey values come after the modality's rescale or table and before any window. Those of a
    MONOCHROME1 image are mirrored within their range, so that higher is always brighter; padding
    takes the darkest value. Colours come as RGB.

    A radiograph's spacing is Pixel Spacing if it has one, else Imager Pixel Spacing, which is that
    at the detector: what lies in front of it is smaller. That of an ultrasound image is that of
    its two-dimensional tissue regions, where they agree and lie within the image.

    Args:
        dataset: Whole, with file meta information; it loses its pixel data.

    Raises:
        CouldNotLook: The pixel data cannot be read.
    """
    require_decodable(dataset)
    photometric = str(dataset.get("PhotometricInterpretation", "missing"))
    if photometric not in GREY + _COLOURS:
        raise CouldNotLook(f"The pixel data mean {photometric}, which is not read here.")
    frames = _grey(dataset) if photometric in GREY else _colour(dataset)
    drop_pixels(dataset)
    count = len(frames)
    study = Images(
        frames, _spacing_mm(dataset), _times_s(dataset, count), technical_attributes([dataset])
    )
    return Source(study, (dataset,), tuple(range(1, count + 1)) if count > 1 else ())


def _shape(dataset: Dataset) -> tuple[int, int, int]:
    return int(dataset.get("NumberOfFrames") or 1), int(dataset.Rows), int(dataset.Columns)


def _colour(dataset: Dataset) -> ColourFrames:
    frames = np.empty((*_shape(dataset), 3), dtype=np.uint8)
    for number, values in enumerate(colour_frames(dataset)):
        frames[number] = values >> 8 if values.dtype.itemsize == 2 else values
    return frames


def _grey(dataset: Dataset) -> FloatFrames:
    frames = np.empty(_shape(dataset), dtype=np.float32)
    mirrored = dataset.PhotometricInterpretation == "MONOCHROME1"
    both_ends = sum(_value_range(dataset)) if mirrored else 0.0
    outside = padding_range(dataset)
    for number, stored in enumerate(stored_frames(dataset)):
        values = _modality_values(stored, dataset)
        frames[number] = both_ends - values if mirrored else values
        if outside is not None:
            frames[number][(stored >= outside[0]) & (stored <= outside[1])] = np.nan
    if outside is not None:
        padding = np.isnan(frames)
        frames[padding] = frames.min(where=~padding, initial=np.inf)
    if not np.isfinite(frames).all():
        raise CouldNotLook("The image holds nothing but padding, or values that are no numbers.")
    return frames


def _modality_values(stored: npt.NDArray[Any], dataset: Dataset) -> FloatFrames:
    try:
        return np.asarray(apply_modality_lut(stored, dataset), dtype=np.float32)
    except (*MALFORMED, IndexError) as error:
        raise CouldNotLook("The rescale or the Modality LUT of an image is damaged.") from error


def _value_range(dataset: Dataset) -> tuple[float, float]:
    """Return the values between which an image may lie, after the modality's rescale or table."""
    if dataset.get("ModalityLUTSequence"):
        bits = int(dataset.ModalityLUTSequence[0].LUTDescriptor[2])
        return 0.0, 2.0**bits - 1.0
    lowest = -(1 << int(dataset.BitsStored) - 1) if dataset.PixelRepresentation else 0
    ends = np.array([lowest, lowest + (1 << int(dataset.BitsStored)) - 1])
    first, last = _modality_values(ends, dataset)
    return float(first), float(last)


def _spacing_mm(dataset: Dataset) -> tuple[float, float] | None:
    """Return the spacing along (row, column) index; None where no usable one is stated."""
    with suppress(*MALFORMED):
        if dataset.get("SequenceOfUltrasoundRegions"):
            return _spacing_of_regions_mm(dataset)
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        with suppress(*MALFORMED):
            between_rows, between_columns = map(float, dataset[keyword].value)
            if _usable(between_rows, between_columns):
                return between_rows, between_columns
    return None


def _spacing_of_regions_mm(dataset: Dataset) -> tuple[float, float] | None:
    spacings = set()
    for region in dataset.SequenceOfUltrasoundRegions:
        if (region.RegionSpatialFormat, region.RegionDataType) != _TISSUE_2D:
            continue
        # A region that reaches beyond the image was there before somebody scaled or cropped it.
        if (
            region.RegionLocationMaxX1 > dataset.Columns
            or region.RegionLocationMaxY1 > dataset.Rows
            or (region.PhysicalUnitsXDirection, region.PhysicalUnitsYDirection) != _CENTIMETRES
        ):
            return None
        down, right = abs(region.PhysicalDeltaY), abs(region.PhysicalDeltaX)
        spacings.add((10.0 * float(down), 10.0 * float(right)))
    if len(spacings) == 1 and _usable(*(spacing := spacings.pop())):
        return spacing
    return None


def _usable(*spacing_mm: float) -> bool:
    return all(isfinite(value) and value > 0.0 for value in spacing_mm)


def _times_s(dataset: Dataset, count: int) -> tuple[float, ...]:
    """Return when each of several frames was taken, from the first (PS3.3 C.7.6.5.1)."""
    steps_ms: list[float] = []
    with suppress(*MALFORMED):
        if "FrameTimeVector" in dataset:
            # The first step leads to the first frame.
            steps_ms = [float(step) for step in dataset.FrameTimeVector][1:]
        elif dataset.get("FrameTime"):
            steps_ms = [float(dataset.FrameTime)] * (count - 1)
        elif dataset.get("CineRate"):
            steps_ms = [1000.0 / float(dataset.CineRate)] * (count - 1)
    if count == 1 or len(steps_ms) != count - 1 or not _usable(*steps_ms):
        return ()
    return (0.0, *(float(time) for time in np.cumsum(steps_ms) / 1000.0))
