"""The chain: the audit trail being written. Only one process at a time may."""

from __future__ import annotations

import fcntl
import os
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from node.audit import records
from node.audit.records import START, Head, Record
from node.crashpoint import reach
from node.errors import AuditBroken, ConfigError
from node.log import get_logger
from node.spool import fsync_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

log = get_logger(__name__)

KEPT_RECORDS = 5_000
"""The last ones, in memory: to compare them with the ledger at the start."""


@dataclass(frozen=True)
class Places:
    """Where an audit trail lies.

    Attributes:
        folder: Of the segments.
        key: File of the key.
        heads: Files with copies of the head; the first lies beside the segments.
    """

    folder: Path
    key: Path
    heads: tuple[Path, ...]


class Chain:
    """Appends records durably.

    Args:
        places: Where.
        segment_bytes: A segment of this size is followed by another.

    Attributes:
        head: Of the last record.
        last: The last records, of those on the disk when it was opened.

    Raises:
        AuditBroken: What lies there is not what was written: nothing is added to it.
        ConfigError: Another process writes to it.
        OSError: The disk does not take it.
    """

    def __init__(self, places: Places, *, segment_bytes: int) -> None:
        self._places = places
        self._segment_bytes = segment_bytes
        places.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock(places.folder / "lock")
        try:
            begun = any(path.exists() for path in places.heads) or any(
                records.segments(places.folder)
            )
            self._key = records.key_for(places.key, make=not begun)
            self.head, self.last = self._resume(begun=begun)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another process write. May be called again."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def append(self, bodies: Iterable[Mapping[str, Any]]) -> Head:
        """Add records, and return the new head when they are on the disk.

        Raises:
            OSError: The disk did not take them: open the chain anew, and see what it holds.
        """
        head, lines = self.head, []
        for body in bodies:
            head, line = records.sealed(self._key, head, body)
            lines.append(line)
        if not lines:
            return head
        path = self._segment()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            _write(descriptor, b"".join(lines))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if path.name == records.segment(path.parent, self.head.number + 1).name:
            fsync_directory(path.parent)
        reach("audit.appended")
        self.head = head
        self._copy_head()
        return head

    def _segment(self) -> Path:
        """Return the segment that the next record goes to."""
        there = records.segments(self._places.folder)
        if there and there[-1].stat().st_size < self._segment_bytes:
            return there[-1]
        return records.segment(self._places.folder, self.head.number + 1)

    def _copy_head(self) -> None:
        for number, path in enumerate(self._places.heads):
            try:
                records.write_head(path, self.head)
            except OSError as error:
                if number == 0:
                    raise
                # Another disk or a share may be away; the chain goes on without it.
                log.warning("audit_head_not_copied", reason=error.strerror)

    def _resume(self, *, begun: bool) -> tuple[Head, tuple[Record, ...]]:
        """Find the end. A line that a power cut left unfinished is taken off.

        Only the last segment is checked, which is enough to go on from: ``verify`` looks at all.
        """
        if not begun:
            self.head = START
            self._copy_head()
            return START, ()
        known = self._known_heads()
        latest = max(head.number for head in known)
        paths = _with_records(records.segments(self._places.folder))
        before = _end_of(paths[-2]) if len(paths) > 1 else START
        head, last = before, deque[Record](maxlen=KEPT_RECORDS)
        try:
            for record in records.walk(paths[-1:], self._key, before):
                head = record.head
                last.append(record)
                records.agree(head, known)
        except AuditBroken as broken:
            if not broken.cut or head.number < latest:
                raise
            _take_off(paths[-1])
        if head.number < latest:
            raise records.gone(head.number + 1, latest)
        self.head = head
        self._copy_head()
        return head, tuple(last)

    def _known_heads(self) -> tuple[Head, ...]:
        """Return the copies of the head; those after the first only where they can be read."""
        first, *others = self._places.heads
        known = [records.read_head(first)]
        for path in others:
            try:
                known += [records.read_head(path)] if path.exists() else []
            except OSError as error:
                log.warning("audit_head_not_read", reason=error.strerror)
        return tuple(known)


def _lock(path: Path) -> int:
    """Hold the lock of the one writer; the kernel frees it with the process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError(
            f"Another process writes the audit trail in {path.parent}.",
            do="Stop it first: 'radnode up' has started one.",
        ) from None
    return descriptor


def is_being_written(places: Places) -> bool:
    """Whether a process holds the lock of the one writer."""
    try:
        descriptor = os.open(places.folder / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _write(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def _with_records(paths: Sequence[Path]) -> Sequence[Path]:
    """Leave out an empty last segment: its first record did not come to the disk."""
    if len(paths) > 1 and not paths[-1].stat().st_size:
        return paths[:-1]
    return paths


def _end_of(path: Path) -> Head:
    """Return the head that the last line of a finished segment states."""
    with path.open("rb") as file:
        last = deque(file, maxlen=1)
    mac, _, _ = (last[0] if last else b"").partition(b" ")
    following = [other for other in records.segments(path.parent) if other > path]
    try:
        return Head(records.first_of(following[0]) - 1, bytes.fromhex(mac.decode("ascii")).hex())
    except ValueError:
        raise AuditBroken(f"{path.name} is not what was written.") from None


def _take_off(path: Path) -> None:
    """Remove the unfinished last line of a segment."""
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.truncate(content.rfind(b"\n") + 1)
        file.flush()
        os.fsync(file.fileno())
