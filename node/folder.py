"""Folder destinations: an object is there whole and durable, or it is not there.

Who may read the folder may read what comes into it: the node's own umask is for its own data.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from node.errors import PeerBusy, PeerRefused, PeerUnreachable

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO


def copy(source: Path, folder: Path, *, study_uid: str, sop_instance_uid: str) -> Path:
    """Copy one object into ``folder``, durably; where it went.

    The names are derived from the UIDs and hold none of their text, so no UID leads out of
    the folder, and the same object always has the same name.

    Raises:
        PeerUnreachable: The folder is not there or lets nobody in. It is not created: an empty
            mount point must not collect results that nobody will see.
        PeerBusy: This object cannot be written now; another may fit.
        PeerRefused: The object itself cannot be opened.
    """
    target = folder / _name(study_uid) / f"{_name(sop_instance_uid)}.dcm"
    try:
        if not folder.is_dir():
            raise NotADirectoryError(folder)
        with suppress(FileExistsError):
            target.parent.mkdir()
            target.parent.chmod(0o700 | folder.stat().st_mode & 0o2055)
    except OSError as error:
        raise PeerUnreachable(
            f"The folder {folder} cannot be used: {error.strerror or type(error).__name__}.",
            do="Check that the folder exists, is mounted, has room, and lets this user write.",
        ) from error
    try:
        original = source.open("rb")
    except OSError as error:
        raise PeerRefused(
            f"The file to copy cannot be read ({type(error).__name__}).",
            do=f"Restore {source.name} in its folder from a backup, then 'radnode retry'.",
        ) from error
    try:
        with original:
            _replace(target, original)
    except OSError as error:
        raise PeerBusy(
            f"The object cannot be copied into {folder}: {error.strerror or type(error).__name__}.",
            do="Check that the folder has room and lets this user write.",
        ) from error
    return target


def _replace(target: Path, original: BinaryIO) -> None:
    # A name of its own: another deliverer that copies the object must not write to the same file.
    part = target.with_suffix(f".{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            os.fchmod(file.fileno(), 0o600 | target.parent.stat().st_mode & 0o044)
            shutil.copyfileobj(original, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    _fsync(target.parent)
    _fsync(target.parent.parent)
    # Of deliverers that died. One that is still at it comes again, or has nothing left to do.
    for left in target.parent.glob(f"{target.stem}*.part"):
        left.unlink(missing_ok=True)


def _name(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:32]


def _fsync(folder: Path) -> None:
    """Make the folder's entries durable: a rename is not, by itself."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
