"""A derived series as one object: Enhanced CT or MR (PS3.3 A.38, A.36), or of a clip (A.8.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import (
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
)
from pydicom.valuerep import DSfloat

from node.encode import identity
from node.encode.derived.pixels import Stored, set_pixels
from node.encode.derived.single_frame import (
    copy_elements,
    image_type,
    scanner_of,
    set_derivation,
    set_missing,
    set_window,
)
from node.encode.multiframe import planes
from node.encode.multiframe.images import image
from node.encode.parametric_map import anatomy, set_dimensions
from node.encode.picture import references, set_lossy
from node.gate.burned_in import burned_in_annotation
from sr_templates import codes
from sr_templates.items import concept

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from node.encode.work import Work
    from node.load.source import Source
    from pipelines.contract import DerivedImages

_ACQUISITION = (
    *("AcquisitionNumber", "PatientPosition", "BodyPartExamined", "ProtocolName"),
    "ApplicableSafetyStandardAgency",
)
_CONTENT = ("PixelPresentation", "VolumetricProperties", "VolumeBasedCalculationTechnique")
_MR_CONTENT = {"ComplexImageComponent": "MAGNITUDE", "AcquisitionContrast": "UNKNOWN"}


def encode_derived_frames(
    source: Source, images: DerivedImages, work: Work, role: str, stored: Stored
) -> Dataset:
    """Return an Enhanced CT or MR object whose frames lie on those of the source's object.

    What only originals must say of each frame's acquisition is in the source (PS3.3 A.38.1.4).
    """
    header = source.instances[0]
    ct = header.Modality == "CT"
    order = planes.order(source)[::-1]
    dataset = Dataset()
    dataset.SOPClassUID = EnhancedCTImageStorage if ct else EnhancedMRImageStorage
    dataset.Modality = header.Modality
    copy_elements(header, dataset, _ACQUISITION)
    set_missing(dataset, ("PatientPosition",))
    own = header.get("ImageType") or ()
    # Value 2 has no other term here (PS3.3 C.8.16.1.2).
    dataset.ImageType = ["DERIVED", "PRIMARY", *image_type(own, "VOLUME")[2:], "NONE"]
    dataset.ContentQualification = "RESEARCH"
    dataset.SourceImageEvidenceSequence = [_evidence(header)]
    dataset.AcquisitionContextSequence = []
    _set_content(dataset, header, ct=ct)
    dataset.NumberOfFrames = len(order)
    set_pixels(
        dataset,
        stored.pixels(images.values[order]),
        str(header.get("PhotometricInterpretation") or "MONOCHROME2"),
    )
    dataset.PresentationLUTShape = "IDENTITY"
    set_dimensions(dataset, work.uid(f"{role}-dimensions"))
    planes.set_frame_of_reference(dataset, source)
    planes.set_references(dataset, source)
    dataset.SharedFunctionalGroupsSequence = [_shared(source, dataset, stored, ct=ct)]
    positions = planes.positions(source)
    dataset.PerFrameFunctionalGroupsSequence = [
        _frame(source, images, index, place, positions[index])
        for place, index in enumerate(order, start=1)
    ]
    _finish(dataset, source, images, work, role)
    return dataset


def encode_derived_clip(source: Source, images: DerivedImages, work: Work, role: str) -> Dataset:
    """Return what was made of a radiograph or a clip, as a capture: no detector took it.

    Its values have no unit and no rescale (PS3.3 C.8.6.3): they are spread over 16 bits.
    """
    dataset = Dataset()
    dataset.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    header = source.instances[0]
    dataset.Modality = header.Modality
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    copy_elements(header, dataset, ("PatientOrientation", "Laterality", "BodyPartExamined"))
    set_missing(dataset, ("PatientOrientation", "Laterality"))
    set_derivation(dataset, images, source)
    dataset.SourceImageSequence = list(references(source.instances))
    for reference in dataset.SourceImageSequence:
        reference.PurposeOfReferenceCodeSequence = [concept(codes.SOURCE_IMAGE)]
    lowest, highest = float(images.values.min()), float(images.values.max())
    spread = Stored(DSfloat(lowest), DSfloat(max(highest - lowest, 1e-6) / 65535.0))
    pixels = spread.pixels(images.values)
    dataset.NumberOfFrames = len(pixels)
    set_pixels(dataset, pixels, "MONOCHROME2")
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    _set_window_of_stored(dataset, pixels)
    _set_times(dataset, source, len(pixels))
    _finish(dataset, source, images, work, role)
    return dataset


def _set_window_of_stored(dataset: Dataset, pixels: npt.NDArray[np.uint16]) -> None:
    """Show most of the values that there are."""
    darkest, brightest = np.percentile(pixels, (1.0, 99.5))
    dataset.WindowCenter = DSfloat((darkest + brightest) / 2.0, auto_format=True)
    dataset.WindowWidth = DSfloat(max(brightest - darkest, 1.0), auto_format=True)


def _set_times(dataset: Dataset, source: Source, count: int) -> None:
    """Say when each of several frames was taken, or at least that they are in an order."""
    if count == 1:
        return
    times_s: Sequence[float] = getattr(source.study, "times_s", ())
    if len(times_s) == count:
        steps_ms = np.diff(np.array(times_s), prepend=times_s[0]) * 1000.0
        dataset.FrameTimeVector = [DSfloat(step, auto_format=True) for step in steps_ms]
        dataset.FrameIncrementPointer = 0x00181065
    else:
        dataset.PageNumberVector = list(range(1, count + 1))
        dataset.FrameIncrementPointer = 0x00182001


def _finish(dataset: Dataset, source: Source, images: DerivedImages, work: Work, role: str) -> None:
    header = source.instances[0]
    dataset.SOPInstanceUID = work.uid(role)
    dataset.SeriesInstanceUID = work.uid(f"{role}-series")
    dataset.InstanceNumber = 1
    dataset.BurnedInAnnotation = burned_in_annotation([header])
    set_lossy(dataset, header)
    identity.stamp(dataset, header, work, role)
    dataset.SeriesDescription = identity.series_description(images.label)
    dataset.ContributingEquipmentSequence.append(scanner_of(header))


def _set_content(dataset: Dataset, header: Dataset, *, ct: bool) -> None:
    """Say what kind of pixels they are, of the object or of its frames (PS3.3 C.8.16.2)."""
    dataset.PixelPresentation = "MONOCHROME"
    dataset.VolumetricProperties = "VOLUME"
    dataset.VolumeBasedCalculationTechnique = "NONE"
    for keyword, otherwise in () if ct else _MR_CONTENT.items():
        setattr(dataset, keyword, str(header.get(keyword) or otherwise))


def _evidence(header: Dataset) -> Dataset:
    """Return where the source is kept (PS3.3 table C.17-3b)."""
    study, series = Dataset(), Dataset()
    series.ReferencedSOPSequence = list(references([header]))
    series.SeriesInstanceUID = header.SeriesInstanceUID
    study.ReferencedSeriesSequence = [series]
    study.StudyInstanceUID = header.StudyInstanceUID
    return study


def _shared(source: Source, dataset: Dataset, stored: Stored, *, ct: bool) -> Dataset:
    kind, transformation = Dataset(), Dataset()
    kind.FrameType = list(dataset.ImageType)
    copy_elements(dataset, kind, _CONTENT if ct else (*_CONTENT, *_MR_CONTENT))
    transformation.RescaleIntercept, transformation.RescaleSlope = stored.intercept, stored.slope
    transformation.RescaleType = "HU" if ct else "US"
    groups = planes.shared_groups(source)
    if ct:
        groups.CTImageFrameTypeSequence = [kind]
    else:
        groups.MRImageFrameTypeSequence = [kind]
    groups.PixelValueTransformationSequence = [transformation]
    groups.FrameAnatomySequence = [anatomy(source)]
    return groups


def _frame(
    source: Source, images: DerivedImages, index: int, place: int, position: object
) -> Dataset:
    content, derivation, window = Dataset(), Dataset(), Dataset()
    content.StackID = "1"
    content.InStackPositionNumber = place
    content.DimensionIndexValues = place
    reference = image(source, index).reference()
    reference.SpatialLocationsPreserved = "YES"
    reference.PurposeOfReferenceCodeSequence = [concept(codes.SOURCE_IMAGE)]
    derivation.SourceImageSequence = [reference]
    set_derivation(derivation, images, source)
    set_window(window, source, index, images.values[index])
    frame = planes.plane_position(position)
    event: Any = image(source, index).first("IrradiationEventUID")
    if event is not None:
        exposure = Dataset()
        exposure.IrradiationEventUID = event
        frame.IrradiationEventIdentificationSequence = [exposure]
    frame.FrameContentSequence = [content]
    frame.DerivationImageSequence = [derivation]
    frame.FrameVOILUTSequence = [window]
    return frame
