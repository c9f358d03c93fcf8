"""One number for each voxel as a float Parametric Map (PS3.3 A.75) on the slices analysed.

Built by hand from the same functional groups as the segmentation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.uid import ParametricMapStorage
from pydicom.valuerep import DSfloat

from node.domain import Role
from node.encode import identity
from node.encode.multiframe import planes
from node.encode.multiframe.images import image
from pipelines.contract import Code, Volume
from sr_templates import codes
from sr_templates.items import concept, unit
from sr_templates.report import NOT_FOR_DIAGNOSIS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node.encode.work import Work
    from node.load.source import Source
    from pipelines.contract import ParametricMap

_QUANTITY = Code("246205007", "SCT", "Quantity")
_ENTIRE_BODY = Code("38266002", "SCT", "Entire body")
_REGIONS = {
    "ABDOMEN": Code("818981001", "SCT", "Abdomen"),
    "BRAIN": Code("12738006", "SCT", "Brain"),
    "BREAST": Code("76752008", "SCT", "Breast"),
    "CHEST": Code("816094009", "SCT", "Chest"),
    "HEAD": Code("69536005", "SCT", "Head"),
    "HEADNECK": Code("774007", "SCT", "Head and Neck"),
    "HEART": Code("80891009", "SCT", "Heart"),
    "KNEE": Code("72696002", "SCT", "Knee"),
    "NECK": Code("45048000", "SCT", "Neck"),
    "PELVIS": Code("816092008", "SCT", "Pelvis"),
    "SPINE": Code("421060004", "SCT", "Spine"),
}
"""Body Part Examined -> CID 4031 (PS3.16 annex L)."""
_DERIVATION = Code("112187", "DCM", "Unspecified method of calculation")


def encode_parametric_map(
    source: Source, a_map: ParametricMap, number: int, work: Work
) -> Dataset | None:
    """Return one map, a frame for each image of the source.

    Args:
        source: What was analysed.
        a_map: Its values are on the source's own images.
        number: Its place in the result, from 1. The first has the role ``map``, the others
            ``map-2`` and so on.
        work: The job.

    Returns:
        None unless the study is a volume: a map needs a place in the patient (PS3.3 A.75.3).
    """
    if not isinstance(source.study, Volume):
        return None
    role = map_role(number)
    dataset = Dataset()
    dataset.SOPClassUID = ParametricMapStorage
    dataset.SOPInstanceUID = work.uid(role)
    dataset.SeriesInstanceUID = work.uid(f"{role}-series")
    dataset.Modality = "OT"
    dataset.InstanceNumber = 1
    dataset.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "QUANTITY"]
    dataset.ContentQualification = "RESEARCH"
    dataset.ContentLabel = "AI_MAP"
    dataset.ContentDescription = NOT_FOR_DIAGNOSIS
    dataset.ContentCreatorName = ""  # nobody; type 2
    dataset.AcquisitionContextSequence = []
    # Along the cross product of rows and columns: dcmqi takes frames as they come.
    order = planes.order(source)[::-1]
    _set_pixels(dataset, a_map.values[order])
    set_dimensions(dataset, work.uid(f"{role}-dimensions"))
    planes.set_frame_of_reference(dataset, source)
    planes.set_references(dataset, source)
    dataset.SharedFunctionalGroupsSequence = [_shared(source, a_map, dataset.ImageType)]
    positions = planes.positions(source)
    dataset.PerFrameFunctionalGroupsSequence = [
        _frame(source, index, place, positions[index]) for place, index in enumerate(order, start=1)
    ]
    identity.stamp(dataset, source.instances[0], work, role)
    dataset.SeriesDescription = identity.series_description(f"{a_map.label}: {work.title}")
    return dataset


def map_role(number: int) -> str:
    """Return the role of the result's map of this number, from 1."""
    return str(Role.MAP) if number == 1 else f"{Role.MAP}-{number}"


def _set_pixels(dataset: Dataset, values: npt.NDArray[np.float32]) -> None:
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = values.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = 32
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.PixelPresentation = "MONOCHROME"
    dataset.LossyImageCompression = "00"
    dataset.BurnedInAnnotation = "NO"
    dataset.RecognizableVisualFeatures = "NO"
    dataset.FloatPixelData = np.ascontiguousarray(values, "<f4").tobytes()


