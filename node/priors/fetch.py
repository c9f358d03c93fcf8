"""Earlier results of the same patient and pipeline, fetched from the archive for one job.

Whatever goes wrong here, the job goes on; its report then says that earlier results could not be
looked up, which is another thing than that there are none.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom import Dataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from node.dimse.retrieve import Limits, archive
from node.errors import DeliveryError, DiskFailed, NodeError, PeerRefused, UnreadableSeries
from node.load.prior import Earlier, PriorFiles
from node.load.source import read_headers, readable_headers
from node.log import get_logger
from node.malformed import MALFORMED
from node.priors.patient import CannotAsk, Patient, patient_of, text
from node.priors.results import REPORTS, SEGMENTATIONS, StoredResult, is_ours, latest_result
from node.settings import DimseDestination

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from node.dimse.retrieve import Archive
    from node.domain import PlannedJob
    from node.settings import Settings

log = get_logger(__name__)

MAXIMUM_PRIORS = 3
MAXIMUM_STUDIES = 20
"""Earlier studies that are searched for results, the latest first."""
RESULTS = Limits(instances=2000, size_bytes=2_000_000_000, seconds=120.0)
IMAGES = Limits(instances=5000, size_bytes=4_000_000_000, seconds=300.0)
FOLLOW_UP_S = 60.0

_SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
    RLELossless,
)
"""What this node decodes, without loss."""


def archive_for(settings: Settings, job: PlannedJob) -> DimseDestination | None:
    """Return whom the routes of a job name in ``priors_from``, as they are now."""
    for route in settings.routes:
        if job.pipeline in route.run and set(route.send_to) <= set(job.send_to):
            destination = settings.destinations.get(route.priors_from or "")
            if isinstance(destination, DimseDestination):
                return destination
    return None


@contextmanager
def looked_up(
    settings: Settings,
    job: PlannedJob,
    paths: Sequence[Path],
    folder: Path,
    tick: Callable[[], None],
) -> Iterator[Earlier | None]:
    """Lend the earlier results that a job shall be compared with; their files go at the end.

    Args:
        settings: Of this node.
        job: It and its routes.
        paths: Files of the present series.
        folder: Where to put what comes; nothing else is there.
        tick: Called about once a second; whatever it raises is raised here.

    Yields:
        None where no route of the job asks for a comparison.
    """
    destination = archive_for(settings, job)
    if destination is None:
        yield None
        return
    try:
        request = _Request(settings, destination, folder, tick)
        earlier = _look_up(request, job.pipeline, paths)
        log.info("looked_up", job=job.id, found=len(earlier.results), not_found=earlier.problems)
        yield earlier
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class _Request:
    """Where to ask, and where to put what comes."""

    settings: Settings
    destination: DimseDestination
    folder: Path
    tick: Callable[[], None]

    def open(
        self, classes: Iterable[str], name: str, limits: Limits
    ) -> AbstractContextManager[Archive]:
        """Open an association on which objects of these SOP classes may come."""
        storage = [(one, str(syntax)) for one in sorted(classes) for syntax in _SYNTAXES]
        folder = self.folder / name
        return archive(
            self.settings, self.destination, storage, folder, limits=limits, tick=self.tick
        )


def deadline_s(earlier: Earlier | None) -> float:
    """Return how much longer a job may take, to read and align so many earlier studies."""
    return 0.0 if earlier is None else FOLLOW_UP_S * len(earlier.results)


def _look_up(request: _Request, pipeline: str, paths: Sequence[Path]) -> Earlier:
    try:
        patient = patient_of(readable_headers(paths[:1])[0])
        with request.open((*SEGMENTATIONS, *REPORTS), "results", RESULTS) as opened:
            found, kept_back = _results(opened, patient, pipeline)
    except CannotAsk as reason:
        return Earlier(problems=(_not_looked_up(str(reason)),))
    except UnreadableSeries:
        return Earlier(problems=(_not_looked_up("the images cannot be read"),))
    except (DeliveryError, DiskFailed, OSError) as error:
        log.warning("priors_not_found", error=_told(error))
        return Earlier(problems=(_not_looked_up(_in_short(error)),))
    results, problems = [], list(kept_back)
    for number, one in enumerate(found, start=1):
        try:
            classes = {sop_class for _, sop_class, _ in one.sources}
            with request.open(classes, f"images-{number}", IMAGES) as opened:
                sources = _images(opened, patient, one)
        except CannotAsk as reason:
            problems.append(f"One earlier result could not be compared: {reason}.")
        except (DeliveryError, DiskFailed, OSError) as error:
            log.warning("prior_not_fetched", error=_told(error))
            problems.append(f"One earlier result could not be compared: {_in_short(error)}.")
        else:
            results.append(PriorFiles(sources, one.segmentation, one.reports))
    return Earlier(tuple(results), tuple(dict.fromkeys(problems)))


def _not_looked_up(why: str) -> str:
    return f"Earlier results could not be looked up: {why}."


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, NodeError) else type(error).__name__


def _in_short(error: Exception) -> str:
    """Return what a radiologist needs to know; addresses and status are in the log."""
    if isinstance(error, (DiskFailed, OSError)):
        return "this node could not keep what the archive sent"
    if isinstance(error, PeerRefused):
        return "the archive does not let this node query and retrieve"
    return "the archive did not answer as it should"


def _results(
    opened: Archive, patient: Patient, pipeline: str
) -> tuple[list[StoredResult], tuple[str, ...]]:
    """Return the latest result of each of the latest earlier studies, and what kept back some."""
    found: list[StoredResult] = []
    problems: dict[str, None] = {}
    for study_uid in _earlier_studies(opened, patient)[:MAXIMUM_STUDIES]:
        keys = _keys("SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID="", Modality="")
        objects: dict[Path, Dataset] = {}
        for series in opened.find(keys):
            series_uid = text(series, "SeriesInstanceUID")
            if series_uid and text(series, "Modality") in ("SEG", "SR"):
                headers, complete = _series(opened, study_uid, series_uid)
                objects |= headers
                if not complete:
                    problems["Some objects of earlier studies could not be retrieved."] = None
        try:
            latest = _latest(objects, patient, study_uid, pipeline)
        except MALFORMED:
            problems["An earlier result is damaged."] = None
        else:
            found += [latest] if latest is not None else []
        if len(found) == MAXIMUM_PRIORS:
            break
    return found, tuple(problems)


def _latest(
    objects: Mapping[Path, Dataset], patient: Patient, study_uid: str, pipeline: str
) -> StoredResult | None:
    return latest_result(
        {
            path: header
            for path, header in objects.items()
            if is_ours(header, pipeline)
            and patient.is_of(header)
            and text(header, "StudyInstanceUID") == study_uid
        }
    )


def _series(opened: Archive, study_uid: str, series_uid: str) -> tuple[dict[Path, Dataset], bool]:
    """Return file -> header of a series, and whether everything came that could be a result."""
    keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
    files, complete = opened.get(_keys("SERIES", **keys))
    headers = dict(_headers(files))
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
            StudyDate=f"-{patient.study_date}",
            StudyTime="",
            StudyInstanceUID="",
        )
    )
    same = [
        answer
        for answer in answers
        if patient.is_of(answer) and text(answer, "StudyInstanceUID") not in ("", patient.study_uid)
    ]
    issuers = {text(answer, "IssuerOfPatientID") for answer in same} | {patient.issuer}
    if len(issuers - {""}) > 1:
        raise CannotAsk("the archive has this patient ID from more than one issuer")
    before = [answer for answer in same if patient.had_before(answer)]
    before.sort(key=lambda one: (text(one, "StudyDate"), text(one, "StudyTime")), reverse=True)
    return [text(answer, "StudyInstanceUID") for answer in before]


def _images(opened: Archive, patient: Patient, result: StoredResult) -> tuple[Path, ...]:
    """Return the files of exactly the images that a result was made from."""
    wanted = {instance for _, _, instance in result.sources}
    if len(wanted) > IMAGES.instances:
        raise CannotAsk("it has too many images")
    held: dict[str, Path] = {}
    for series_uid in sorted({series for series, _, _ in result.sources}):
        files, _ = opened.get(
            _keys("SERIES", StudyInstanceUID=result.study_uid, SeriesInstanceUID=series_uid)
        )
        held |= {
            str(header.SOPInstanceUID): path
            for path, header in _headers(files)
            if patient.is_of(header)
        }
    if not wanted <= held.keys():
        raise CannotAsk("its images are not all in the archive")
    return tuple(held[uid] for uid in sorted(wanted))


def _headers(files: Iterable[Path]) -> Iterator[tuple[Path, Dataset]]:
    """Yield each file that can be read with its header."""
    for path in files:
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
