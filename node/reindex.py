"""Start-up: what a crash or a bad disk did to the spool is put right, or told.

A file without a row was renamed into place and then the process died: nobody was told Success,
but the sender may never come again, so it is indexed. Parts of dead processes are removed. A
damaged file, and a row whose file is gone, need a person. Safe to repeat, and while listeners
run: whoever writes the row second finds a resent instance.

Files and rows are compared as sets: an index by path would cost every instance more than a start
saves. A million of each takes some ten seconds.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pynetdicom.dsutils import split_dataset

from node.dimse import gate
from node.dimse.receive import Sender, index, received
from node.errors import RejectedInstance
from node.log import get_logger, short
from node.malformed import MALFORMED
from node.spool import FOLDERS, Spool
from node.store import events, removals, retention, spooled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.settings import Settings
    from node.store.ledger import Ledger

log = get_logger(__name__)

FILES_AT_ONCE = 1_000_000
"""Whose names are in memory: 200 MB. All rows are read once for so many."""
ROWS_AT_ONCE = 10_000
"""That one question to the ledger returns at most."""

DAMAGED = "Check the disk. Move the file out of the spool, then have its study sent again."
MISSING = "Check the disk and its mount, then have the study sent again."


@dataclass(frozen=True)
class Reindexed:
    """What was found.

    Attributes:
        swept: Parts removed.
        indexed: Files that got a row, conflicts among them.
        damaged: Files that are not what their name says, or no instance; they stay, without row.
        missing: Instances with a row and without a file.
    """

    swept: int
    indexed: int
    damaged: int
    missing: int


@dataclass(frozen=True)
class _File:
    """What a file of the spool says of itself."""

    identity: gate.Identity
    transfer_syntax_uid: str
    digest: str
    size_bytes: int
    calling_ae: str


def reindex(settings: Settings, ledger: Ledger, *, tells: bool = True) -> Reindexed:
    """Bring the spool and the ledger together.

    Args:
        settings: Of the node.
        ledger: Migrated.
        tells: Also look for what needs a person. Of the listeners that start together one does,
            or each loss would be told as often as there are cores.

    Raises:
        SQLAlchemyError: The ledger does not answer.
    """
    spool = Spool(settings.spool_folder)
    swept = spool.sweep()
    without_row, missing = _compare(spool, ledger, tells=tells)
    _tell_missing(ledger, missing)
    indexed = damaged = 0
    # As they came: of several contents under one UID the first is the instance, and stays it.
    for path in sorted(without_row, key=spool.modified_ns):
        try:
            file = _read(spool, path)
        except FileNotFoundError:  # released meanwhile
            continue
        except (RejectedInstance, OSError, *MALFORMED) as error:
            damaged += 1
            if tells:
                _tell_damaged(ledger, path, error)
            continue
        row = received(
            file.identity,
            transfer_syntax_uid=file.transfer_syntax_uid,
            digest=file.digest,
            path=path,
            size_bytes=file.size_bytes,
            sender=Sender(file.calling_ae, association_id=""),
        )
        (receipt,) = index(ledger, [row])
        indexed += 1
        log.warning("spool_file_indexed", path=path, receipt=receipt.value)
    found = Reindexed(swept, indexed, damaged, missing.total())
    log.info("reindexed", **vars(found))
    return found


def files_without_row(spool: Spool, ledger: Ledger) -> list[str]:
    """Return the files of the spool that no row stands for."""
    without, _ = _compare(spool, ledger, tells=False)
    return without


def _compare(spool: Spool, ledger: Ledger, *, tells: bool) -> tuple[list[str], Counter[str]]:
    """Return the files without a row, and by study how many files of its rows are gone.

    The latter only if it ``tells``.
    """
    without: list[str] = []
    missing: Counter[str] = Counter()
    for folders, files in _parts(spool):
        if files or tells:
            for study_uid, path in _rows(ledger, folders):
                if path in files:
                    files.remove(path)
                elif tells and not spool.holds(path):  # or else it came meanwhile
                    missing[study_uid] += 1
        with ledger.read() as db:
            without += files - spooled.conflicts(db, folders) - removals.paths(db)
    return without, missing


def _parts(spool: Spool) -> Iterator[tuple[list[str], set[str]]]:
    """Yield some folders and the paths of their files, and so on until the last folder."""
    folders: list[str] = []
    files: set[str] = set()
    for folder in FOLDERS:
        folders.append(folder)
        # What is not there, or cannot be read, holds nothing: what it held is missing.
        with suppress(OSError):
            files.update(spool.files_in(folder))
        if len(files) >= FILES_AT_ONCE or folder == FOLDERS[-1]:
            yield folders, files
            folders, files = [], set()


def _rows(ledger: Ledger, folders: list[str]) -> Iterator[tuple[str, str]]:
    """Yield Study Instance UID and path of every instance that belongs into ``folders``."""
    key = spooled.FIRST
    while True:
        with ledger.read() as db:
            page = spooled.instances_after(db, key, folders, ROWS_AT_ONCE)
        if not page:
            return
        yield from ((key[0], path) for key, path in page)
        key = page[-1][0]


def _read(spool: Spool, path: str) -> _File:
    """Read who an instance is.

    Raises:
        RejectedInstance: It would not have passed the gate.
        ValueError: Its content is not what its name says. So do others of ``MALFORMED``.
        OSError: The disk does not give it back.
    """
    file = spool.absolute(path)
    meta, data_offset = split_dataset(file)
    syntax = str(meta.get("TransferSyntaxUID", ""))
    with file.open("rb") as opened:
        opened.seek(data_offset)
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        size_bytes = opened.tell() - data_offset
    if digest != file.stem:
        raise ValueError("The content is not what the name says.")
    identity = gate.identify(file, data_offset, syntax, spool)
    calling_ae = str(meta.get("SourceApplicationEntityTitle", ""))
    return _File(identity, syntax, digest, size_bytes, calling_ae)


def _tell_damaged(ledger: Ledger, path: str, error: Exception) -> None:
    # The words of other errors may quote the data set.
    what = error.what if isinstance(error, RejectedInstance) else type(error).__name__
    log.error("spool_file_damaged", path=path, what=what, do=DAMAGED)
    with ledger.write() as db:
        events.record(
            db,
            "spool_file_damaged",
            subject=path,
            detail=f"This file of the spool is no whole instance ({what}). {DAMAGED}",
        )


def _tell_missing(ledger: Ledger, missing: Counter[str]) -> None:
    for study_uid, files in missing.items():
        with ledger.read() as db:
            if retention.is_released(db, study_uid):
                continue  # meanwhile
        log.error("spool_files_missing", study=short(study_uid), files=files, do=MISSING)
        with ledger.write() as db:
            events.record(
                db,
                "spool_files_missing",
                study_uid=study_uid,
                detail=f"{files} received instances have no file any more. {MISSING}",
            )
