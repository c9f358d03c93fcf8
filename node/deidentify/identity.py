"""Who and what an object names: the words that may stand nowhere in what is made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.datadict import tag_for_keyword
from pydicom.multival import MultiValue

from node.deidentify.text import words_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom import DataElement, Dataset

NUMBERS = frozenset(
    tag_for_keyword(keyword)
    for keyword in (
        *("PatientID", "OtherPatientIDs", "AccessionNumber", "MedicalRecordLocator"),
        *("AdmissionID", "ServiceEpisodeID", "PatientTelephoneNumbers", "IssuerOfPatientID"),
        *("PatientInsurancePlanCodeSequence", "InsurancePlanIdentification", "PatientBirthDate"),
        *("PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest"),
        *("RequestedProcedureID", "PersonTelephoneNumbers"),
    )
)
PLACES = frozenset(
    tag_for_keyword(keyword)
    for keyword in (
        *("PatientAddress", "InstitutionName", "InstitutionAddress", "PersonAddress"),
        *("InstitutionalDepartmentName", "CountryOfResidence", "RegionOfResidence"),
        *("ReferringPhysicianAddress", "ResponsibleOrganization", "DeviceSerialNumber"),
    )
)
SHORTEST_WORD = 2


def elements_of(dataset: Dataset) -> Iterator[DataElement]:
    """Yield every element, those in items of sequences too."""
    for element in dataset:
        yield element
        if element.VR == "SQ":
            for item in element.value or ():
                yield from elements_of(item)


def texts_of(element: DataElement) -> list[str]:
    """Return the values of an element that has text; none for one without a value."""
    value = element.value
    values = value if isinstance(value, (MultiValue, list)) else [value]
    return [str(one) for one in values if one is not None and str(one)]


def own_words(dataset: Dataset) -> frozenset[str]:
    """Return the words of all names, numbers and places in an object, in small letters.

    Raises:
        pydicom's errors of ``node.malformed.MALFORMED``: A value cannot be read.
    """
    return frozenset(
        word
        for element in elements_of(dataset)
        if element.VR == "PN" or element.tag in NUMBERS | PLACES
        for text in texts_of(element)
        for word in words_of(text)
        if len(word) >= SHORTEST_WORD
    )
