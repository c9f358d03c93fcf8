"""Earlier results of the same patient and pipeline, fetched from the archive for one job.

Whatever goes wrong here, the job goes on; its report then says that earlier results could not be
looked up, which is another thing than that there are none.
"""

from __future__ import annotations

import errno
import shutil
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydicom.uid import (
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from node.dimse.retrieve import Limits, archive
from node.errors import (
    DeliveryError,
    DiskFailed,
    NodeError,
    PeerRefused,
    UnreadableSeries,
    disk_failed,
)
from node.load.history import STRUCTURED
from node.load.prior import Earlier, PriorFiles
from node.load.source import read_headers, readable_headers
from node.log import get_logger
from node.malformed import MALFORMED
from node.priors.archives import archive_for
from node.priors.patient import CannotAsk, patient_of
from node.priors.query import images_of, results_in
from node.priors.results import (
    DAMAGED,
    REPORTS,
    SEGMENTATIONS,
    not_compared,
    not_looked_up,
    reports_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from node.dimse.retrieve import Archive
    from node.domain import Lease
    from node.priors.patient import Patient
    from node.settings import DimseDestination, Settings

log = get_logger(__name__)

RESULTS = Limits(instances=2000, size_bytes=2_000_000_000)
IMAGES = Limits(instances=5000, size_bytes=4_000_000_000)
LOOK_UP_S = 120.0
"""For everything that is asked of an archive for one job, which waits for it."""
FOLLOW_UP_S = 60.0

_OBJECTS = tuple(dict.fromkeys((*SEGMENTATIONS, *REPORTS, *STRUCTURED)))
"""Classes of all that earlier studies are asked for, apart from images; always in this order."""

_SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
    RLELossless,
)
"""What this node decodes, without loss."""


@contextmanager
def looked_up(  # noqa: PLR0913 - a job, what it is about, and where to work
    settings: Settings,
    lease: Lease,
    paths: Sequence[Path],
    calling_aes: Sequence[str],
    *,
    folder: Path,
    tick: Callable[[], None],
) -> Iterator[Earlier | None]:
    """Lend the earlier results that a job shall be compared with; their files go at the end.

    Args:
        settings: Of this node.
        lease: On the job.
        paths: Files of the present series.
        calling_aes: Who sent them.
        folder: Where to put what comes; nothing else is there.
        tick: Called about once a second; whatever it raises is raised here.

    Yields:
        None where no route of the job asks for a comparison.
    """
    earlier = None
    try:
        try:
            asked = archive_for(settings, lease.job.pipeline, paths, calling_aes)
            if asked is not None:
                until = time.monotonic() + LOOK_UP_S
                earlier = _look_up(_Request(settings, asked, folder, tick, until), lease, paths)
        except CannotAsk as reason:
            earlier = Earlier(problems=(not_looked_up(str(reason)),))
        if earlier is not None:
            found, not_found = len(earlier.results), earlier.problems
            log.info("looked_up", job=lease.job.id, found=found, not_found=not_found)
        yield earlier
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class _Request:
    """Where to ask, where to put what comes, and until when (as of ``time.monotonic``)."""

    settings: Settings
    destination: DimseDestination
    folder: Path
    tick: Callable[[], None]
    until: float

    @contextmanager
    def open(self, classes: Iterable[str], name: str, limits: Limits) -> Iterator[Archive]:
        """Open an association on which objects of these SOP classes may come."""
        storage = [(one, str(syntax)) for one in sorted(classes) for syntax in _SYNTAXES]
        folder = self.folder / name
        limits = replace(limits, seconds=self.until - time.monotonic())
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._go_on()
            with archive(
                self.settings, self.destination, storage, folder, limits=limits, tick=self._go_on
            ) as opened:
                yield opened
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _go_on(self) -> None:
        """Tell the caller that this goes on, and end it where it would fill the disk."""
        self.tick()
        if shutil.disk_usage(self.folder).free < self.settings.spool.minimum_free_bytes:
            raise disk_failed(OSError(errno.ENOSPC, "No space left for earlier results"))


def deadline_s(earlier: Earlier | None) -> float:
    """Return how much longer a job may take, to read and align so many earlier studies."""
    return 0.0 if earlier is None else FOLLOW_UP_S * len(earlier.results)


def _look_up(request: _Request, lease: Lease, paths: Sequence[Path]) -> Earlier:
    """Return what the archive has.

    Raises:
        CannotAsk: Or does not answer; the message ends a sentence.
    """
    if lease.attempt > 1:  # it may have been an earlier result that the first one died of
        raise CannotAsk("a first attempt to analyse this study failed")
    try:
        patient = patient_of(readable_headers(paths[:1])[0])
    except (UnreadableSeries, *MALFORMED) as error:
        raise CannotAsk("the images cannot be read") from error
    try:
        with request.open(_OBJECTS, "results", RESULTS) as opened:
            found, kept_back = results_in(opened, patient, lease.job.pipeline)
    except (DeliveryError, DiskFailed, OSError) as error:
        log.warning("priors_not_found", error=_told(error))
        raise CannotAsk(_in_short(error)) from error
    results, problems = [], list(kept_back)
    for number, one in enumerate(found, start=1):
        try:
            classes = {sop_class for _, sop_class, _ in one.sources}
            with request.open(classes, f"images-{number}", IMAGES) as opened:
                sources = images_of(opened, patient, one, IMAGES.instances)
        except CannotAsk as reason:
            problems.append(not_compared(str(reason)))
        except MALFORMED:
            problems.append(DAMAGED)
        except (DeliveryError, DiskFailed, OSError) as error:
            log.warning("prior_not_fetched", error=_told(error))
            problems.append(not_compared(_in_short(error), len(found) - number + 1))
            break  # or each of them would hold up the job for as long
        else:
            results.append(PriorFiles(sources, one.segmentation, one.reports))
    reports, unsafe = _reports(request.folder / "results", patient)
    return Earlier(tuple(results), tuple(dict.fromkeys([*problems, *unsafe])), reports)


def _reports(folder: Path, patient: Patient) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Return what people reported of earlier studies, which came with our own reports' series.

    And what kept back some of it.
    """
    headers = {}
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        with suppress(OSError, *MALFORMED):
            (headers[path],) = read_headers([path])
    return reports_of(patient, headers)


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, NodeError) else type(error).__name__


def _in_short(error: Exception) -> str:
    """Return what a radiologist needs to know; addresses and status are in the log."""
    if isinstance(error, (DiskFailed, OSError)):
        return "this node could not keep what the archive sent"
    if isinstance(error, PeerRefused):
        return "the archive does not let this node query and retrieve"
    return "the archive did not answer as it should"
