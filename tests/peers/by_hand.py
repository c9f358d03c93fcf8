"""An association byte by byte, so that a test or a bench decides on each."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context

if TYPE_CHECKING:
    from collections.abc import Sequence

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
ASSOCIATE_AC = 2
P_DATA_TF, RELEASE_RQ, RELEASE_RP, ABORT = 4, 5, 6, 7
"""PDU types (PS3.8 section 9.3)."""
COMMAND, LAST = 0x01, 0x02
"""Bits of the message control header (PS3.8 section E.2)."""
C_STORE_RSP = 0x8001


@dataclass(frozen=True)
class Message:
    """One message as it came.

    Attributes:
        message_id: Of the request.
        command: Its command set, encoded.
        data_set: Its data set, encoded.
        fragments: (bytes of the PDU after its header, message control header, bytes of the
            fragment), in order.
    """

    message_id: int
    command: bytes
    data_set: bytes
    fragments: tuple[tuple[int, int, int], ...]


def accept(listener: socket.socket, *, maximum_bytes: int = 16_384) -> socket.socket:
    """Take one connection, and accept all that is proposed on it.

    Args:
        listener: Bound.
        maximum_bytes: Of a PDU, as it is told to the peer; 0: any.
    """
    connection, _ = listener.accept()
    request = A_ASSOCIATE_RQ()
    request.decode(pdu(connection))
    proposed = request.to_primitive()
    accepted = A_ASSOCIATE()
    accepted.application_context_name = proposed.application_context_name
    accepted.calling_ae_title = proposed.calling_ae_title
    accepted.called_ae_title = proposed.called_ae_title
    accepted.result, accepted.result_source = 0, 1
    contexts = proposed.presentation_context_definition_list
    for context in contexts:
        context.result = 0
        context.transfer_syntax = [context.transfer_syntax[0]]
    accepted.presentation_context_definition_results_list = contexts
    accepted.user_information = _user_information(maximum_bytes)
    answer = A_ASSOCIATE_AC()
    answer.from_primitive(accepted)
    connection.sendall(answer.encode())
    return connection


def call(
    port: int,
    sop_class_uid: str,
    *,
    called_ae: str = "PACS",
    transfer_syntax: str = ExplicitVRLittleEndian,
    maximum_bytes: int = 16_384,
) -> socket.socket:
    """Open an association for one SOP class."""
    contexts = [(sop_class_uid, transfer_syntax)]
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(request(contexts, called_ae=called_ae, maximum_bytes=maximum_bytes))
    assert pdu(connection)[0] == ASSOCIATE_AC
    return connection


def request(
    contexts: Sequence[tuple[str, str]],
    *,
    calling_ae: str = "CT1",
    called_ae: str = "PACS",
    maximum_bytes: int = 16_384,
) -> bytes:
    """Return an A-ASSOCIATE-RQ for (SOP class, transfer syntax); their IDs are 1, 3, 5, ..."""
    proposed = A_ASSOCIATE()
    proposed.application_context_name = APPLICATION_CONTEXT
    proposed.calling_ae_title, proposed.called_ae_title = calling_ae, called_ae
    built = [build_context(sop_class, syntax) for sop_class, syntax in contexts]
    for number, context in enumerate(built):
        context.context_id = 2 * number + 1
    proposed.presentation_context_definition_list = built
    proposed.user_information = _user_information(maximum_bytes)
    encoded = A_ASSOCIATE_RQ()
    encoded.from_primitive(proposed)
    whole: bytes = encoded.encode()
    return whole


def message(connection: socket.socket) -> Message:
    """Read one message with a data set."""
    parts = {True: bytearray(), False: bytearray()}
    fragments: list[tuple[int, int, int]] = []
    while not fragments or fragments[-1][1] != LAST:
        one = pdu(connection)
        assert one[0] == P_DATA_TF, one[:10]
        position = 6
        while position < len(one):
            length, _, control = struct.unpack_from(">LBB", one, position)
            fragment = one[position + 6 : position + 4 + length]
            parts[bool(control & COMMAND)] += fragment
            fragments.append((len(one) - 6, control, len(fragment)))
            position += 4 + length
    command = bytes(parts[True])
    return Message(message_id_of(command), command, bytes(parts[False]), tuple(fragments))


def message_id_of(command: bytes) -> int:
    """Return the Message ID, (0000,0110), of an encoded command set."""
    at = command.index(struct.pack("<HHL", 0x0000, 0x0110, 2)) + 8
    return int.from_bytes(command[at : at + 2], "little")


def elements_of(answer: bytes) -> dict[int, bytes]:
    """Return element number -> value of a command set that came in one PDU; none of another PDU."""
    found: dict[int, bytes] = {}
    at = 12  # headers of the PDU and of its only PDV
    if answer[:1] != bytes([P_DATA_TF]) or answer[11:at] != bytes([COMMAND | LAST]):
        return found
    while at + 8 <= len(answer):
        _, number, length = struct.unpack_from("<HHL", answer, at)
        found[number] = answer[at + 8 : at + 8 + length]
        at += 8 + length
    return found


def number_in(answer: bytes, element: int) -> int | None:
    """Return a number of the command set that a PDU brings; None if it brings none."""
    value = elements_of(answer).get(element)
    return None if value is None else int.from_bytes(value, "little")


def response(
    message_id: int, status: int = 0x0000, *, command: int = C_STORE_RSP, data_set: bytes = b""
) -> bytes:
    """Return the PDU of a response."""
    values = {
        0x0100: command,
        0x0120: message_id,
        0x0800: 1 if data_set else 0x0101,
        0x0900: status,
    }
    elements = b"".join(struct.pack("<HHLH", 0, tag, 2, values[tag]) for tag in sorted(values))
    whole = struct.pack("<HHLL", 0x0000, 0x0000, 4, len(elements)) + elements
    pdvs = pdv(whole, COMMAND | LAST) + (pdv(data_set, LAST) if data_set else b"")
    return header(P_DATA_TF, len(pdvs)) + pdvs


def pdv(fragment: bytes, control: int) -> bytes:
    """Return a PDV of the first presentation context."""
    return struct.pack(">LBB", len(fragment) + 2, 1, control) + fragment


def header(pdu_type: int, length: int = 4) -> bytes:
    """Return the header of a PDU."""
    return struct.pack(">BxL", pdu_type, length)


def pdu(connection: socket.socket) -> bytes:
    """Read one PDU; empty if the peer has closed."""
    first = _exactly(connection, 6)
    return first + _exactly(connection, int.from_bytes(first[2:6], "big")) if first else b""


def _user_information(maximum_bytes: int) -> list[Any]:
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = maximum_bytes
    implementation.implementation_class_uid = PYNETDICOM_IMPLEMENTATION_UID
    return [length, implementation]


def _exactly(connection: socket.socket, count: int) -> bytes:
    content = bytearray()
    while len(content) < count:
        more = connection.recv(count - len(content))
        if not more:
            return b""
        content += more
    return bytes(content)
