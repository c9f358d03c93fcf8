"""Outlines as a DICOM Segmentation (PS3.3 A.51, A.101) on the images analysed.

BINARY, because every viewer and PACS tried shows it; label maps are refused or coloured wrongly
by some. But where a frame or a row does not end with a byte, OHIF 3.13 (dcmjs takes the highest
bit for the first) and Weasis 4.6 (its issue 820) draw bits scrambled, and do not say so. Where
Columns is no multiple of ``BINARY_COLUMNS`` the same voxels are a byte each: FRACTIONAL, occupied
wholly or not at all. OHIF and Weasis 4.7 draw that as it is, earlier ones draw nothing.

All frames are written, empty ones too, because viewers have placed sparse segmentations on the
wrong slices; beyond ``DENSE_FRAMES`` the object would grow by gigabytes, and empty frames are
left out.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from pydicom import Dataset
from pydicom.uid import SegmentationStorage

from node.domain import Role
from node.encode import identity
from node.encode.multiframe import bits, planes
from node.encode.multiframe.frames import Frame, set_frames
from node.encode.multiframe.segments import describe
from node.errors import GateClosed
from node.profiles import LABEL_MAP_SEGMENTATION_STORAGE
from pipelines.contract import Volume, Waveform
from sr_templates.report import NOT_FOR_DIAGNOSIS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node.encode.work import Work
    from node.load.source import Source
    from pipelines.contract import Finding, Segment

DENSE_FRAMES = 4000

BINARY_COLUMNS = 8
"""Columns of a BINARY segmentation are a multiple of it, so that each row ends with a byte."""

OCCUPIED = 255
"""Maximum Fractional Value (PS3.3 C.8.20.2): the largest of a byte, so that a reader that does
not look it up sees full intensity. Values between 0 and it would make OHIF draw nothing."""

_LARGEST_8_BIT = 255


def can_be_labelmap(segments: tuple[Segment, ...]) -> bool:
    """Say whether each voxel belongs to at most one segment, so that one number tells which."""
    masks = [segment.mask for segment in segments]
    return not bits.overlap(masks, bits.voxels(masks))


def encode_segmentation(
    source: Source,
    segments: tuple[Segment, ...],
    work: Work,
    role: Role = Role.SEG,
    findings: tuple[Finding, ...] = (),
) -> Dataset:
    """Return one Segmentation of all ``segments``; numbers count from 1.

    Args:
        source: Its study is a volume or images.
        segments: At least one, none empty; masks on the source's own images, in its order.
        work: The job.
        role: SEG, or LABELMAP for a Label Map Segmentation. That has no item for background,
            which would shift every colour in OHIF; Pixel Padding Value tells (PS3.3 C.8.20.2).
        findings: Of the result; a segment lies where the finding that it outlines does.

    Raises:
        TypeError: The study is a waveform.
        GateClosed: Segments overlap in what shall become a label map.
    """
    if isinstance(source.study, Waveform):
        raise TypeError("Segments outline images; got a waveform.")
    masks, labelmap = [segment.mask for segment in segments], role is Role.LABELMAP
    result = _header(source, work, role)
    with ThreadPoolExecutor(1) as beside:  # voxels need no interpreter, which all else keeps busy
        counting = beside.submit(bits.voxels, masks)
        result.SegmentSequence = [
            describe(number, segment, findings, work) for number, segment in enumerate(segments, 1)
        ]
        counts = counting.result()
        frames = _labelmap_frames(source) if labelmap else _binary_frames(source, counts)
        overlapping = beside.submit(bits.overlap, masks, counts)
        pixels = beside.submit(_labels if labelmap else _occupancy, masks, counts, frames)
        set_frames(result, source, frames, work.uid(f"{role}-dimensions"))
    if overlapping.result() and labelmap:
        raise GateClosed(("The segments overlap: one label map cannot hold them.",))
    result.SegmentsOverlap = "YES" if overlapping.result() else "NO"
    _set_kind(result, masks[0].shape[-1], labelmap=labelmap)
    _set_pixels(result, masks[0].shape[-2:], *pixels.result())
    if _is_stack(source, frames):
        result.DimensionOrganizationType = "3D"
    identity.stamp(result, source.instances[0], work, role)
    return result


def _header(source: Source, work: Work, role: Role) -> Dataset:
    first = source.instances[0]
    result = Dataset()
    labelmap = role is Role.LABELMAP
    result.SOPClassUID = LABEL_MAP_SEGMENTATION_STORAGE if labelmap else SegmentationStorage
    result.SOPInstanceUID = work.uid(role)
    result.SeriesInstanceUID = work.uid(f"{role}-series")
    result.InstanceNumber = 1
    result.Modality = "SEG"
    result.ImageType = ["DERIVED", "PRIMARY"]
    result.ContentLabel = "AI_SEGMENTATION"
    result.ContentDescription = NOT_FOR_DIAGNOSIS
    result.ContentCreatorName = ""  # nobody; type 2
    result.LossyImageCompression = first.get("LossyImageCompression") or "00"
    if result.LossyImageCompression == "01":
        for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if keyword in first:
                setattr(result, keyword, first[keyword].value)
    planes.set_frame_of_reference(result, source)
    result.SharedFunctionalGroupsSequence = [planes.shared_groups(source)]
    return result


def _binary_frames(source: Source, counts: bits.Counts) -> list[Frame]:
    """Return a frame for each segment on each image, or where there is anything if they are many.

    The segment counts first: its frames follow each other.
    """
    sparse = counts.size > DENSE_FRAMES
    images = [k for k in planes.order(source) if not sparse or counts[:, k].any()]
    return [
        Frame(k, place, number)
        for number, own in enumerate(counts, start=1)
        for place, k in enumerate(images, start=1)
        if not sparse or own[k]
    ]


def _labelmap_frames(source: Source) -> list[Frame]:
    return [Frame(k, place, None) for place, k in enumerate(planes.order(source), start=1)]


def _set_kind(result: Dataset, columns: int, *, labelmap: bool) -> None:
    """Say what a voxel holds."""
    if labelmap:
        result.SegmentationType = "LABELMAP"
        result.add_new("PixelPaddingValue", "US", 0)
    elif columns % BINARY_COLUMNS == 0:
        result.SegmentationType = "BINARY"
    else:
        result.SegmentationType = "FRACTIONAL"
        result.SegmentationFractionalType = "OCCUPANCY"
        result.MaximumFractionalValue = OCCUPIED


def _occupancy(
    masks: Sequence[bits.Mask], counts: bits.Counts, frames: Sequence[Frame]
) -> tuple[bytes, int]:
    """Return pixel data, and how many bits a voxel has."""
    _, rows, columns = masks[0].shape
    shown = [
        masks[number - 1][k] if counts[number - 1, k] else None
        for k, _, number in frames
        if number is not None
    ]
    if columns % BINARY_COLUMNS == 0:
        return bits.packed(shown, rows * columns), 1
    return bits.occupied(shown, rows * columns, OCCUPIED), 8


def _labels(
    masks: Sequence[bits.Mask], counts: bits.Counts, frames: Sequence[Frame]
) -> tuple[bytes, int]:
    """Return pixel data, and how many bits a voxel has."""
    dtype = np.uint8 if len(masks) <= _LARGEST_8_BIT else np.uint16
    pixels = bits.labelled(masks, counts, [frame.image for frame in frames], dtype)
    return pixels, 8 * np.dtype(dtype).itemsize


def _set_pixels(
    result: Dataset, shape: tuple[int, ...], pixels: bytes, bits_allocated: int
) -> None:
    result.Rows, result.Columns = shape
    result.SamplesPerPixel = 1
    result.PhotometricInterpretation = "MONOCHROME2"
    result.PresentationLUTShape = "IDENTITY"
    result.BitsAllocated = result.BitsStored = bits_allocated
    result.HighBit = bits_allocated - 1
    result.PixelRepresentation = 0
    result.add_new("PixelData", "OW" if bits_allocated > 8 else "OB", pixels)


def _is_stack(source: Source, frames: Sequence[Frame]) -> bool:
    """Say whether the frames lie behind each other at one distance (PS3.3 C.7.6.17.3)."""
    if source.shifts_px or not isinstance(source.study, Volume):
        return False
    steps = {later.image - earlier.image for earlier, later in pairwise(frames)}
    return steps in ({1}, {-1}) and len({frame.segment for frame in frames}) == 1
