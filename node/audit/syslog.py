"""Syslog over TLS (RFC 5424, RFC 5425; PS3.15 A.6): frames, and the connection they go over."""

from __future__ import annotations

import socket
import ssl
import time
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from fcntl import ioctl
from struct import unpack
from termios import TIOCOUTQ
from typing import TYPE_CHECKING

from node import tls
from node.errors import SyslogAway

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node.settings import Syslog

AUDIT = 10 * 8 + 5
"""PRI: facility 10, security and authorization; severity 5, normal but significant (PS3.15 A.6)."""
AUDIT_MESSAGE = "DICOM+RFC3881"
"""MSGID of what follows PS3.15 A.5."""
APPLICATION = "radnode"
BOM = b"\xef\xbb\xbf"
LARGEST_SEQUENCE_ID = 2**31 - 1

TIMEOUT_S = 10.0
"""For connecting, and for the server to take what it is sent."""
CLOSE_S = 3.0
LOOK_S = 0.01
CERTAIN_S = 60.0
"""The server's kernel has what was sent; its program, too, if both lived on for this long."""


def frame(number: int | None, at: float, host: str, message_id: str, message: bytes) -> bytes:
    """Return one syslog message with its length before it (RFC 5425 section 4.3).

    ``sequenceId`` (RFC 5424 section 7.3.1) is the number of the record: a server that gets a
    message twice, or misses one, can tell.

    Args:
        number: Of the record; None: it is of none.
        at: When it happened (seconds since the epoch).
        host: HOSTNAME.
        message_id: MSGID.
        message: MSG, UTF-8.
    """
    when = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    meta = "-" if number is None else f'[meta sequenceId="{_sequence_id(number)}"]'
    name = "".join(c for c in host if "!" <= c <= "~")[:255] or "-"
    header = f"<{AUDIT}>1 {when} {name} {APPLICATION} - {message_id} {meta} "
    text = header.encode("ascii") + BOM + message
    return b"%d %s" % (len(text), text)


def _sequence_id(number: int) -> int:
    return (number - 1) % LARGEST_SEQUENCE_ID + 1


class Connection:
    """A connection to the syslog server, opened when something is first sent.

    Syslog has no answers. What the server's kernel has acknowledged counts as taken once the
    connection has lived on for ``CERTAIN_S``, or was closed by both sides in turn; the rest is
    sent again on the next connection.

    Args:
        syslog: Where the server is, and how it is known.
    """

    def __init__(self, syslog: Syslog) -> None:
        self._syslog = syslog
        self._context = tls.syslog_context(syslog)
        self._socket: ssl.SSLSocket | None = None
        self._uncertain: deque[tuple[int, float]] = deque()

    def send(self, number: int, frames: Sequence[bytes]) -> None:
        """Hand over messages; ``number`` is that of the last record among them.

        Raises:
            SyslogAway: Nobody knows how many came through. The connection is closed.
        """
        try:
            self._leave_if_idle_and_closed()
            if self._socket is None:
                self._socket = self._connect()
            self._require_alive(self._socket)
            self._socket.sendall(b"".join(frames))
            self._wait_until_taken(self._socket)
        except OSError as error:  # an SSLError is one
            self._drop()
            raise SyslogAway(
                f"The syslog server does not answer ({_words(error)}).",
                do="Nothing is lost: it is sent when the server is back. See [audit.syslog].",
            ) from error
        self._uncertain.append((number, time.monotonic()))

    def look(self) -> None:
        """Find out whether the server has left meanwhile.

        Raises:
            SyslogAway: It has.
        """
        if self._socket is not None and self._uncertain:
            self.send(self._uncertain[-1][0], ())

    def certain(self) -> int | None:
        """Return up to which record all is certainly taken; None: nothing new is."""
        number = None
        while self._uncertain and self._uncertain[0][1] <= time.monotonic() - CERTAIN_S:
            number, _ = self._uncertain.popleft()
        return number

    def close(self) -> int | None:
        """Close in turn with the server; return up to which record it certainly has all."""
        if self._socket is None:
            return None
        number = self._uncertain[-1][0] if self._uncertain else None
        try:
            self._socket.settimeout(CLOSE_S)
            self._socket.unwrap()  # its close_notify says that it has read ours, and all before
        except OSError:
            number = None
        self._drop()
        return number

    def _connect(self) -> ssl.SSLSocket:
        address = (self._syslog.host, self._syslog.port)
        plain = socket.create_connection(address, TIMEOUT_S)
        try:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            name = self._syslog.server_name or self._syslog.host
            return self._context.wrap_socket(plain, server_hostname=name)
        except OSError:
            plain.close()
            raise

    def _leave_if_idle_and_closed(self) -> None:
        """Servers close connections that say nothing for long: that is no error."""
        if self._socket is None or self._uncertain:
            return
        try:
            self._require_alive(self._socket)
        except OSError:
            self._drop()

    def _require_alive(self, connection: ssl.SSLSocket) -> None:
        """Raise OSError if the server has closed: it says nothing else, ever."""
        connection.setblocking(False)
        try:
            while connection.recv(1024):
                pass
        except (ssl.SSLWantReadError, BlockingIOError):
            connection.settimeout(TIMEOUT_S)
            return
        raise ConnectionResetError("closed by the server")

    def _wait_until_taken(self, connection: ssl.SSLSocket) -> None:
        """Wait until the other host has acknowledged every byte."""
        until = time.monotonic() + TIMEOUT_S
        while unpack("i", ioctl(connection.fileno(), TIOCOUTQ, b"\0" * 4))[0]:
            if time.monotonic() > until:
                raise TimeoutError("takes nothing more")
            self._require_alive(connection)
            time.sleep(LOOK_S)
        self._require_alive(connection)

    def _drop(self) -> None:
        self._uncertain.clear()
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
            self._socket = None


def _words(error: OSError) -> str:
    """Return what happened, in words that name no file and quote no certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return error.reason or "TLS"
    return error.strerror or str(error) or type(error).__name__
