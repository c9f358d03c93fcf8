"""Command sets of C-STORE, read and written as the bytes they are (PS3.7 sections 6.3 and 9.3.1).

A command set is always in implicit VR little endian. pynetdicom's way over a data set and two
classes of messages takes a millisecond an instance, which is more than its pixels take.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from node.dimse.pdata import COMMAND, LAST, P_DATA_TF

C_STORE_RQ, C_STORE_RSP = 0x0001, 0x8001
NO_DATA_SET = 0x0101

AFFECTED_SOP_CLASS, COMMAND_FIELD, MESSAGE_ID, ANSWERED_MESSAGE_ID = 0x0002, 0x0100, 0x0110, 0x0120
DATA_SET_TYPE, STATUS, ERROR_COMMENT, AFFECTED_SOP_INSTANCE = 0x0800, 0x0900, 0x0902, 0x1000
"""Elements of group 0000 (PS3.7 annex E)."""

COMMAND_BYTES = 65_536
"""A command set is a dozen short elements (PS3.7 section 9.3)."""

MESSAGE_BYTES = 2_000_000
"""Data sets that are held in memory: commitment reports, at some 200 bytes an instance."""

UID_BYTES = 64
COMMENT_CHARACTERS = 64
"""Of Error Comment, VR LO."""

_ELEMENT = struct.Struct("<HHL")
_SHORT = struct.Struct("<H")
_PDV = struct.Struct(">BxLLBB")  # headers of PDU and PDV


class MalformedCommand(ValueError):
    """The bytes are not a command set, or not one of a C-STORE request."""


class StoreRequest(NamedTuple):
    """A C-STORE-RQ (PS3.7 table 9.3-1), as far as a receiver needs it."""

    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    has_data_set: bool


def command_elements(encoded: bytes) -> dict[int, bytes]:
    """Return element number -> value of a command set.

    Raises:
        MalformedCommand: It is not one.
    """
    elements: dict[int, bytes] = {}
    position = 0
    while position < len(encoded):
        if position + _ELEMENT.size > len(encoded):
            raise MalformedCommand("A command set ends within an element")
        group, number, length = _ELEMENT.unpack_from(encoded, position)
        position += _ELEMENT.size
        if group or number in elements or length > len(encoded) - position:
            raise MalformedCommand("A command set has an element that cannot be")
        elements[number] = bytes(encoded[position : position + length])
        position += length
    return elements


def store_request(elements: dict[int, bytes]) -> StoreRequest | None:
    """Return what a command set asks to store; None if it is not a C-STORE request.

    Raises:
        MalformedCommand: It is one, and lacks what it must have.
    """
    if number(elements, COMMAND_FIELD) != C_STORE_RQ:
        return None
    return StoreRequest(
        number(elements, MESSAGE_ID),
        _uid(elements, AFFECTED_SOP_CLASS),
        _uid(elements, AFFECTED_SOP_INSTANCE),
        number(elements, DATA_SET_TYPE) != NO_DATA_SET,
    )


def store_response(request: StoreRequest, status: int, comment: str = "") -> bytes:
    """Return the command set of a C-STORE-RSP (PS3.7 table 9.3-2).

    Args:
        request: That is answered.
        status: Of PS3.4 table B.2-1.
        comment: ASCII; what is longer than the element is cut.
    """
    error_comment = [(ERROR_COMMENT, _text(comment[:COMMENT_CHARACTERS], b" "))] if comment else []
    return command_set(
        (AFFECTED_SOP_CLASS, padded(request.sop_class_uid)),
        (COMMAND_FIELD, _SHORT.pack(C_STORE_RSP)),
        (ANSWERED_MESSAGE_ID, _SHORT.pack(request.message_id)),
        (DATA_SET_TYPE, _SHORT.pack(NO_DATA_SET)),
        (STATUS, _SHORT.pack(status)),
        *error_comment,
        (AFFECTED_SOP_INSTANCE, padded(request.sop_instance_uid)),
    )


def number(elements: dict[int, bytes], element: int) -> int:
    """Return the value of an element of VR US.

    Raises:
        MalformedCommand: It is not there, or no number.
    """
    try:
        return int(_SHORT.unpack(elements[element])[0])
    except (KeyError, struct.error) as error:
        raise MalformedCommand("A command set lacks a number") from error


def padded(uid: str) -> bytes:
    """Return a UID as a value, of even length (PS3.5 section 9.1)."""
    return _text(uid, b"\0")


def command_set(*elements: tuple[int, bytes]) -> bytes:
    """Encode a command set, with its group length; ``elements`` come in ascending order."""
    encoded = b"".join(
        part for number, value in elements for part in (_ELEMENT.pack(0, number, len(value)), value)
    )
    return _ELEMENT.pack(0, 0, 4) + struct.pack("<L", len(encoded)) + encoded


def command_pdu(context_id: int, command: bytes) -> bytes:
    """Return the P-DATA-TF PDU of one whole command set."""
    size = len(command) + 2
    return _PDV.pack(P_DATA_TF, size + 4, size, context_id, COMMAND | LAST) + command


def _uid(elements: dict[int, bytes], number: int) -> str:
    """Return a UID; whether it is legal is for the gate to say, but it must be short text."""
    value = elements.get(number, b"").rstrip(b"\0 ")
    if not value or len(value) > UID_BYTES or not value.isascii():
        raise MalformedCommand("A C-STORE request lacks a UID")
    return value.decode("ascii")


def _text(text: str, padding: bytes) -> bytes:
    encoded = text.encode("ascii", errors="replace")
    return encoded + padding * (len(encoded) % 2)
