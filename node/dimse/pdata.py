"""P-DATA as it comes from a socket: fragments of messages, without waiting for whole PDUs.

    PDU  04 00 <length: 4>                                     PS3.8 section 9.3.5
      PDV  <length: 4> <context ID> <control> <fragment>       PS3.8 sections 9.3.5.1 and E.2
      PDV  ...

Headers are read where they lie in one buffer, and what there is of a fragment is handed on from
there: nothing is copied, put together, or waited for twice.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

ASSOCIATE_RQ = 1
P_DATA_TF, RELEASE_RQ, RELEASE_RP, ABORT_RQ = 4, 5, 6, 7
"""PDU types of an established association (PS3.8 section 9.3)."""

PDU_HEADER_BYTES = 6
FIXED_PDU_BYTES = 4
"""Of a release or abort, after the header."""

RELEASE_REQUEST = b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00"
RELEASE_RESPONSE = b"\x06\x00\x00\x00\x00\x04\x00\x00\x00\x00"
ABORT_BY_USER = b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00"
ABORT_UNEXPECTED = b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x02"
ABORT_INVALID_PARAMETER = b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x06"
"""Whole PDUs. The last two are by the provider: unexpected PDU, and invalid PDU parameter value
(PS3.8 table 9-26)."""

BUFFER_BYTES = 1 << 18
"""Of an association. Larger ones are not faster, and 64 associations hold one each."""

LAST, COMMAND = 0x02, 0x01
"""Bits of the message control header (PS3.8 section E.2)."""

_PDU = struct.Struct(">BxL")
_PDV = struct.Struct(">LBB")


class Fragment(NamedTuple):
    """What there is of one fragment of a message.

    Attributes:
        context_id: Of the presentation context.
        is_command: Of the command set, not the data set.
        is_last: Whether the command set or data set ends with it.
        content: Valid until the next one is asked for.
    """

    context_id: int
    is_command: bool
    is_last: bool
    content: memoryview


class InvalidPdu(OSError):
    """The peer sent what is no PDU, not one of an established association, or too long a one."""


class Released(Exception):
    """The peer asks for the release of the association."""


class Ended(OSError):
    """The peer has aborted the association, or the connection is gone."""


class FragmentReader:
    """Reads the fragments that come over one connection.

    Args:
        connection: Established; only this reads from it.
        maximum_bytes: Of a PDU, as negotiated.
        pdu_s: In which a PDU that has begun must be complete.
        idle_s: How long nothing may come between two PDUs; None: for ever.
    """

    def __init__(
        self,
        connection: socket.socket,
        *,
        maximum_bytes: int,
        pdu_s: float,
        idle_s: float | None,
    ) -> None:
        self._connection = connection
        self._maximum_bytes = maximum_bytes
        self._pdu_s = pdu_s
        self._idle_s = idle_s
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._begin = 0
        self._end = 0
        self._pdu_until: float | None = None

    def fragments(self) -> Iterator[Fragment]:
        """Yield what comes.

        Raises:
            Released: The peer asks for it.
            InvalidPdu: The association must be aborted.
            TimeoutError: Nothing came for too long, or a PDU stopped or dripped.
            OSError: The connection has failed, or the association was aborted.
        """
        while True:
            left = self._pdu()
            while left:
                if left < _PDV.size:
                    raise InvalidPdu("A PDU ends within the header of a PDV")
                length, context_id, control = _PDV.unpack_from(*self._at_least(_PDV.size))
                self._begin += _PDV.size
                size = length - 2
                left -= _PDV.size + size
                if size < 0 or left < 0:
                    raise InvalidPdu("A PDV is longer than its PDU")
                is_command, is_last = bool(control & COMMAND), bool(control & LAST)
                while True:
                    if size and self._begin == self._end:
                        self._receive()
                    content = self._buffer[self._begin : min(self._end, self._begin + size)]
                    size -= len(content)
                    self._begin += len(content)
                    yield Fragment(context_id, is_command, is_last and not size, content)
                    if not size:
                        break
            self._pdu_until = None

    def _pdu(self) -> int:
        """Begin the next PDU, of P-DATA; return its length."""
        pdu_type, length = _PDU.unpack_from(*self._at_least(_PDU.size))
        self._begin += _PDU.size
        self._pdu_until = self._pdu_until or time.monotonic() + self._pdu_s
        if pdu_type == P_DATA_TF:
            if not 0 < length <= self._maximum_bytes:
                raise InvalidPdu(f"A PDU of {length} bytes")
            return int(length)
        if length != FIXED_PDU_BYTES:
            raise InvalidPdu(f"PDU type {pdu_type} has no {length} bytes")
        self._at_least(FIXED_PDU_BYTES)
        if pdu_type == RELEASE_RQ:
            raise Released
        if pdu_type == ABORT_RQ:
            raise Ended("The peer has aborted the association")
        raise InvalidPdu(f"PDU type {pdu_type} on an established association")

    def _at_least(self, size: int) -> tuple[memoryview, int]:
        """Return the buffer, and where in it there are ``size`` bytes; reads what is missing."""
        while self._end - self._begin < size:
            self._receive()
        return self._buffer, self._begin

    def _receive(self) -> None:
        """Read what there is, after what is not used yet."""
        unused = self._end - self._begin
        if unused:
            self._pdu_until = self._pdu_until or time.monotonic() + self._pdu_s
        if self._begin:  # a header at most: everything else is used as it comes
            self._buffer[:unused] = bytes(self._buffer[self._begin : self._end])
            self._begin, self._end = 0, unused
        if self._pdu_until is None:
            self._connection.settimeout(self._idle_s)
        else:
            left_s = self._pdu_until - time.monotonic()
            if left_s <= 0.0:
                raise TimeoutError("A PDU was not complete in time")
            self._connection.settimeout(left_s)
        received = self._connection.recv_into(self._buffer[self._end :])
        if not received:
            raise Ended("The peer has closed the connection")
        self._end += received
