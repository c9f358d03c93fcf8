"""What the meta group of a Part 10 file says of the object in it (PS3.10 section 7.1).

It is read for each object before an association is opened, and pydicom takes as long for it as the
object takes on the wire.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from node.dimse.elements import SHORT_LENGTH

if TYPE_CHECKING:
    from pathlib import Path

PREAMBLE_BYTES = 128
META_GROUP = 0x0002
SOP_CLASS_UID, SOP_INSTANCE_UID, TRANSFER_SYNTAX_UID = 0x0002, 0x0003, 0x0010
LONG_LENGTH = frozenset(vr.value.encode() for vr in EXPLICIT_VR_LENGTH_32)
"""VRs with two reserved bytes and a length of four (PS3.5 table 7.1-1)."""
MAXIMUM_UID_BYTES = 64

_HEADER = struct.Struct("<HH2sH")
_LONG = struct.Struct("<L")


@dataclass(frozen=True)
class Meta:
    """What the meta group says.

    Attributes:
        sop_class_uid: Of the object.
        sop_instance_uid: Of the object.
        transfer_syntax_uid: Of its data set.
        offset: Where in the file its data set begins.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    offset: int


def read(path: Path) -> Meta:
    """Read the meta group of a file.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no Part 10 file, or is cut short.
        KeyError: It does not say what is asked for.
        struct.error: It is cut short.
    """
    uids: dict[int, str] = {}
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(PREAMBLE_BYTES + 4)[PREAMBLE_BYTES:] != b"DICM":
            raise ValueError("No Part 10 file")
        offset = PREAMBLE_BYTES + 4
        while len(header := file.read(_HEADER.size)) == _HEADER.size:
            group, element, vr, length = _HEADER.unpack(header)
            if group != META_GROUP:
                break
            if vr in LONG_LENGTH:
                (length,) = _LONG.unpack(file.read(_LONG.size))
            elif vr not in SHORT_LENGTH:
                raise ValueError("A value representation that there is not")
            offset = file.tell() + length
            if offset > size:
                raise ValueError("The file ends within its meta group")
            if element in (SOP_CLASS_UID, SOP_INSTANCE_UID, TRANSFER_SYNTAX_UID):
                uids[element] = _uid(file.read(min(length, MAXIMUM_UID_BYTES + 1)))
            file.seek(offset)
    return Meta(uids[SOP_CLASS_UID], uids[SOP_INSTANCE_UID], uids[TRANSFER_SYNTAX_UID], offset)


def _uid(value: bytes) -> str:
    uid = value.rstrip(b"\0 ").decode("ascii")
    if not 0 < len(value) <= MAXIMUM_UID_BYTES or not uid:
        raise ValueError("A UID is empty, or longer than a UID")
    return uid
