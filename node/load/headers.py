"""What the headers of image slices say: where they are, how values rescale, how they were made."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from pydicom.datadict import dictionary_description
from pydicom.multival import MultiValue

from pipelines.contract import CouldNotLook
from pipelines.geometry import Plane

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydicom import Dataset

TECHNICAL = (
    "AcquisitionContrast",
    "BodyPartExamined",
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


def groups(dataset: Dataset, frame: int) -> Iterator[Dataset]:
    """Yield what describes frame ``frame``: the data set, then its functional group items.

    A frame's own groups come before the shared ones (PS3.3 C.7.6.16.1).
    """
    yield dataset
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    own = per_frame[frame : frame + 1] if per_frame else ()
    shared = dataset.get("SharedFunctionalGroupsSequence") or ()
    for functional_groups in chain(own, shared):
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
    if not any("RescaleSlope" in item for item in description):
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
    return found


def _first(description: Sequence[Dataset], keyword: str) -> object:
    return next((item.get(keyword) for item in description if keyword in item), None)


def _numbers(description: Sequence[Dataset], keyword: str, count: int) -> tuple[float, ...]:
    try:
        value = _first(description, keyword)
        values = value if isinstance(value, MultiValue | list) else [value]
        numbers = tuple(float(str(part)) for part in values)
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise CouldNotLook(
            f"The header of an image gives no usable value for {dictionary_description(keyword)}."
        )
    return numbers
