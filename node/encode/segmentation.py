"""Outlines as a DICOM Segmentation (PS3.3 A.51) on the grid of the images analysed.

BINARY, because every viewer and PACS tried shows it; fractional values and label maps are
refused or coloured wrongly by some. All frames are written, empty ones too, because viewers
have placed sparse segmentations on the wrong slices; beyond ``DENSE_FRAMES`` the object would
grow by gigabytes, and empty frames are left out.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import highdicom as hd
import numpy as np
from pydicom import Dataset

from node.domain import Role
from node.encode import identity
from pipelines.contract import Segment, Volume
from sr_templates import codes
from sr_templates.items import concept
from sr_templates.report import NOT_FOR_DIAGNOSIS

if TYPE_CHECKING:
    from node.encode.work import Work
    from node.load.source import Source

DENSE_FRAMES = 4000


def encode_segmentation(source: Source, segments: tuple[Segment, ...], work: Work) -> Dataset:
    """Return one Segmentation of all ``segments``, which are not empty; numbers count from 1.

    Args:
        source: Its study is a volume.
        segments: Masks on the volume's grid.
        work: The job.

    Raises:
        TypeError: The study is not a volume.
    """
    if not isinstance(source.study, Volume):
        raise TypeError("Segments outline a volume; got a waveform.")
    masks = np.stack([segment.mask for segment in segments], axis=-1).astype(np.uint8)
    measures = _pixel_measures(source)
    dataset = hd.seg.Segmentation(
        source_images=_slices(source, measures),
        pixel_array=masks,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _description(number, segment, work) for number, segment in enumerate(segments, start=1)
        ],
        series_instance_uid=work.uid("seg-series"),
        series_number=1,
        sop_instance_uid=work.uid("seg"),
        instance_number=1,
        manufacturer=identity.MANUFACTURER,
        manufacturer_model_name=work.pipeline[:64],
        software_versions=work.software_version[:64],
        device_serial_number=work.model.weights_sha256[:64],
        pixel_measures=measures,
        omit_empty_frames=masks.shape[0] * len(segments) > DENSE_FRAMES,
        content_label="AI_SEGMENTATION",
        content_description=NOT_FOR_DIAGNOSIS,
        specific_character_set="ISO_IR 192",
    )
    if source.frame_numbers:
        _refer_to_frames(dataset, source.frame_numbers)
    dataset.ContentCreatorName = ""  # nobody; type 2
    identity.stamp(dataset, source.instances[0], work, Role.SEG)
    organisation = work.uid("seg-dimensions")
    dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID = organisation
    for index in dataset.DimensionIndexSequence:
        index.DimensionOrganizationUID = organisation
    return dataset


def _slices(source: Source, measures: Any) -> list[Dataset]:
    """Return a header for each slice, or one whose frames are the slices in order.

    A multi-frame source lists its frames in any order and may hold others. Orientation and
    spacing are stated once for all: they may differ from slice to slice in their last digit or
    stand with each frame, and highdicom wants them alike and shared.
    """
    headers = [identity.blank_identity(instance) for instance in source.instances]
    if not source.frame_numbers:
        orientation = headers[0].ImageOrientationPatient
        for header in headers:
            _put(header, "ImageOrientationPatient", orientation)
            for keyword in ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"):
                _put(header, keyword, measures[0][keyword].value)
        return headers
    (header,) = headers
    shared = Dataset()
    shared.update(header.SharedFunctionalGroupsSequence[0])
    frames = [
        header.PerFrameFunctionalGroupsSequence[number - 1] for number in source.frame_numbers
    ]
    orientation = shared.get("PlaneOrientationSequence") or frames[0].PlaneOrientationSequence
    _put(shared, "PlaneOrientationSequence", orientation)
    _put(shared, "PixelMeasuresSequence", measures)
    _put(header, "SharedFunctionalGroupsSequence", [shared])
    _put(header, "PerFrameFunctionalGroupsSequence", frames)
    _put(header, "NumberOfFrames", len(frames))
    return headers


def _put(header: Dataset, keyword: str, value: Any) -> None:
    """Set an attribute of a copy that shares its elements with the original."""
    if keyword in header:
        del header[keyword]
    setattr(header, keyword, value)


def _refer_to_frames(dataset: Dataset, frame_numbers: tuple[int, ...]) -> None:
    """Turn references to slice ``k`` into references to the frame that it is in the source."""
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        # highdicom gives the frames of all segments in one slice the very same item.
        frame.DerivationImageSequence = deepcopy(frame.DerivationImageSequence)
        for derivation in frame.DerivationImageSequence:
            for image in derivation.SourceImageSequence:
                image.ReferencedFrameNumber = frame_numbers[int(image.ReferencedFrameNumber) - 1]


def _pixel_measures(source: Source) -> Any:
    """Return the spacing, with the distance between slices, without which volume is guesswork."""
    slice_mm, row_mm, column_mm = source.study.grid.spacing_mm  # type: ignore[union-attr]
    return hd.PixelMeasuresSequence(
        pixel_spacing=(row_mm, column_mm),
        slice_thickness=_slice_thickness(source.instances[0]) or slice_mm,
        spacing_between_slices=slice_mm,
    )


def _slice_thickness(instance: Dataset) -> float | None:
    shared = instance.get("SharedFunctionalGroupsSequence") or ()
    frames = instance.get("PerFrameFunctionalGroupsSequence") or ()
    for groups in (*shared, *frames[:1]):
        for measures in groups.get("PixelMeasuresSequence") or ():
            if measures.get("SliceThickness"):
                return float(measures.SliceThickness)
    thickness = instance.get("SliceThickness")
    return float(thickness) if thickness else None


def _description(number: int, segment: Segment, work: Work) -> Any:
    model = work.model
    algorithm = hd.AlgorithmIdentificationSequence(
        name=model.name[:64],
        family=concept(codes.ARTIFICIAL_INTELLIGENCE),
        version=model.version[:64],
        source=model.maker[:64],
        parameters={
            "pipeline": f"{work.pipeline} {work.pipeline_version}",
            "weights_sha256": model.weights_sha256,
            **{name: work.parameters[name] for name in sorted(work.parameters)},
        },
    )
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.label,
        segmented_property_category=concept(segment.category),
        segmented_property_type=concept(segment.property),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        tracking_uid=work.tracking_uid(segment),
        tracking_id=segment.label,
        display_color=hd.color.CIELabColor.from_rgb(*segment.color),
    )
