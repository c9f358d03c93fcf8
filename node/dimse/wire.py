"""A C-STORE as bytes: its request, the PDUs that carry it, and the response.

    PDU  04 00 <length: 4>                                     PS3.8 section 9.3.5
      PDV  <length: 4> <context ID> <control> <fragment>       PS3.8 sections 9.3.5.1 and E.2

One PDV a PDU: some peers take no more.
"""

from __future__ import annotations

import struct
from io import SEEK_END, BytesIO
from typing import TYPE_CHECKING, NamedTuple

from node.dimse.messages import (
    AFFECTED_SOP_CLASS,
    AFFECTED_SOP_INSTANCE,
    ANSWERED_MESSAGE_ID,
    C_STORE_RQ,
    COMMAND_FIELD,
    DATA_SET_TYPE,
    MESSAGE_ID,
    NO_DATA_SET,
    STATUS,
    command_elements,
    command_set,
    number,
    padded,
)
from node.dimse.pdata import COMMAND, LAST, P_DATA_TF, PDU_HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO

LARGEST_PDU_BYTES = 1 << 18
"""Where the peer sets no limit, or a higher one."""

SMALLEST_PDU_BYTES = 8
"""The header of a PDV, and a fragment of two bytes: it must have an even length."""

PRIORITY, MEDIUM = 0x0700, 0x0000
"""Element of group 0000, and its value (PS3.7 table 9.3-1)."""
DATA_SET = 0x0001
"""Command Data Set Type: a data set follows; any value but ``NO_DATA_SET`` says so."""

_P_DATA = struct.Struct(">BxLLBB")
_SHORT = struct.Struct("<H")
_PDV_HEADER_BYTES = _P_DATA.size - PDU_HEADER_BYTES


class Response(NamedTuple):
    """What a response says.

    Attributes:
        command: Its Command Field: which response it is.
        message_id: Of the request that it answers.
        status: DIMSE status.
        has_data_set: Whether a data set follows.
    """

    command: int
    message_id: int
    status: int
    has_data_set: bool


def store_request(message_id: int, sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """Return the command set of a C-STORE-RQ (PS3.7 table 9.3-1), in implicit VR.

    Args:
        message_id: 0 to 65535.
        sop_class_uid: Of the instance; ASCII.
        sop_instance_uid: Of the instance; ASCII.
    """
    return command_set(
        (AFFECTED_SOP_CLASS, padded(sop_class_uid)),
        (COMMAND_FIELD, _SHORT.pack(C_STORE_RQ)),
        (MESSAGE_ID, _SHORT.pack(message_id)),
        (PRIORITY, _SHORT.pack(MEDIUM)),
        (DATA_SET_TYPE, _SHORT.pack(DATA_SET)),
        (AFFECTED_SOP_INSTANCE, padded(sop_instance_uid)),
    )


def pdus(
    buffer: memoryview,
    command: bytes,
    data_set: FileIO | BytesIO,
    *,
    context_id: int,
    maximum_bytes: int,
) -> Iterator[memoryview]:
    """Yield a message as P-DATA-TF PDUs, as many whole ones at a time as the buffer holds.

    Args:
        buffer: At least ``LARGEST_PDU_BYTES`` and the header of a PDU; used again for each.
        command: Encoded command set.
        data_set: Positioned where it begins; it ends with the file.
        context_id: Of an accepted presentation context.
        maximum_bytes: Of a PDU after its header, as the peer has it (PS3.8 section D.1.1); 0:
            any. At least ``SMALLEST_PDU_BYTES`` else.

    Raises:
        OSError: The data set cannot be read, or is shorter than it was.
    """
    allowed_bytes = min(maximum_bytes or LARGEST_PDU_BYTES, LARGEST_PDU_BYTES)
    largest = (allowed_bytes - _PDV_HEADER_BYTES) // 2 * 2
    end = 0
    for source, of_what in ((BytesIO(command), COMMAND), (data_set, 0)):
        left = _bytes_left(source)
        while True:
            fragment = min(left, largest)
            if end + _P_DATA.size + fragment > len(buffer):
                yield buffer[:end]
                end = 0
            left -= fragment
            control = of_what if left else of_what | LAST
            length = fragment + 2  # of a PDV without itself: context ID, control and fragment
            _P_DATA.pack_into(buffer, end, P_DATA_TF, length + 4, length, context_id, control)
            end += _P_DATA.size
            _read_exactly(source, buffer[end : end + fragment])
            end += fragment
            if not left:
                break
    yield buffer[:end]


def fragments(p_data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the PDVs of one P-DATA-TF PDU: (message control header, fragment).

    Args:
        p_data: After the header of the PDU.

    Raises:
        ValueError: Lengths do not add up.
    """
    while p_data:
        if len(p_data) < _PDV_HEADER_BYTES:
            raise ValueError("A PDU ends within the header of a PDV")
        length = int.from_bytes(p_data[:4], "big")
        if not 2 <= length <= len(p_data) - 4:
            raise ValueError("A PDV is longer than its PDU")
        yield p_data[5], p_data[_PDV_HEADER_BYTES : length + 4]
        p_data = p_data[length + 4 :]


def response_of(command: bytes) -> Response:
    """Return what a command set says, whatever elements it has besides.

    Raises:
        ValueError: It is none, or not one of a response.
    """
    elements = command_elements(command)
    return Response(
        number(elements, COMMAND_FIELD),
        number(elements, ANSWERED_MESSAGE_ID),
        number(elements, STATUS),
        number(elements, DATA_SET_TYPE) != NO_DATA_SET,
    )


def _bytes_left(source: FileIO | BytesIO) -> int:
    begin = source.tell()
    left = source.seek(0, SEEK_END) - begin
    if left < 0:
        raise OSError("The file is shorter than it was")
    source.seek(begin)
    return left


def _read_exactly(source: FileIO | BytesIO, where: memoryview) -> None:
    while where:
        count = source.readinto(where)
        if not count:
            raise OSError("The file is shorter than it was")
        where = where[count:]
