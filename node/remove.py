"""Remove: files whose rows are gone follow them, and one whose row has come again stays.

in its place ──▶ aside ──GRACE_S──▶ gone
      ▲            │
      └────────────┘  its row has come again

Each step may be repeated: a process that was killed goes on where it was.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from node.crashpoint import reach
from node.spool import fsync_directory
from node.store import removals

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from node.settings import Settings
    from node.store.ledger import Ledger
    from node.store.removals import Removal

GRACE_S = 300.0
"""A file lies aside for so long. No listener waits longer for the database that shall say that the
file, which it found in its place, is an instance again."""
AT_ONCE = 1000

ASIDE = "released"
"""Folder within the spool."""


def free_bytes(folder: Path) -> int:
    """Return how much of the disk that ``folder`` lies on is free."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def remove(settings: Settings, ledger: Ledger, *, grace_s: float = GRACE_S) -> bool:
    """Move files aside, and remove those that lay there for ``grace_s``; whether any are left."""
    path, left = "", False
    while True:
        with ledger.read() as db:
            some = removals.after(db, path, grace_s=grace_s, limit=AT_ONCE)
            back = removals.received_again(db, some)
        if not some:
            return left
        path = some[-1].path
        aside, done = _move(settings, some, back)
        reach("remove.moved")
        with ledger.write() as db:
            removals.mark_aside(db, aside)
            removals.forget(db, done)
        left = left or len(done) < len(some)


def put_back(settings: Settings, ledger: Ledger) -> int:
    """Put back what lies aside though nobody wants it gone; how many files.

    A power cut may have taken back what the ledger said, and not what the disk did.
    """
    with ledger.read() as db:
        going = removals.paths(db)
    number = 0
    for aside in (settings.spool_folder / ASIDE).glob("*.dcm"):
        path = f"{aside.name[:2]}/{aside.name}"
        if path not in going:
            _bring_back(settings, path)
            number += 1
    return number


def _move(
    settings: Settings, some: Sequence[Removal], back: frozenset[str]
) -> tuple[list[str], list[str]]:
    """Move, put back and remove files; return the paths of those now aside, and of those done."""
    aside, done = [], []
    for one in some:
        if one.path in back:
            _bring_back(settings, one.path)
            done.append(one.path)
        elif not one.is_aside:
            _set_aside(settings, one)
            aside.append(one.path)
        elif one.is_over:
            _erase(settings, one)
            done.append(one.path)
    touched = {path[:2] for path in (*aside, *done) if "/" in path}
    # A name that a power cut brings back would be an instance that nobody has sent.
    for name in (*touched, *([ASIDE] if touched else ())):
        with suppress(FileNotFoundError):
            fsync_directory(settings.spool_folder / name)
    return aside, done


def _aside(settings: Settings, path: str) -> Path:
    return settings.spool_folder / ASIDE / path.rpartition("/")[2]


def _set_aside(settings: Settings, one: Removal) -> None:
    if not one.sop_instance_uid:
        return  # nobody receives into the folder of a job
    aside = _aside(settings, one.path)
    aside.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):  # it is aside already, or was lost before
        (settings.spool_folder / one.path).replace(aside)


def _bring_back(settings: Settings, path: str) -> None:
    """Put a file back, unless another one has been received in its place."""
    place, aside = settings.spool_folder / path, _aside(settings, path)
    with suppress(FileNotFoundError):
        if place.exists():
            aside.unlink()
        else:
            aside.rename(place)


def _erase(settings: Settings, one: Removal) -> None:
    if one.sop_instance_uid:
        _aside(settings, one.path).unlink(missing_ok=True)
    else:
        with suppress(FileNotFoundError):
            shutil.rmtree(settings.artifact_folder / one.path)
