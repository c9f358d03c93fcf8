"""Whose object it is, who made it and when: the same words on every result object."""

from __future__ import annotations

from collections import deque
from copy import deepcopy
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from pydicom import DataElement, Dataset, Sequence
from pydicom.charset import convert_encodings
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import PersonName

from node.domain import Role
from node.profiles import kind_of
from sr_templates.codes import PROCESSING_ALGORITHM
from sr_templates.items import concept
from sr_templates.report import NOT_FOR_DIAGNOSIS

if TYPE_CHECKING:
    from node.encode.work import Work

MANUFACTURER = "radnode"
SERIES_NUMBER_OFFSET = {
    Role.SEG: 21000,
    Role.LABELMAP: 21500,
    Role.SR: 22000,
    Role.LABELMAP_SR: 22200,
    Role.COMPREHENSIVE_SR: 22400,
    Role.VIEWER_SR: 23000,
    Role.TEXT_SR: 23500,
    Role.CAD_SR: 23700,
    Role.MAP: 24000,
    Role.IMAGES: 24500,
    Role.GSPS: 25000,
    Role.KO: 26000,
    Role.SC: 27000,
    Role.PDF: 28000,
    Role.REJECTION: 29000,
}
"""Added to the source's series number, so that results stand behind the images."""

_SERIES_WORDS = {
    Role.SEG: "Segmentation",
    Role.LABELMAP: "Segmentation",
    Role.MAP: "Map",
    Role.IMAGES: "Images",
    Role.SR: "Report",
    Role.LABELMAP_SR: "Report",
    Role.COMPREHENSIVE_SR: "Report",
    Role.VIEWER_SR: "Annotations",
    Role.TEXT_SR: "Text report",
    Role.CAD_SR: "CAD report",
    Role.GSPS: "Graphics",
    Role.KO: "Key images",
    Role.SC: "Picture",
    Role.PDF: "Document",
    Role.REJECTION: "Rejected",
}
"""What the reader sees first in the list of series, which shows some twenty characters."""

