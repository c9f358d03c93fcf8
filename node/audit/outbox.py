"""The outbox: which records the syslog server has, and those that it shall get next.

The chain itself is the spool. A number in a file says up to which record the server certainly has
all; after a restart, or a connection that broke, everything behind it is sent, in its order.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, NamedTuple

from node.audit import records, syslog
from node.audit.xml import xml_of
from node.crashpoint import reach
from node.errors import AuditBroken, SyslogAway
from node.log import get_logger

if TYPE_CHECKING:
    from pathlib import Path

    from node.audit.messages import Body, Source
    from node.audit.records import Head
    from node.settings import Syslog

log = get_logger(__name__)

BATCH = 200
FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 60.0
HEAD_S = 3600.0
"""How often the server is told the head of the chain."""
HEAD_MESSAGE = "AUDIT-HEAD"
"""MSGID. No message of PS3.15; other messages may go over the same connection (A.6)."""


class Numbered(NamedTuple):
    """A record as it is sent."""

    number: int
    body: Body


class Reader:
    """Reads the records of a chain one after the other, while others are added to it.

    Args:
        folder: Of the segments.
        after: Number of the record before the first one.

    Attributes:
        number: Of the last record that was taken.
    """

    def __init__(self, folder: Path, after: int) -> None:
        self._folder = folder
        self.number = after
        self._path: Path | None = None
        self._offset = 0

    def take(self, limit: int) -> list[Numbered]:
        """Return the next records; empty if none are there yet.

        Raises:
            AuditBroken: What stands there is no record.
        """
        found = self._take(limit)
        if not found and self._path != (path := self._segment_of(self.number + 1)):
            self._path, self._offset = path, 0
            found = self._take(limit)
        return found

    def _segment_of(self, number: int) -> Path | None:
        paths = records.segments(self._folder)
        return next((p for p in reversed(paths) if records.first_of(p) <= number), None)

    def _take(self, limit: int) -> list[Numbered]:
        found: list[Numbered] = []
        if self._path is None:
            return found
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if len(found) == limit or not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                try:
                    body = json.loads(line.partition(b" ")[2])
                    number = int(body["number"])
                except (ValueError, KeyError, TypeError):
                    raise AuditBroken(f"{self._path.name} holds a line that is none.") from None
                if number > self.number:
                    self.number = number
                    found.append(Numbered(number, body))
        return found


class Outbox:
    """Sends the records of a chain to a syslog server.

    Args:
        server: The server.
        folder: Of the chain.
        source: Who tells.
    """

    def __init__(self, server: Syslog, folder: Path, source: Source) -> None:
        self._folder = folder
        self._source = source
        self._mark = folder / "sent"
        self._connection = syslog.Connection(server)
        self._reader = Reader(folder, _number_in(self._mark))
        self._failures = 0
        self._back_at = self._head_at = 0.0

    def turn(self, head: Head) -> bool:
        """Send what is next, unless the server is left alone now; whether there is more.

        Args:
            head: Of the chain.
        """
        if time.monotonic() < self._back_at:
            return False
        try:
            self._connection.look()
            more = self._send_next()
            self._send_head(head)
        except SyslogAway as error:
            self._put_off(error)
            return False
        self._failures = 0
        self._note(self._connection.certain())
        return more

    def finish(self, head: Head) -> None:
        """Send what is left, if the server takes it now, and end the connection."""
        self._head_at = 0.0
        while self.turn(head):
            pass
        self._note(self._connection.close())

    def _send_next(self) -> bool:
        batch = self._reader.take(BATCH)
        if not batch:
            return False
        messages = ((one, xml_of(one.body, self._source)) for one in batch)
        frames = [
            syslog.frame(
                one.number, one.body["at"], self._source.host, syslog.AUDIT_MESSAGE, message
            )
            for one, message in messages
            if message is not None
        ]
        self._connection.send(batch[-1].number, frames)
        reach("audit.sent")
        return True

    def _send_head(self, head: Head) -> None:
        """Tell the server, which nobody here can change, where the chain ends."""
        if time.monotonic() < self._head_at or not head.number:
            return
        at, text = time.time(), str(head).encode("ascii")
        message = syslog.frame(None, at, self._source.host, HEAD_MESSAGE, text)
        self._connection.send(self._reader.number, [message])
        self._head_at = time.monotonic() + HEAD_S

    def _put_off(self, error: SyslogAway) -> None:
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._failures, 10))
        self._failures += 1
        self._back_at = time.monotonic() + pause_s
        self._reader = Reader(self._folder, _number_in(self._mark))
        log.warning("syslog_away", what=error.what, do=error.do, retry_in_s=pause_s)

    def _note(self, number: int | None) -> None:
        if number is not None:
            records.put(self._mark, f"{number}\n")


def _number_in(mark: Path) -> int:
    """Return up to which record the server has all; 0: nobody knows."""
    try:
        return int(mark.read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return 0
