"""A CT or MR series, classic or Enhanced multi-frame, as one volume in its own grid."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from node.load.headers import groups, plane, rescale, technical_attributes
from node.load.pixels import (
    GREY,
    Layouts,
    drop_pixels,
    lies_on_disk,
    padding_range,
    require_decodable,
    stored_frames,
)
from node.load.source import Source
from node.part10 import said, tag_of, uid_of
from pipelines.contract import CouldNotLook, Volume
from pipelines.geometry import Plane, stack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydicom import Dataset

_REQUIRED = tuple(
    map(
        tag_of,
        (
            *("SOPClassUID", "SeriesInstanceUID", "FrameOfReferenceUID", "ModalityLUTSequence"),
            *("SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated"),
            *("BitsStored", "PixelRepresentation", "PixelData"),
        ),
    )
)
"""What is held against each image before its place is."""

_CLASS, _FRAMES = tag_of("SOPClassUID"), tag_of("NumberOfFrames")

_SINGLE_FRAME = (CTImageStorage, MRImageStorage)
_MULTI_FRAME = (
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
)

FloatVoxels = npt.NDArray[np.float32]
_Padding = tuple[int, npt.NDArray[np.bool_]]
"""Of a slice: which it is, and which of its voxels mean nothing."""

_THREADS = 2
"""One reads while the other computes; the memory allows no more."""


class _Frame(NamedTuple):
    plane: Plane
    slope: float
    intercept: float


def load_volume(datasets: Sequence[Dataset]) -> Source:
    """Stack the images of one series, given in any order, by their position in the patient.

    File names and instance numbers play no part. The pixel data of each data set are dropped as
    soon as they are decoded, so that no series is in memory twice. Sheared slices are moved onto
    a straight grid; the attributes of the volume then say so (Gantry/Detector Tilt, as measured
    where the header has none).

    Args:
        datasets: Whole data sets with file meta information; they lose their pixel data.

    Raises:
        CouldNotLook: The images make no regular volume of grey values; the reason says why.
    """
    unlike = list(_unlike(datasets))
    _require_one_series(unlike, len(datasets))
    for dataset in unlike:
        require_decodable(dataset)
        _require_plain_grey(dataset)
    frames = [frame for dataset in datasets for frame in _frames(dataset)]
    grid, order, shifts_px, tilt_degrees = stack([frame.plane for frame in frames])
    attributes = technical_attributes(list(groups(datasets[0], 0)))
    if shifts_px:
        attributes.setdefault("GantryDetectorTilt", f"{tilt_degrees:.1f}")
    voxels = np.empty(grid.shape, dtype=np.float32)
    rows, columns = frames[0].plane.shape
    _fill(voxels[:, :rows, :columns], datasets, frames, slices=np.argsort(order))
    _straighten(voxels, (rows, columns), shifts_px)
    study = Volume(voxels, grid, attributes)
    if len(datasets) == 1:
        numbers = tuple(index + 1 for index in order)
        return Source(study, tuple(datasets), numbers, shifts_px)
    return Source(study, tuple(datasets[index] for index in order), shifts_px=shifts_px)


def _unlike(datasets: Sequence[Dataset]) -> Iterator[Dataset]:
    """Yield one of those that are alike, to the byte, in all that is required of a series."""
    seen = set()
    for dataset in datasets:
        told = said(dataset, _REQUIRED)
        if told is None or told not in seen:
            yield dataset
        seen.add(told)


def _require_one_series(datasets: Sequence[Dataset], count: int) -> None:
    classes = sorted({UID(dataset.SOPClassUID) for dataset in datasets})
    others = [
        sop_class.name for sop_class in classes if sop_class not in _SINGLE_FRAME + _MULTI_FRAME
    ]
    if not datasets or others:
        raise CouldNotLook(
            f"The series holds {' and '.join(others) or 'nothing'}; "
            "a volume is made of CT or MR images only."
        )
    if len(classes) > 1:
        raise CouldNotLook("The series mixes images of different kinds (SOP classes).")
    if classes[0] in _MULTI_FRAME and count > 1:
        raise CouldNotLook(
            f"The series holds {count} multi-frame objects; which of them to look at is not clear."
        )
    if len({dataset.SeriesInstanceUID for dataset in datasets}) > 1:
        raise CouldNotLook("The images belong to different series.")
    references = {str(dataset.get("FrameOfReferenceUID") or "") for dataset in datasets}
    if references == {""} or len(references) > 1:
        raise CouldNotLook(
            "The images have no common frame of reference, so that their positions cannot be "
            "compared."
        )


def _require_plain_grey(dataset: Dataset) -> None:
    photometric = str(dataset.get("PhotometricInterpretation", "missing"))
    if photometric not in GREY or dataset.get("SamplesPerPixel", 1) != 1:
        raise CouldNotLook(
            f"The images hold colours, not grey values (photometric interpretation {photometric})."
        )
    if "ModalityLUTSequence" in dataset:
        raise CouldNotLook(
            "The images map their values by a table (Modality LUT), which CT and MR images "
            "must not have."
        )


def _frames(dataset: Dataset) -> Iterator[_Frame]:
    shape = (int(dataset.Rows), int(dataset.Columns))
    if uid_of(dataset.get_item(_CLASS)) in _SINGLE_FRAME:
        yield _Frame(plane([dataset], shape), *rescale([dataset]))
        return
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    if len(per_frame) != int(dataset.get("NumberOfFrames") or 0):
        raise CouldNotLook("The multi-frame object does not describe each of its frames.")
    _require_one_stack(per_frame)
    for number in range(len(per_frame)):
        description = list(groups(dataset, number))
        yield _Frame(plane(description, shape), *rescale(description))


def _require_one_stack(per_frame: Sequence[Dataset]) -> None:
    contents = [
        item.FrameContentSequence[0] for item in per_frame if item.get("FrameContentSequence")
    ]
    for keyword, name in (("StackID", "stacks"), ("TemporalPositionIndex", "temporal positions")):
        count = len({content.get(keyword) for content in contents})
        if count > 1:
            raise CouldNotLook(
                f"The multi-frame object holds {count} {name}; this model looks at one volume."
            )


def _fill(
    voxels: FloatVoxels,
    datasets: Sequence[Dataset],
    frames: Sequence[_Frame],
    slices: npt.NDArray[np.intp],
) -> None:
    """Decode every frame into its slice and drop the pixel data.

    Padding takes the darkest value of the real voxels: the outside of the body.
    """
    counts = [
        int(dataset.get("NumberOfFrames") or 1) if _FRAMES in dataset else 1 for dataset in datasets
    ]
    firsts = [sum(counts[:index]) for index in range(len(counts))]

    layouts: Layouts = {}

    def fill(dataset: Dataset, first: int) -> tuple[np.float32, list[_Padding]]:
        return _fill_from(dataset, voxels, frames, slices, first, layouts)

    # What reads and rescales lets other threads run; pydicom's decoders do not.
    with ThreadPoolExecutor(_THREADS if lies_on_disk(datasets[0]) else 1) as threads:
        filled = list(threads.map(fill, datasets, firsts))
    darkest = min(darkest for darkest, _ in filled)
    if np.isfinite(darkest):
        for position, padded in chain.from_iterable(padding for _, padding in filled):
            voxels[position][padded] = darkest


def _fill_from(  # noqa: PLR0913, PLR0917 - one of hundreds, and what they have in common
    dataset: Dataset,
    voxels: FloatVoxels,
    frames: Sequence[_Frame],
    slices: npt.NDArray[np.intp],
    first: int,
    layouts: Layouts,
) -> tuple[np.float32, list[_Padding]]:
    """Fill the slices of one data set, whose first frame is ``frames[first]``.

    Returns:
        The darkest real voxel, infinite where there is no padding, and where there is.
    """
    padding: list[_Padding] = []
    darkest = np.float32(np.inf)
    outside = padding_range(dataset)
    for number, stored in enumerate(stored_frames(dataset, layouts), start=first):
        position = int(slices[number])
        slope, intercept = np.float32(frames[number].slope), np.float32(frames[number].intercept)
        if slope == 1.0 and stored.dtype.itemsize <= 2:  # which a float32 holds exactly
            np.add(stored, intercept, out=voxels[position])
        else:
            np.multiply(stored, slope, out=voxels[position])
            voxels[position] += intercept
        if outside is not None:
            padded = (stored >= outside[0]) & (stored <= outside[1])
            darkest = min(darkest, voxels[position].min(where=~padded, initial=np.inf))
            if padded.any():
                padding.append((position, padded))
    drop_pixels(dataset)
    return darkest, padding


def _straighten(
    voxels: FloatVoxels, shape: tuple[int, int], shifts_px: Sequence[tuple[float, float]]
) -> None:
    """Move the image in the corner of each slice to its place, interpolating linearly.

    What lies beside the image takes the darkest value of all, as the outside of the body has it.

    Args:
        voxels: Changed in place.
        shape: Rows and columns of the images.
        shifts_px: Of each image along rows and columns; none where there is nothing to do.
    """
    rows, columns = shape
    outside = voxels[:, :rows, :columns].min() if shifts_px else 0.0
    for number, (down, right) in enumerate(shifts_px):
        image = np.pad(voxels[number, :rows, :columns], 1, constant_values=outside)
        image = image[1:] + (down % 1.0) * (image[:-1] - image[1:])
        image = image[:, 1:] + (right % 1.0) * (image[:, :-1] - image[:, 1:])
        row, column = int(down), int(right)
        place = voxels[number, row : row + rows + 1, column : column + columns + 1]
        voxels[number] = outside
        place[...] = image[: place.shape[0], : place.shape[1]]
