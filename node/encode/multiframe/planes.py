"""Where the images of a source are, as functional groups of what is drawn on them.

An object drawn on images states of each frame which image it belongs to, and where that is in
the patient as far as the image itself says so (PS3.3 C.7.6.16.2.6, C.7.6.16.2.3). A radiograph
and most ultrasound do not: what is drawn on them refers to the image alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.valuerep import DS, is_valid_ds

from node.encode.multiframe.images import image
from node.load.headers import decimals
from pipelines.contract import Images, Volume

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from node.load.source import Source


def set_references(result: Dataset, source: Source) -> None:
    """Name every instance that the result is derived from, in its series.

    Without Referenced Series Sequence viewers load nothing.
    """
    references = []
    for instance in source.instances:
        reference = Dataset()
        reference.ReferencedSOPClassUID = instance.SOPClassUID
        reference.ReferencedSOPInstanceUID = instance.SOPInstanceUID
        references.append(reference)
    series = Dataset()
    series.SeriesInstanceUID = source.instances[0].SeriesInstanceUID
    series.ReferencedInstanceSequence = references
    result.SourceImageSequence = references
    result.ReferencedSeriesSequence = [series]


def set_frame_of_reference(result: Dataset, source: Source) -> None:
    """Copy the frame of reference, where the source has one, or how the patient lay instead."""
    first = source.instances[0]
    if first.get("FrameOfReferenceUID"):
        result.FrameOfReferenceUID = first.FrameOfReferenceUID
        result.PositionReferenceIndicator = first.get("PositionReferenceIndicator")
    if not isinstance(source.study, Volume):
        result.PatientOrientation = first.get("PatientOrientation")  # type 2 here (C.7.6.1)


def positions(source: Source) -> tuple[Any, ...]:
    """Return Image Position (Patient) of every image as it states it; empty for no volume.

    The images of a tilted gantry stand aside of each other, each where it says.
    """
    if not isinstance(source.study, Volume):
        return ()
    return tuple(map(_as_ds, _stated_positions(source)))


def plane_position(position: Any) -> Dataset:
    """Return the Plane Position (Patient) group of a position."""
    place, group = Dataset(), Dataset()
    place.ImagePositionPatient = position
    group.PlanePositionSequence = [place]
    return group


def order(source: Source) -> list[int]:
    """Return the images in the order of their frames.

    Slices lie against the cross product of rows and columns, as highdicom sorts them; images
    that make no volume stay as they are.
    """
    if not isinstance(source.study, Volume):
        return list(range(_count(source)))
    places = [[*map(float, map(str, position))] for position in _stated_positions(source)]
    cosines = np.array(image(source, 0).first("ImageOrientationPatient"), dtype=np.float64)
    heights = np.array(places, dtype=np.float64) @ np.cross(cosines[:3], cosines[3:])
    return [int(k) for k in np.argsort(-heights, kind="stable")]


def shared_groups(source: Source) -> Dataset:
    """Return what is the same for all frames: orientation and spacing, if there are any.

    They may differ from image to image in their last digit or stand with each frame; those of
    the first count for all.
    """
    shared = Dataset()
    if isinstance(source.study, Volume):
        plane = Dataset()
        plane.ImageOrientationPatient = _as_ds(image(source, 0).first("ImageOrientationPatient"))
        shared.PlaneOrientationSequence = [plane]
    measures = pixel_measures(source)
    if measures is not None:
        shared.PixelMeasuresSequence = measures
    return shared


def pixel_measures(source: Source) -> Any:
    """Return the spacing, if there is one to state.

    Of a volume with the distance between slices, without which its size is guesswork. Images
    have one if they are calibrated; beside a frame of reference it would need the thickness of
    a slice (PS3.3 C.7.6.16.2.1), which they do not have.
    """
    study = source.study
    if isinstance(study, Volume):
        slice_mm, row_mm, column_mm = study.grid.spacing_mm
        thickness_mm = image(source, 0).first("SliceThickness")
        return hd.PixelMeasuresSequence(
            pixel_spacing=(row_mm, column_mm),
            slice_thickness=float(str(thickness_mm or 0.0)) or slice_mm,
            spacing_between_slices=slice_mm,
        )
    placed = source.instances[0].get("FrameOfReferenceUID")
    if not isinstance(study, Images) or study.spacing_mm is None or placed:
        return None
    return hd.PixelMeasuresSequence(study.spacing_mm, slice_thickness=None)


def _stated_positions(source: Source) -> Iterator[Sequence[object]]:
    for k in range(_count(source)):
        yield decimals(image(source, k).description, "ImagePositionPatient")


def _count(source: Source) -> int:
    return len(source.frame_numbers) or len(source.instances)


def _as_ds(values: Any) -> list[Any]:
    """Return decimals as they were written, shortened where that is longer than a DS may be."""
    return [_as_written(value) or DS(value, auto_format=True) for value in values]


def _as_written(value: Any) -> str:
    """Return a decimal that nobody has parsed as it is, if it may be; or nothing."""
    text = value.strip() if type(value) is str else ""
    return text if is_valid_ds(text) else ""
