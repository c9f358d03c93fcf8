"""The connection of an association that the node opened, once it is negotiated: C-STORE, release.

The calling thread writes to the socket and reads from it, so nothing is handed from thread to
thread, and nothing is waited for but the peer. ``Connection.store`` waits as long as there is
progress and never longer than the time-out without. Bytes that the peer's system has
acknowledged are progress: a slow line takes long for what is still in a buffer here.
"""

from __future__ import annotations

import fcntl
import select
import socket
import ssl
import struct
import termios
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from node.dimse.messages import C_STORE_RSP
from node.dimse.pdata import (
    ABORT_BY_USER,
    ABORT_RQ,
    COMMAND,
    FIXED_PDU_BYTES,
    LAST,
    P_DATA_TF,
    PDU_HEADER_BYTES,
    RELEASE_REQUEST,
    RELEASE_RESPONSE,
    RELEASE_RP,
    RELEASE_RQ,
)
from node.dimse.wire import SMALLEST_PDU_BYTES, fragments, pdus, response_of
from node.errors import AssociationBroken

if TYPE_CHECKING:
    from collections.abc import Iterable
    from io import BytesIO, FileIO

RELEASE_S = 5.0
"""Without an answer to a release for this long, the association is aborted. Nothing is lost."""

LOOK_S = 1.0
"""How often a wait looks whether the peer's system has acknowledged something."""

BUFFER_BYTES = 1 << 20
"""Of what is written at once."""

HEARD_BYTES = 65_536
"""Read at once; a response has some hundred."""

MAXIMUM_RESPONSE_BYTES = 1 << 20
"""Of one response: what a peer may make this node remember, or go on reading for."""

