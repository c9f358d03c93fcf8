"""Reread: read every file again and compare it with its digest and its row, at a polite speed.

A disk damages files that nobody reads; a study that is analysed again must be what was sent. Who
is interrupted goes on later where he was.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pynetdicom.dsutils import split_dataset

from node.errors import RejectedInstance
from node.log import get_logger, short
from node.malformed import MALFORMED
from node.reindex import DAMAGED, MISSING, files_without_row
from node.spool import Spool
from node.store import events, reading
from node.store.reading import Area, Kept, Position

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from node.settings import Settings
    from node.store.ledger import Ledger

log = get_logger(__name__)

BYTES_PER_S = 50e6
"""A tenth of what a disk gives: scanners and workers go first."""
FILES_AT_ONCE = 200
"""After so many the position is kept."""
YOUNG_S = 600.0
"""A file may be younger than its row, which the listener is just writing."""

AREAS = tuple(Area)
UNKNOWN = "Restart the node, which indexes what was received; what stays without a row, move away."
RESULT = "Check the disk. Put the file back from a backup; the PACS has the object if it was sent."


@dataclass(frozen=True)
class Fault:
    """One file that is not as its row says, or that no row stands for.

    Attributes:
        kind: Of the event that tells it.
        path: Relative to the spool, or to the folder of results.
        what: In a sentence.
        do: What a person does about it.
    """

    kind: str
    path: str
    study_uid: str
    what: str
    do: str


def reread(  # noqa: PLR0913 - who reads, how fast, how much
    settings: Settings,
    ledger: Ledger,
    stop: threading.Event,
    *,
    name: str,
    bytes_per_s: float = BYTES_PER_S,
    at_most: int | None = None,
    progress: Callable[[Position], None] = lambda _: None,
) -> tuple[Position, bool]:
    """Read files on from where ``name`` was; tell of each fault as it is found.

    Args:
        settings: Of the node.
        ledger: Migrated.
        stop: Ends it; the position is kept.
        name: Who reads. Each has a position of its own.
        bytes_per_s: No faster.
        at_most: Files; None: all.
        progress: Called now and then.

    Returns:
        The position, and whether that is the end.
    """
    with ledger.read() as db:
        at = reading.position(db, name)
    left = at_most
    while not stop.is_set():
        limit = FILES_AT_ONCE if left is None else min(left, FILES_AT_ONCE)
        if not limit:
            return at, False
        with ledger.read() as db:
            page = reading.files_after(db, at.area, at.after, limit)
        if page:
            at = _read_page(settings, ledger, at, page, bytes_per_s=bytes_per_s, stop=stop)
            left = None if left is None else left - len(page)
        elif at.area is AREAS[-1]:
            at = replace(at, faults=at.faults + len(_tell_unknown(settings, ledger)))
            with ledger.write() as db:
                reading.forget_position(db, name)
            return at, True
        else:
            at = replace(at, area=AREAS[AREAS.index(at.area) + 1], after=())
        with ledger.write() as db:
            reading.keep_position(db, name, at)
        progress(at)
    return at, False


def _read_page(  # noqa: PLR0913 - one loop
    settings: Settings,
    ledger: Ledger,
    at: Position,
    page: tuple[Kept, ...],
    *,
    bytes_per_s: float,
    stop: threading.Event,
) -> Position:
    """Read some files of one area; return where that ended."""
    for kept in page:
        if stop.is_set():
            break
        begun_at = time.monotonic()
        fault, size_bytes = _judge(settings, at.area, kept)
        if fault is not None:
            with ledger.read() as db:
                if not reading.is_there(db, at.area, kept.key):
                    fault = None  # released meanwhile
        if fault is not None:
            _tell(ledger, fault)
        at = replace(at, after=kept.key, files=at.files + 1, faults=at.faults + (fault is not None))
        pause_s = size_bytes / bytes_per_s - (time.monotonic() - begun_at)
        if pause_s > 0:
            stop.wait(pause_s)
    return at


def _judge(settings: Settings, area: Area, kept: Kept) -> tuple[Fault | None, int]:
    """Return what is wrong with a file, if anything is; and how many bytes were read."""
    is_result = area is Area.RESULTS
    path = (settings.artifact_folder if is_result else settings.spool_folder) / kept.path
    whose = "result" if is_result else "spool"
    try:
        digest, size_bytes = _digest(path, whole=is_result)
    except FileNotFoundError:
        do = RESULT if is_result else MISSING
        what = "Its row is there, and the file is gone."
        return Fault(f"{whose}_file_missing", kept.path, kept.study_uid, what, do), 0
    except (OSError, RejectedInstance, *MALFORMED) as error:
        digest, size_bytes = type(error).__name__, 0
    if digest == kept.digest:
        return None, size_bytes
    do = RESULT if is_result else DAMAGED
    what = "Its bytes are not those that its row was written for."
    return Fault(f"{whose}_file_damaged", kept.path, kept.study_uid, what, do), size_bytes


def _digest(path: Path, *, whole: bool) -> tuple[str, int]:
    """Return SHA-256 and number of bytes of a file, or of the data set in it."""
    offset = 0 if whole else split_dataset(path)[1]
    with path.open("rb") as file:
        file.seek(offset)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size_bytes = file.tell()
        if hasattr(os, "posix_fadvise"):  # what others read stays in memory instead
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return digest, size_bytes


def unknown_files(settings: Settings, ledger: Ledger) -> tuple[Fault, ...]:
    """Return the files of the spool, and the folders of results, that no row stands for."""
    spool = Spool(settings.spool_folder)
    old_ns = time.time_ns() - YOUNG_S * 1e9
    what = "No row stands for this file of the spool."
    found = [
        Fault("spool_file_unknown", path, "", what, UNKNOWN)
        for path in files_without_row(spool, ledger)
        if spool.holds(path) and spool.modified_ns(path) < old_ns
    ]
    folders: list[str] = []
    with suppress(FileNotFoundError):
        folders = sorted(path.name for path in settings.artifact_folder.iterdir())
    what = "No job has this folder of results."
    for start in range(0, len(folders), FILES_AT_ONCE):
        some = folders[start : start + FILES_AT_ONCE]
        with ledger.read() as db:
            known = reading.jobs_among(db, some)
        found += [
            Fault("result_folder_unknown", name, "", what, "Move it away, or restore its ledger.")
            for name in some
            if name not in known
        ]
    return tuple(found)


def _tell_unknown(settings: Settings, ledger: Ledger) -> tuple[Fault, ...]:
    faults = unknown_files(settings, ledger)
    for fault in faults:
        _tell(ledger, fault)
    return faults


def _tell(ledger: Ledger, fault: Fault) -> None:
    study = short(fault.study_uid) if fault.study_uid else None
    log.error(fault.kind, path=fault.path, study=study, what=fault.what, do=fault.do)
    with ledger.write() as db:
        events.record(
            db,
            fault.kind,
            study_uid=fault.study_uid or None,
            subject=fault.path,
            detail=f"{fault.what} {fault.do}",
        )
