"""Whose earlier results are looked for, and whether what an archive answers is of the same one.

An archive matches generously: it may ignore case, take characters for wildcards, or hold the
same number for patients of two hospitals, and "UNKNOWN" for many. So nothing is asked that could
be taken for a pattern, and nothing is compared that has no more than the number in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.multival import MultiValue

if TYPE_CHECKING:
    from pydicom import Dataset

_WILDCARDS = frozenset("*?\\")
"""In a query ``*`` and ``?`` match anything; a backslash separates values (PS3.4 C.2.2.2)."""


class CannotAsk(Exception):
    """The archive cannot be asked about this patient. The message ends a sentence."""


@dataclass(frozen=True)
class Patient:
    """Whose earlier results are looked for, and before which study.

    Attributes:
        issuer: Of the patient ID, ...
        birth_date: ... one of which must be the same, ...
        sex: ... and none may differ where both sides state it.
        study_date: Of the present study (DA).
        study_time: Of the present study (TM); may be empty.
    """

    patient_id: str
    issuer: str
    birth_date: str
    sex: str
    study_uid: str
    study_date: str
    study_time: str

    def differs_from(self, header: Dataset) -> bool:
        """Whether an object or an answer is of somebody else, as it says itself."""
        if text(header, "PatientID") != self.patient_id:
            return True
        return any(
            own and text(header, keyword) not in ("", own) for keyword, own in self._stated.items()
        )

    def is_of(self, header: Dataset) -> bool:
        """Whether an object is surely of this patient: another might have the same number."""
        return not self.differs_from(header) and any(
            self._stated[keyword] and text(header, keyword) == self._stated[keyword]
            for keyword in ("IssuerOfPatientID", "PatientBirthDate")
        )

    @property
    def _stated(self) -> dict[str, str]:
        return {
            "IssuerOfPatientID": self.issuer,
            "PatientBirthDate": self.birth_date,
            "PatientSex": self.sex,
        }

    def had_before(self, study: Dataset) -> bool:
        """Whether a study took place before the present one."""
        day, at = text(study, "StudyDate"), text(study, "StudyTime")
        if day == self.study_date:
            return bool(at and self.study_time) and at < self.study_time
        return bool(day) and day < self.study_date


def patient_of(image: Dataset) -> Patient:
    """Return who an image of the present study is of.

    Raises:
        CannotAsk: It does not say so, or not in a way that a query could ask for.
    """
    patient_id, study_date = text(image, "PatientID"), text(image, "StudyDate")
    if not patient_id:
        raise CannotAsk("the images have no patient ID")
    if _WILDCARDS & set(patient_id):
        raise CannotAsk("the patient ID has characters that a query would take for wildcards")
    if len(study_date) != 8 or not study_date.isdigit():
        raise CannotAsk("the images have no study date")
    issuer, birth_date = text(image, "IssuerOfPatientID"), text(image, "PatientBirthDate")
    if not issuer and not birth_date:
        raise CannotAsk(
            "the patient cannot be matched safely, for the images state neither a birth date nor "
            "an issuer of the patient ID"
        )
    return Patient(
        patient_id,
        issuer,
        birth_date,
        text(image, "PatientSex"),
        text(image, "StudyInstanceUID"),
        study_date,
        text(image, "StudyTime"),
    )


def text(header: Dataset, keyword: str) -> str:
    """Return a value without the spaces that mean nothing; empty where there is none."""
    value = header.get(keyword) or ""
    several = isinstance(value, MultiValue)
    return "\\".join(map(str, value)) if several else str(value).strip()