WOULD_WAIT = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a socket raises that has nothing to read, or takes nothing, now."""

_PDU = struct.Struct(">BxL")
_ABORT, _RELEASE = bytes([ABORT_RQ]), bytes([RELEASE_RQ])


class Connection:
    """What ``associate`` has opened, without pynetdicom.

    Args:
        connected: Nobody else uses it.
        peer: AE title, for errors.
        maximum_bytes: Of a PDU that the peer takes; 0: any.
        own_maximum_bytes: Of a PDU that this node takes.
        timeout_s: How long nothing may move.
    """

    def __init__(
        self,
        connected: socket.socket,
        peer: str,
        *,
        maximum_bytes: int,
        own_maximum_bytes: int,
        timeout_s: float,
    ) -> None:
        connected.setblocking(False)
        self.peer = peer
        self._socket = connected
        self._maximum_bytes = maximum_bytes
        self._allowed_bytes = {P_DATA_TF: own_maximum_bytes or MAXIMUM_RESPONSE_BYTES}
        self._timeout_s = timeout_s
        self._until: float | None = None
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN)
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._heard = bytearray()
        self._may_abort = True

    def store(
        self,
        command: bytes,
        data_set: FileIO | BytesIO,
        *,
        message_id: int,
        context_id: int,
    ) -> int:
        """Send one C-STORE-RQ and return the status of its response.

        Args:
            command: Encoded command set of the request.
            data_set: Positioned where it begins; in the transfer syntax of the context.
            message_id: Of the request.
            context_id: Of an accepted presentation context.

        Raises:
            AssociationBroken: It ended, stalled, or brought nonsense. Whether the peer acted on
                the request is not known.
            OSError: The data set cannot be read. A part of it may have been sent.
        """
        if 0 < self._maximum_bytes < SMALLEST_PDU_BYTES:
            raise nonsense(self.peer)
        self._write(
            pdus(
                self._buffer,
                command,
                data_set,
                context_id=context_id,
                maximum_bytes=self._maximum_bytes,
            )
        )
        try:
            return self._response(message_id)
        except ValueError as error:
            raise nonsense(self.peer) from error

    def release(self) -> None:
        """Release the association (PS3.8 section 7.2) and close; abort it where that fails."""
        self._until = time.monotonic() + RELEASE_S
        try:
            self._write([memoryview(RELEASE_REQUEST)])
            while (pdu_type := self._pdu()[0]) != RELEASE_RP:
                if pdu_type == RELEASE_RQ:  # a collision: Sta9, then Sta11 (PS3.8 section 9.2)
                    self._write([memoryview(RELEASE_RESPONSE)])
        except AssociationBroken:
            self.abort()
        self._socket.close()

    def abort(self) -> None:
        """Tell the peer that this is the end, if it can be told now. Closes nothing."""
        if self._may_abort:
            with suppress(OSError):  # it does not read, or is gone
                self._socket.send(ABORT_BY_USER)

    def _write(self, pieces: Iterable[memoryview]) -> None:
        """Send whole PDUs, and notice an abort while the peer does not read."""
        for piece in pieces:
            unsent = piece
            self._may_abort = False  # within a PDU
            while unsent:
                try:
                    unsent = unsent[self._socket.send(unsent) :]
                except WOULD_WAIT:
                    if self._wait(select.POLLIN | select.POLLOUT) & ~select.POLLOUT:
                        self._hear(wait=False)  # of TLS, it may be nothing for us
                        if self._heard[:1] in (_ABORT, _RELEASE):
                            raise self._ended() from None
                except OSError as error:
                    raise self._ended() from error
            self._may_abort = True

    def _response(self, message_id: int) -> int:
        """Return the status of the response.

        Raises:
            ValueError: It is no response to this request, or not even a message.
        """
        command, bytes_left, response = b"", MAXIMUM_RESPONSE_BYTES, None
        is_whole = False
        while not is_whole:
            pdu_type, content = self._pdu()
            if pdu_type != P_DATA_TF:
                if pdu_type == RELEASE_RQ:
                    self._write([memoryview(RELEASE_RESPONSE)])
                raise self._ended()
            for control, fragment in fragments(content):
                bytes_left -= len(fragment)
                if is_whole or bytes_left < 0 or bool(control & COMMAND) != (response is None):
                    raise ValueError("Something else than the rest of one response")
                is_last = bool(control & LAST)
                if response is not None:
                    is_whole = is_last
                    continue
                command += fragment
                if is_last:
                    response = response_of(command)
                    is_whole = not response.has_data_set
        if response is None or response[:2] != (C_STORE_RSP, message_id):
            raise ValueError("A response to something else")
        return response.status

    def _pdu(self) -> tuple[int, memoryview]:
        """Return the next PDU: its type, and what follows its header.

        Raises:
            AssociationBroken: It is an abort, none of an established association, or too long.
        """
        while len(self._heard) < PDU_HEADER_BYTES:
            self._hear()
        pdu_type, length = _PDU.unpack_from(self._heard)
        if pdu_type == ABORT_RQ:
            raise self._ended()
        if pdu_type not in (P_DATA_TF, RELEASE_RQ, RELEASE_RP):
            raise nonsense(self.peer)
        if length > self._allowed_bytes.get(pdu_type, FIXED_PDU_BYTES):
            raise nonsense(self.peer)
        end = PDU_HEADER_BYTES + length
        while len(self._heard) < end:
            self._hear()
        content = bytes(self._heard[PDU_HEADER_BYTES:end])
        del self._heard[:end]
        return pdu_type, memoryview(content)

    def _hear(self, *, wait: bool = True) -> None:
        """Read what there is, or wait for it."""
        if len(self._heard) > MAXIMUM_RESPONSE_BYTES + PDU_HEADER_BYTES:
            raise nonsense(self.peer)
        while True:
            try:
                # Peers that write a PDU in two pieces wait between them for an acknowledgement
                # (Nagle's algorithm), which is late by 40 ms. The kernel forgets the option.
                if hasattr(socket, "TCP_QUICKACK"):
                    self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                heard = self._socket.recv(HEARD_BYTES)
            except WOULD_WAIT:
                if not wait:
                    return
                self._wait(select.POLLIN)
                continue
            except OSError as error:
                raise self._ended() from error
            if not heard:
                raise self._ended()
            self._heard += heard
            return

    def _ended(self) -> AssociationBroken:
        self._may_abort = False
        return ended(self.peer)

    def _wait(self, events: int) -> int:
        """Wait for the socket, and return what it is ready for."""
        self._poll.modify(self._socket, events)
        moved_at, unacknowledged = time.monotonic(), self._unacknowledged_bytes()
        while True:
            until = moved_at + self._timeout_s if self._until is None else self._until
            left_s = until - time.monotonic()
            if left_s <= 0.0:
                raise stalled(self.peer, self._timeout_s)
            if ready := self._poll.poll(min(left_s, LOOK_S) * 1000.0):
                return ready[0][1]
            left = self._unacknowledged_bytes()
            if left != unacknowledged:
                moved_at, unacknowledged = time.monotonic(), left

    def _unacknowledged_bytes(self) -> int:
        count = bytearray(4)
        with suppress(OSError):  # a system that does not tell
            fcntl.ioctl(self._socket, termios.TIOCOUTQ, count)
        return int.from_bytes(count, "little")


def ended(peer: str) -> AssociationBroken:
    """Return what it means that a peer is not there any more."""
    return AssociationBroken(
        f"'{peer}' ended the association before it answered.",
        do="The node tries again by itself. If it stays, look into the log of the peer.",
    )


def stalled(peer: str, timeout_s: float) -> AssociationBroken:
    """Return what it means that a peer does nothing."""
    return AssociationBroken(
        f"'{peer}' stalled: nothing moved for {timeout_s:g} s.",
        do="The node tries again by itself. If it stays, look at the peer's load, "
        "or raise timeout_s of the destination.",
    )


def nonsense(peer: str) -> AssociationBroken:
    """Return what it means that a peer does not keep to the protocol."""
    return AssociationBroken(
        f"'{peer}' sent something that is not a valid DIMSE response.",
        do="The node tries again by itself. If it stays, report the peer to its maker.",
    )