_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""Written empty where the source lacks them (PS3.3 C.7.1.1 and C.7.2.1)."""

_COPIED = (
    *_TYPE_2,
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "StudyInstanceUID",
    "StudyDescription",
    "IssuerOfAccessionNumberSequence",
    "TimezoneOffsetFromUTC",
)

_SEEN_GROUPS = (0x0018, 0x0020, 0x0028, 0x5200)
"""Acquisition, place, pixels and functional groups."""

_SEEN = frozenset(map(tag_for_keyword, ("SOPClassUID", "SOPInstanceUID", "Modality")))


def blank_identity(instance: Dataset) -> Dataset:
    """Return what highdicom may see of a header: what it is and where, with an empty identity.

    It checks names, sexes and dates and refuses what real scanners write; the true values
    are copied afterwards by ``set_identity``. It also copies whole modules: orders, diagnoses
    and references of the hospital, which no result needs and no reader of it can resolve.
    """
    blank = Dataset()
    blank.update(
        {
            tag: instance.get_item(tag)
            for tag in instance.keys()  # noqa: SIM118 - iterating a Dataset parses every value
            if tag.group in _SEEN_GROUPS or tag in _SEEN
        }
    )
    for keyword in _COPIED:
        if keyword in blank and keyword != "StudyInstanceUID":
            del blank[keyword]
    for keyword in _TYPE_2:
        setattr(blank, keyword, "")
    return blank


def count_as_read(result: Dataset) -> None:
    """Have a data set count as one read in UTF-8, in Explicit VR Little Endian.

    pydicom then writes what was given to it as bytes as it is, and decodes it when asked for it
    or for another encoding.
    """
    result.SpecificCharacterSet = "ISO_IR 192"
    result.file_meta = FileMetaDataset()
    result.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    result.set_original_encoding(False, True, convert_encodings("ISO_IR 192"))


def set_identity(result: Dataset, source: Dataset) -> None:
    """Copy patient and study from the very instance analysed, whatever its values are."""
    for keyword in _COPIED:
        tag, vr = tag_for_keyword(keyword), dictionary_VR(keyword)
        if tag is None:  # pragma: no cover - every keyword above is in the dictionary
            raise KeyError(keyword)
        if keyword in source:
            copied = as_text(source[keyword].value)
            result[tag] = DataElement(tag, vr, copied, validation_mode=IGNORE)
        elif keyword in _TYPE_2:
            result[tag] = DataElement(tag, vr, "", validation_mode=IGNORE)


def as_text(value: Any) -> Any:
    """Return a copy without bytes in the source's character set, which pydicom would write as is.

    A person name keeps them for ever, an item of a sequence until its values are read.
    """
    if isinstance(value, PersonName):
        return str(value)
    copied = deepcopy(value)
    if isinstance(copied, Sequence):
        for item in copied:
            deque(item.iterall(), maxlen=0)
    return copied


def stamp(result: Dataset, source: Dataset, work: Work, role: str) -> None:
    """Give a result object its identity, its maker and its times.

    Overwrites everything that highdicom took from the clock or drew at random, so that the
    same work makes the same bytes.
    """
    set_identity(result, source)
    moment = _in_zone_of(source, work.analysed_at)
    for event in ("InstanceCreation", "Content", "Series"):
        setattr(result, f"{event}Date", moment.strftime("%Y%m%d"))
        setattr(result, f"{event}Time", moment.strftime("%H%M%S.%f"))
    result.SpecificCharacterSet = "ISO_IR 192"
    result.SeriesNumber = _series_number_offset(role) + _series_number(source)
    result.SeriesDescription = series_description(f"{_SERIES_WORDS[kind_of(role)]}: {work.title}")
    result.Manufacturer = MANUFACTURER
    result.ManufacturerModelName = work.pipeline[:64]
    result.DeviceSerialNumber = work.model.weights_sha256[:64]
    result.SoftwareVersions = [work.software_version[:64], work.pipeline_version[:64]]
    result.ContributingEquipmentSequence = [_algorithm(work, moment)]


def series_description(title: str) -> str:
    """Return the title with the longest warning that there is room for (LO, 64 characters).

    The shortest stays: a long title is cut.
    """
    shortest = " (AI)"
    for warning in (" (AI, not for primary diagnosis)", " (AI, not diagnostic)"):
        if len(title) + len(warning) <= 64:
            return title + warning
    return title[: 64 - len(shortest)] + shortest


def _algorithm(work: Work, moment: datetime) -> Dataset:
    """Return the item that IHE AIR 6.5.3.1 asks of every result for each algorithm used."""
    model = work.model
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [concept(PROCESSING_ALGORITHM)]
    equipment.Manufacturer = model.maker[:64]
    equipment.ManufacturerModelName = model.name[:64]
    equipment.SoftwareVersions = model.version[:64]
    equipment.DeviceUID = work.device_uid
    equipment.DeviceSerialNumber = model.weights_sha256[:64]
    equipment.ContributionDateTime = moment.strftime("%Y%m%d%H%M%S.%f")
    equipment.ContributionDescription = f"{NOT_FOR_DIAGNOSIS} Trained on: {model.trained_on}"[:1024]
    return equipment


def _series_number_offset(role: str) -> int:
    """Return the offset of a role; ``map-2``, ``images-2-0001`` and so on follow the first."""
    number = role.removeprefix(kind_of(role)).removeprefix("-").partition("-")[0]
    return SERIES_NUMBER_OFFSET[kind_of(role)] + (int(number) - 1 if number else 0)


def _series_number(source: Dataset) -> int:
    """Return the source's series number, or 0 where it has none that can be counted on from."""
    text = str(source.get("SeriesNumber", "") or "")
    return int(text) if text.isdigit() and len(text) < 9 else 0


def _in_zone_of(source: Dataset, moment: datetime) -> datetime:
    """Return ``moment`` in the zone that the source's times are in, where it states one."""
    offset = str(source.get("TimezoneOffsetFromUTC", "") or "")
    if len(offset) != 5 or not offset[1:].isdigit() or offset[0] not in "+-":
        return moment
    minutes = int(offset[1:3]) * 60 + int(offset[3:5])
    return moment.astimezone(timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes)))
