"""A derived CT or MR image beside the one it was made of (PS3.3 A.3, A.4)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from pydicom import DataElement, Dataset
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import CTImageStorage
from pydicom.valuerep import DSfloat

from node.encode import identity
from node.encode.derived.pixels import set_pixels
from node.encode.draw.window import spanning, stated
from node.encode.multiframe.images import image
from node.encode.picture import set_lossy
from node.gate.burned_in import burned_in_annotation
from node.malformed import MALFORMED
from sr_templates import codes
from sr_templates.items import concept

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from node.encode.derived.pixels import Stored
    from node.encode.work import Work
    from node.load.source import Source
    from pipelines.contract import DerivedImages

_PLACE = (
    *("FrameOfReferenceUID", "PositionReferenceIndicator", "ImagePositionPatient"),
    *("ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    *("SliceLocation", "PatientPosition", "BodyPartExamined", "Laterality", "ImageLaterality"),
    *("AnatomicRegionSequence", "PatientOrientation"),
)
_ACQUISITION = (
    *("AcquisitionNumber", "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime"),
    *("AcquisitionUID", "IrradiationEventUID", "ScanOptions", "ProtocolName"),
    *("ContrastBolusAgent", "ContrastBolusRoute", "ContrastBolusVolume", "ContrastBolusStartTime"),
    *("ContrastBolusStopTime", "ContrastBolusTotalDose", "ContrastFlowRate"),
    *("ContrastFlowDuration", "ContrastBolusIngredient", "ContrastBolusIngredientConcentration"),
)
_CT = (
    *("KVP", "DataCollectionDiameter", "DataCollectionCenterPatient", "ReconstructionDiameter"),
    *("ReconstructionTargetCenterPatient", "DistanceSourceToDetector", "DistanceSourceToPatient"),
    *("GantryDetectorTilt", "TableHeight", "RotationDirection", "ExposureTime", "XRayTubeCurrent"),
    *("Exposure", "ExposureInuAs", "FilterType", "GeneratorPower", "FocalSpots"),
    *("ConvolutionKernel", "RevolutionTime", "SingleCollimationWidth", "TotalCollimationWidth"),
    *("TableSpeed", "TableFeedPerRotation", "SpiralPitchFactor"),
)
_MR = (
    *("ScanningSequence", "SequenceVariant", "MRAcquisitionType", "RepetitionTime", "EchoTime"),
    *("EchoTrainLength", "InversionTime", "TriggerTime", "SequenceName", "AngioFlag"),
    *("NumberOfAverages", "ImagingFrequency", "ImagedNucleus", "EchoNumbers", "FlipAngle"),
    *("MagneticFieldStrength", "NumberOfPhaseEncodingSteps", "PercentSampling"),
    *("PercentPhaseFieldOfView", "PixelBandwidth", "ReceiveCoilName", "TransmitCoilName"),
    *("AcquisitionMatrix", "InPlanePhaseEncodingDirection", "SAR", "VariableFlipAngleFlag", "dBdt"),
    *("TemporalPositionIdentifier", "NumberOfTemporalPositions", "TemporalResolution"),
)
"""What is still true of an image with other grey values. Not the dose, which archives would add up
twice, and no orders, procedures or references of the hospital."""

_TYPE_2 = {
    True: ("KVP", "AcquisitionNumber", "SliceThickness", "PositionReferenceIndicator"),
    False: (
        *("ScanOptions", "MRAcquisitionType", "EchoTime", "EchoTrainLength", "RepetitionTime"),
        *("SliceThickness", "PositionReferenceIndicator"),
    ),
}
"""Written empty where the source lacks them, of a CT or else an MR image (PS3.3 C.8.2.1,
C.8.3.1)."""

_SCANNER = (
    *("Manufacturer", "InstitutionName", "StationName", "ManufacturerModelName"),
    *("DeviceSerialNumber", "SoftwareVersions"),
)


def encode_derived_image(  # noqa: PLR0913 - one image of a series, and what all have in common
    source: Source,
    images: DerivedImages,
    index: int,
    work: Work,
    *,
    role: str,
    series: str,
    values: npt.NDArray[np.float32],
    stored: Stored,
    number: int,
) -> Dataset:
    """Return one image of the series.

    Args:
        source: What it was made of.
        images: As the pipeline gave them, for their words and codes.
        index: Which image of the source, from 0.
        work: The job.
        role: Of this object.
        series: Role of the series, of which its UID follows.
        values: Shape (rows, columns), on this image.
        stored: How the series stores values.
        number: Of the instance in its series.
    """
    header = source.instances[index]
    ct = header.SOPClassUID == CTImageStorage
    dataset = Dataset()
    dataset.SOPClassUID = header.SOPClassUID
    dataset.SOPInstanceUID = work.uid(role)
    dataset.SeriesInstanceUID = work.uid(f"{series}-series")
    dataset.Modality = header.Modality
    dataset.InstanceNumber = number
    copy_elements(header, dataset, (*_PLACE, *_ACQUISITION, *(_CT if ct else _MR)))
    set_missing(dataset, (*_TYPE_2[ct], "PatientPosition", "Laterality"))
    dataset.ImageType = image_type(header.get("ImageType") or (), "AXIAL" if ct else "OTHER")
    set_derivation(dataset, images, source)
    reference = image(source, index).reference()
    reference.SpatialLocationsPreserved = "YES"
    reference.PurposeOfReferenceCodeSequence = [concept(codes.SOURCE_IMAGE)]
    dataset.SourceImageSequence = [reference]
    dataset.BurnedInAnnotation = burned_in_annotation([header])
    set_lossy(dataset, header)
    set_pixels(
        dataset,
        stored.pixels(values),
        str(header.get("PhotometricInterpretation") or "MONOCHROME2"),
    )
    dataset.RescaleIntercept, dataset.RescaleSlope = stored.intercept, stored.slope
    dataset.RescaleType = str(header.get("RescaleType") or ("HU" if ct else "US"))
    set_window(dataset, source, index, values)
    identity.stamp(dataset, header, work, role)
    dataset.SeriesDescription = identity.series_description(images.label)
    dataset.ContributingEquipmentSequence.append(scanner_of(header))
    return dataset


def set_missing(dataset: Dataset, keywords: Sequence[str]) -> None:
    """Write empty what the source does not tell (type 2); not two lateralities."""
    for keyword in keywords:
        if keyword not in dataset and not (
            keyword == "Laterality" and "ImageLaterality" in dataset
        ):
            setattr(dataset, keyword, None)


def image_type(source: Sequence[str], otherwise: str) -> list[str]:
    """Return Image Type of an image made after the examination (PS3.3 C.7.6.1.1.2)."""
    return ["DERIVED", "SECONDARY", str(source[2]) if len(source) > 2 else otherwise]


def set_derivation(dataset: Dataset, images: DerivedImages, source: Source) -> None:
    """Say how an image was made (PS3.3 C.7.6.1.1.3), in words and as a code."""
    words = images.description
    if source.shifts_px:
        words += " The slices of the tilted gantry were straightened before and moved back after."
    dataset.DerivationDescription = words[:1024]
    dataset.DerivationCodeSequence = [concept(images.derivation)]


def set_window(
    dataset: Dataset, source: Source, index: int, values: npt.NDArray[np.float32]
) -> None:
    """Show the image as its source is shown, or all of it where that does not say how."""
    window = None
    with suppress(*MALFORMED):
        window = stated(image(source, index))
    window = window or spanning(values)
    dataset.WindowCenter = DSfloat(window.center, auto_format=True)
    dataset.WindowWidth = DSfloat(window.width, auto_format=True)
    if window.function != "LINEAR":
        dataset.VOILUTFunction = window.function


def copy_elements(source: Dataset, target: Dataset, keywords: Sequence[str]) -> None:
    """Copy what the source has, whatever its values are; not what cannot even be read."""
    for keyword in keywords:
        tag = tag_for_keyword(keyword)
        if tag is None or tag not in source:
            continue
        with suppress(*MALFORMED):
            value = identity.as_text(source[tag].value)
            target[tag] = DataElement(tag, dictionary_VR(tag), value, validation_mode=IGNORE)


def scanner_of(header: Dataset) -> Dataset:
    """Return who acquired what the image was made of (PS3.16 CID 7005)."""
    scanner = Dataset()
    scanner.PurposeOfReferenceCodeSequence = [concept(codes.ACQUISITION_EQUIPMENT)]
    copy_elements(header, scanner, _SCANNER)
    if not scanner.get("Manufacturer"):
        scanner.Manufacturer = "unknown"  # type 1 here (PS3.3 C.12.1)
    return scanner


def instance_numbers(headers: Sequence[Dataset]) -> list[int]:
    """Return the instance numbers of a series: its source's, if they tell the images apart."""
    own = []
    for header in headers:
        with suppress(*MALFORMED):
            own.append(int(header.InstanceNumber))
    distinct = len(set(own)) == len(headers) and all(0 <= one < 2**31 for one in own)
    return own if distinct else list(range(1, len(headers) + 1))
