"""Folder destinations: an object is there whole and durable, or it is not there."""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import TYPE_CHECKING

from node.errors import PeerUnreachable

if TYPE_CHECKING:
    from pathlib import Path


def copy(source: Path, folder: Path, *, study_uid: str, sop_instance_uid: str) -> Path:
    """Copy one object into ``folder``, durably; where it went.

    The names are derived from the UIDs and hold none of their text, so no UID leads out of
    the folder, and the same object always has the same name.

    Raises:
        PeerUnreachable: The folder is not there or cannot be written to. It is not created: an
            empty mount point must not collect results that nobody will see.
    """
    target = folder / _name(study_uid) / f"{_name(sop_instance_uid)}.dcm"
    part = target.with_suffix(".part")
    try:
        if not folder.is_dir():
            raise NotADirectoryError(folder)
        target.parent.mkdir(exist_ok=True)
        with source.open("rb") as original, part.open("wb") as file:
            shutil.copyfileobj(original, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
        _fsync(target.parent)
        _fsync(folder)
    except OSError as error:
        raise PeerUnreachable(
            f"The object cannot be copied into {folder}: {error.strerror or type(error).__name__}.",
            do="Check that the folder exists, is mounted, has room, and lets this user write.",
        ) from error
    return target


def _name(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:32]


def _fsync(folder: Path) -> None:
    """Make the folder's entries durable: a rename is not, by itself."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
