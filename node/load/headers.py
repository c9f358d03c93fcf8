"""What the headers of image slices say: where they are, how values rescale, how they were made."""

from __future__ import annotations

from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

from pydicom.datadict import dictionary_description
from pydicom.multival import MultiValue

from node.malformed import MALFORMED
from node.part10 import tag_of, unparsed
from pipelines.contract import CouldNotLook
from pipelines.geometry import Plane

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydicom import Dataset

TECHNICAL = (
    "AcquisitionContrast",
    "BodyPartExamined",
    "BurnedInAnnotation",
    "ComplexImageComponent",
    "ContrastBolusAgent",
    "ConvolutionKernel",
    "EchoPulseSequence",
    "EchoTime",
    "EchoTrainLength",
    "EffectiveEchoTime",
    "EstimatedRadiographicMagnificationFactor",
    "FlipAngle",
    "GantryDetectorTilt",
    "HeartRate",
    "ImageLaterality",
    "ImageType",
    "InversionTime",
    "InversionTimes",
    "KVP",
    "Laterality",
    "LossyImageCompression",
    "MRAcquisitionType",
    "MagneticFieldStrength",
    "Manufacturer",
    "ManufacturerModelName",
    "Modality",
    "PatientAge",
    "PatientOrientation",
    "PatientPosition",
    "PixelAspectRatio",
    "PixelSpacingCalibrationType",
    "PresentationIntentType",
    "ProtocolName",
    "PulseSequenceName",
    "RepetitionTime",
    "ScanOptions",
    "ScanningSequence",
    "SequenceName",
    "SequenceVariant",
    "SeriesDescription",
    "SOPClassUID",
    "SliceThickness",
    "SpacingBetweenSlices",
    "TransducerType",
    "ViewPosition",
)
"""All that a pipeline learns about a series besides voxels. How the images were made, and the
age, which alone identifies nobody and decides for whom a model was made. Series description,
protocol and agent are free text: a pipeline may search them, never quote them."""


_CODED = ("AnatomicRegionSequence", "ViewCodeSequence")
"""The part of the body (PS3.3 table 10-5) and how it is seen (C.8.5.6.1.24, C.8.11.5)."""

_ULTRASOUND_REGION = (
    "RegionSpatialFormat",
    "RegionDataType",
    "RegionLocationMinX0",
    "RegionLocationMinY0",
    "RegionLocationMaxX1",
    "RegionLocationMaxY1",
)

_SLOPE = tag_of("RescaleSlope")
_GROUPS = tuple(map(tag_of, ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")))


def groups(dataset: Dataset, frame: int) -> Iterator[Dataset]:
    """Yield what describes frame ``frame``: the data set, then its functional group items.

    A frame's own groups come before the shared ones (PS3.3 C.7.6.16.1).
    """
    yield dataset
    # A keyword that is not there costs pydicom an exception.
    per_frame, shared = (dataset[tag].value if tag in dataset else None for tag in _GROUPS)
    own = per_frame[frame : frame + 1] if per_frame else ()
    for functional_groups in chain(own, shared or ()):
        for element in functional_groups:
            if element.VR == "SQ" and element.value:
                yield element.value[0]


def plane(description: Sequence[Dataset], shape: tuple[int, int]) -> Plane:
    """Return where a slice is.

    Args:
        description: As ``groups`` yields it.
        shape: Rows and columns, which all frames of an instance share.

    Raises:
        CouldNotLook: A header does not say it.
    """
    x, y, z = _numbers(description, "ImagePositionPatient", 3)
    orientation = _numbers(description, "ImageOrientationPatient", 6)
    between_rows, between_columns = _numbers(description, "PixelSpacing", 2)
    return Plane((x, y, z), orientation, (between_rows, between_columns), shape)


def rescale(description: Sequence[Dataset]) -> tuple[float, float]:
    """Return slope and intercept from stored values to the modality's, 1 and 0 by default."""
    if not any(_SLOPE in item for item in description):
        return 1.0, 0.0
    (slope,) = _numbers(description, "RescaleSlope", 1)
    (intercept,) = _numbers(description, "RescaleIntercept", 1)
    return slope, intercept


def technical_attributes(description: Sequence[Dataset]) -> dict[str, str]:
    """Return the attributes a pipeline may see, as text; several values joined by a backslash."""
    found = {}
    for keyword in TECHNICAL:
        value = _first(description, keyword)
        if value is not None and str(value):
            values = value if isinstance(value, MultiValue | list) else [value]
            found[keyword] = "\\".join(str(part) for part in values)
    for keyword in _CODED:
        with suppress(*MALFORMED):
            found |= _coded(description, keyword)
    with suppress(*MALFORMED):
        found |= _ultrasound_regions(description)
    return found


def _coded(description: Sequence[Dataset], keyword: str) -> dict[str, str]:
    """Return a code as value and scheme, without its words."""
    codes: Any = _first(description, keyword)
    if not codes:
        return {}
    return {keyword: f"{codes[0].CodeValue}\\{codes[0].CodingSchemeDesignator}"}


def _ultrasound_regions(description: Sequence[Dataset]) -> dict[str, str]:
    """Return each region as its spatial format, data type and x0, y0, x1, y1 (PS3.3 C.8.5.5)."""
    regions: Any = _first(description, "SequenceOfUltrasoundRegions")
    if not regions:
        return {}
    numbers = [
        " ".join(str(int(region[keyword].value)) for keyword in _ULTRASOUND_REGION)
        for region in regions
    ]
    return {"SequenceOfUltrasoundRegions": "\\".join(numbers)}


def _first(description: Sequence[Dataset], keyword: str) -> object:
    return next((item.get(keyword) for item in description if keyword in item), None)


def decimals(description: Sequence[Dataset], keyword: str) -> Sequence[object]:
    """Return the values of a decimal string, as text where nobody has had them parsed yet."""
    tag = tag_of(keyword)
    holder = next((item for item in description if tag in item), None)
    element = None if holder is None else unparsed(holder, tag)
    if element is not None and element.value and element.VR in ("DS", None):
        return element.value.rstrip(b"\0 ").decode("ascii").split("\\")
    value = _first(description, keyword)
    return value if isinstance(value, MultiValue | list) else [value]


def _numbers(description: Sequence[Dataset], keyword: str, count: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(str(part)) for part in decimals(description, keyword))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise CouldNotLook(
            f"The header of an image gives no usable value for {dictionary_description(keyword)}."
        )
    return numbers