def set_dimensions(dataset: Dataset, uid: str) -> None:
    """Say that frames differ by their place in one stack (PS3.3 C.7.6.17)."""
    organization, index = Dataset(), Dataset()
    organization.DimensionOrganizationUID = uid
    index.DimensionOrganizationUID = uid
    index.DimensionIndexPointer = 0x00209057  # In-Stack Position Number
    index.FunctionalGroupPointer = 0x00209111  # Frame Content Sequence
    index.DimensionDescriptionLabel = "In-Stack Position Number"
    dataset.DimensionOrganizationSequence = [organization]
    dataset.DimensionIndexSequence = [index]


def _shared(source: Source, a_map: ParametricMap, image_type: Sequence[str]) -> Dataset:
    """Return what is the same for all frames: their plane, what the numbers are, their window."""
    lowest, highest = float(a_map.values.min()), float(a_map.values.max())
    kind, transformation, window = Dataset(), Dataset(), Dataset()
    kind.FrameType = list(image_type)
    transformation.RescaleIntercept, transformation.RescaleSlope = "0", "1"
    transformation.RescaleType = "US"  # unspecified; the real world value mapping knows better
    window.WindowCenter = _decimal((lowest + highest) / 2.0)
    window.WindowWidth = _decimal(highest - lowest or 1.0)
    window.VOILUTFunction = "LINEAR_EXACT"  # LINEAR knows no width under 1 (PS3.3 C.11.2.1.2)
    groups = planes.shared_groups(source)
    groups.ParametricMapFrameTypeSequence = [kind]
    groups.PixelValueTransformationSequence = [transformation]
    groups.FrameVOILUTSequence = [window]
    groups.FrameAnatomySequence = [anatomy(source)]
    groups.RealWorldValueMappingSequence = [_mapping(a_map, lowest, highest)]
    return groups


def anatomy(source: Source) -> Dataset:
    """Return which region it is; dcmqi cannot read a map that does not say one."""
    header = source.instances[0]
    examined = str(header.get("BodyPartExamined", "") or "").strip().upper()
    region = Dataset()
    region.FrameLaterality = "U"
    region.AnatomicRegionSequence = [concept(_REGIONS.get(examined, _ENTIRE_BODY))]
    return region


def _mapping(a_map: ParametricMap, lowest: float, highest: float) -> Dataset:
    """Return what the numbers are (PS3.3 C.7.6.16.2.11)."""
    quantity = Dataset()
    quantity.ValueType = "CODE"
    quantity.ConceptNameCodeSequence = [concept(_QUANTITY)]
    quantity.ConceptCodeSequence = [concept(a_map.quantity)]
    mapping = Dataset()
    mapping.LUTLabel = a_map.label[:16]
    mapping.LUTExplanation = a_map.label
    mapping.MeasurementUnitsCodeSequence = [unit(a_map.unit)]
    mapping.QuantityDefinitionSequence = [quantity]
    mapping.DoubleFloatRealWorldValueFirstValueMapped = lowest
    mapping.DoubleFloatRealWorldValueLastValueMapped = highest
    mapping.RealWorldValueIntercept, mapping.RealWorldValueSlope = 0.0, 1.0
    return mapping


def _frame(source: Source, index: int, place: int, position: Any) -> Dataset:
    """Return what is said of one frame: where it is, and the image it belongs to."""
    content, derivation = Dataset(), Dataset()
    content.StackID = "1"
    content.InStackPositionNumber = place
    content.DimensionIndexValues = place
    reference = image(source, index).reference()
    reference.SpatialLocationsPreserved = "YES"
    reference.PurposeOfReferenceCodeSequence = [concept(codes.SOURCE_IMAGE)]
    derivation.SourceImageSequence = [reference]
    derivation.DerivationCodeSequence = [concept(_DERIVATION)]
    frame = planes.plane_position(position)
    frame.FrameContentSequence = [content]
    frame.DerivationImageSequence = [derivation]
    return frame


def _decimal(value: float) -> DSfloat:
    return DSfloat(value, auto_format=True)
