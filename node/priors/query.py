"""What to ask an archive for earlier results, and which of its answers to believe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom import Dataset

from node.load.source import read_headers
from node.malformed import MALFORMED
from node.priors.patient import CannotAsk, Patient, text
from node.priors.results import (
    DAMAGED,
    NOT_OUTLINED,
    REPORTS,
    SEGMENTATIONS,
    UNSAFE,
    StoredResult,
    latest_result,
    ours_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from node.dimse.retrieve import Archive

MAXIMUM_PRIORS = 3
MAXIMUM_STUDIES = 20
"""Earlier studies that are searched for results, the latest first."""


def results_in(
    opened: Archive, patient: Patient, pipeline: str
) -> tuple[list[StoredResult], tuple[str, ...]]:
    """Return the latest result of each of the latest earlier studies, and what kept back some.

    Args:
        opened: Of an archive.
        patient: Whose results.
        pipeline: Of which.

    Raises:
        CannotAsk: The archive does not know who is who.
        DeliveryError: As ``Archive.find`` and ``Archive.get``.
        DiskFailed: As ``Archive.get``.
    """
    found: list[StoredResult] = []
    problems: dict[str, None] = {}
    for study_uid in _earlier_studies(opened, patient)[:MAXIMUM_STUDIES]:
        keys = _keys("SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID="", Modality="")
        objects: dict[Path, Dataset] = {}
        for series in opened.find(keys):
            series_uid = text(series, "SeriesInstanceUID")
            if series_uid and text(series, "Modality") in ("SEG", "SR"):
                headers, complete = _series(opened, study_uid, series_uid)
                objects |= {
                    path: header
                    for path, header in headers.items()
                    if text(header, "StudyInstanceUID") == study_uid
                }
                if not complete:
                    problems["Some objects of earlier studies could not be retrieved."] = None
        try:
            ours, more = ours_of(patient, pipeline, objects)
            latest = latest_result(ours)
        except MALFORMED:
            problems[DAMAGED] = None
            continue
        if more:
            problems[UNSAFE] = None
        if latest is not None and latest.is_comparable:
            found.append(latest)
        elif latest is not None:
            problems[NOT_OUTLINED] = None
        if len(found) == MAXIMUM_PRIORS:
            break
    return found, tuple(problems)


def _series(opened: Archive, study_uid: str, series_uid: str) -> tuple[dict[Path, Dataset], bool]:
    """Return file -> header of a series, and whether everything came that could be a result."""
    keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
    files, complete = opened.get(_keys("SERIES", **keys))
    headers = dict(_headers(opened, files))
    # As with a dose report, for which no presentation context was proposed.
    if not complete or not files:
        came = {str(header.SOPInstanceUID) for header in headers.values()}
        images = opened.find(_keys("IMAGE", **keys, SOPInstanceUID="", SOPClassUID=""))
        complete = not any(
            text(image, "SOPClassUID") in (*SEGMENTATIONS, *REPORTS)
            and text(image, "SeriesInstanceUID") == series_uid
            and text(image, "SOPInstanceUID") not in came
            for image in images
        )
    return headers, complete


def _earlier_studies(opened: Archive, patient: Patient) -> list[str]:
    """Return the UIDs of the patient's studies before the present one, the latest first."""
    answers = opened.find(
        _keys(
            "STUDY",
            PatientID=patient.patient_id,
            IssuerOfPatientID="",
            PatientBirthDate="",
            PatientSex="",
            StudyDate=f"-{patient.study_date}",
            StudyTime="",
            StudyInstanceUID="",
        )
    )
    same = [
        answer
        for answer in answers
        if not patient.differs_from(answer)
        and text(answer, "StudyInstanceUID") not in ("", patient.study_uid)
    ]
    issuers = {text(answer, "IssuerOfPatientID") for answer in same} | {patient.issuer}
    if len(issuers - {""}) > 1:
        raise CannotAsk("the archive has this patient ID from more than one issuer")
    before = [answer for answer in same if patient.had_before(answer)]
    before.sort(key=lambda one: (text(one, "StudyDate"), text(one, "StudyTime")), reverse=True)
    return [text(answer, "StudyInstanceUID") for answer in before]


def images_of(
    opened: Archive, patient: Patient, result: StoredResult, at_most: int
) -> tuple[Path, ...]:
    """Return the files of exactly the images that a result was made from.

    Raises:
        CannotAsk: They are more than ``at_most``, or not all of this patient.
        DeliveryError: As ``Archive.get``.
        DiskFailed: As ``Archive.get``.
    """
    wanted = {instance for _, _, instance in result.sources}
    if len(wanted) > at_most:
        raise CannotAsk("it has too many images")
    held: dict[str, Path] = {}
    for series_uid in sorted({series for series, _, _ in result.sources}):
        files, _ = opened.get(
            _keys("SERIES", StudyInstanceUID=result.study_uid, SeriesInstanceUID=series_uid)
        )
        held |= {
            str(header.SOPInstanceUID): path
            for path, header in _headers(opened, files)
            if patient.is_of(header)
        }
    if not wanted <= held.keys():
        raise CannotAsk("its images are not all in the archive, or not surely of this patient")
    return tuple(held[uid] for uid in sorted(wanted))


def _headers(opened: Archive, files: Iterable[Path]) -> Iterator[tuple[Path, Dataset]]:
    """Yield each file that can be read with its header."""
    for path in files:
        opened.check()
        try:
            (header,) = read_headers([path])
            _ = header.SOPInstanceUID, header.SOPClassUID, header.StudyInstanceUID
        except MALFORMED:
            continue
        yield path, header


def _keys(level: str, **keys: str) -> Dataset:
    """Return the identifier of a query or a retrieval (PS3.4 section C.4.1.1.3)."""
    identifier = Dataset()
    if not all(value.isascii() for value in keys.values()):
        identifier.SpecificCharacterSet = "ISO_IR 192"
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier
