"""The spool: received instances as Part 10 files that are whole and durable, or not there.

    tmp/<random>-<n>.part     being received; locked by the process that writes it
    <digest[:2]>/<digest>.dcm kept; the digest is that of the data set without file meta

Nothing that came over the network is part of a path.
"""

from __future__ import annotations

import fcntl
import filecmp
import hashlib
import itertools
import os
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


FOLDERS = tuple(f"{number:02x}" for number in range(256))
"""Of kept files: the first two digits of a digest."""


def fsync_directory(folder: Path) -> None:
    """Make the folder's entries durable: a rename is not, by itself."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Part:
    """A file being received: its data set is hashed as it is written, never held in memory.

    The first error of the disk is kept in ``failure`` and the rest of the data set is dropped:
    the sender gets its answer only when it has said everything.

    Attributes:
        path: Of the file, until it is kept or discarded.
        data_offset: Bytes before the data set: preamble, prefix and file meta.
        size_bytes: Of the data set so far.
        failure: Why the file is not complete, if it is not.
    """

    def __init__(self, path: Path, header: bytes) -> None:
        self.path = path
        self.data_offset = len(header)
        self.size_bytes = 0
        self.failure: OSError | None = None
        self._sha256 = hashlib.sha256()
        self._descriptor = -1
        try:
            self._descriptor = _new_file(path)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write(header)
        except OSError as error:
            self._fail(error)

    @property
    def digest(self) -> str:
        """SHA-256 of the data set so far (hex)."""
        return self._sha256.hexdigest()

    def write(self, data_set: bytes | memoryview) -> None:
        """Append bytes of the data set; never raises, see ``failure``."""
        if self.failure is not None:
            return
        try:
            self._write(data_set)
        except OSError as error:
            self._fail(error)
            return
        self._sha256.update(data_set)
        self.size_bytes += len(data_set)

    def sync(self) -> None:
        """Make the content durable; what ``Spool.keep`` does next makes the name so.

        Raises:
            OSError: The disk did not take it, now or before.
        """
        if self.failure is not None:
            raise self.failure
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file and give up its lock. May be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def discard(self) -> None:
        """Close the file and remove it, unless it was kept. May be called again."""
        self.close()
        with suppress(OSError):  # gone, or the disk is; then a later sweep finds it
            self.path.unlink()

    def _write(self, content: bytes | memoryview) -> None:
        left = memoryview(content)
        while left:
            left = left[os.write(self._descriptor, left) :]

    def _fail(self, error: OSError) -> None:
        self.failure = error
        self.discard()


class Spool:
    """The folder of received instances. Any number of processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._parts = folder / "tmp"
        self._session = uuid.uuid4().hex
        self._numbers = itertools.count()

    def new_part(self) -> Path:
        """Return a path that nobody uses, on the file system of the kept files."""
        return self._parts / f"{self._session}-{next(self._numbers)}.part"

    def prepare(self) -> None:
        """Make every folder, durably, so that receiving makes none.

        Raises:
            OSError: The disk does not take them.
        """
        for name in ("tmp", *FOLDERS):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        fsync_directory(self.folder)

    def keep(self, part: Part) -> str:
        """Keep one part. See ``keep_all``.

        Returns:
            The path relative to the spool.

        Raises:
            OSError: The disk did not take it.
        """
        (kept,) = self.keep_all([part])
        if isinstance(kept, OSError):
            raise kept
        return kept

    def keep_all(self, parts: Sequence[Part]) -> list[str | OSError]:
        """Give parts that are whole and synced their durable names: the digests.

        From then on they may be acknowledged. A file that is there already stays if it is the
        same, byte for byte. If it is not, another sender's name is in its header, or the disk has
        damaged it: then the new one replaces it.

        Returns:
            Of each part, the path relative to the spool, or why the disk did not take it.
        """
        kept: list[str | OSError] = [self._renamed(part) for part in parts]
        # Also where it was there: who renamed it may have died before this line.
        failed: dict[str, OSError] = {}
        for folder in {path[:2] for path in kept if isinstance(path, str)}:
            try:
                fsync_directory(self.folder / folder)
            except OSError as error:
                failed[folder] = error
        return [failed.get(path[:2], path) if isinstance(path, str) else path for path in kept]

    def _renamed(self, part: Part) -> str | OSError:
        relative = f"{part.digest[:2]}/{part.digest}.dcm"
        target = self.folder / relative
        try:
            if _are_same(part.path, target):
                part.path.unlink()
            else:
                self._replace(part.path, target)
        except OSError as error:
            return error
        return relative

    def _replace(self, part: Path, target: Path) -> None:
        try:
            part.replace(target)
        except FileNotFoundError:  # the folder, unless the part itself is gone
            self.prepare()
            part.replace(target)

    def absolute(self, relative: str) -> Path:
        """Return where a kept file lies."""
        return self.folder / relative

    def holds(self, relative: str) -> bool:
        """Whether a kept file is there, as far as the disk says."""
        try:
            return self.absolute(relative).is_file()
        except OSError:
            return False

    def modified_ns(self, relative: str) -> int:
        """Return when a kept file was received, in nanoseconds since the epoch; 0 if unknown."""
        try:
            return self.absolute(relative).stat().st_mtime_ns
        except OSError:
            return 0

    def has_room(self, minimum_free_bytes: int) -> bool:
        """Whether at least so much of the disk is free.

        Raises:
            OSError: It cannot be asked, or takes no folder.
        """
        try:
            disk = os.statvfs(self._parts)
        except FileNotFoundError:
            self.prepare()
            disk = os.statvfs(self._parts)
        return disk.f_bavail * disk.f_frsize >= minimum_free_bytes

    @contextmanager
    def scratch(self) -> Iterator[Part]:
        """Lend a file that is gone at the end, whatever happens."""
        part = Part(self.new_part(), b"")
        try:
            yield part
        finally:
            part.discard()

    def sweep(self) -> int:
        """Remove the parts of processes that have died; return how many.

        A part whose writer lives is locked and stays; so does what the disk does not let go.
        """
        removed = 0
        for part in self._parts.glob("*.part"):
            with suppress(OSError):
                descriptor = os.open(part, os.O_RDONLY)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    part.unlink()
                    removed += 1
                finally:
                    os.close(descriptor)
        return removed

    def files(self) -> Iterator[str]:
        """Yield the relative path of every kept file, in no particular order."""
        for folder in FOLDERS:
            with suppress(OSError):  # what is not there, or cannot be read, holds nothing
                yield from self.files_in(folder)

    def files_in(self, folder: str) -> Iterator[str]:
        """Yield those of one of ``FOLDERS``.

        Raises:
            OSError: It is not there, or cannot be read.
        """
        with os.scandir(self.absolute(folder)) as found:
            yield from (f"{folder}/{one.name}" for one in found if one.name.endswith(".dcm"))


def _new_file(path: Path) -> int:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    try:
        return os.open(path, flags, 0o640)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags, 0o640)


def _are_same(part: Path, target: Path) -> bool:
    try:
        return filecmp.cmp(part, target, shallow=False)
    except OSError:  # there is no target, or it cannot be read
        return False
