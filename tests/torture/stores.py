"""C-STOREs made byte by byte, and what of them a listener may call a success.

An answer of 0x0000 is right only if what was sent is one whole request with its data set, by the
letter of PS3.8; if the same bytes are in the spool and the ledger; and if pydicom, which shares no
code with the gate, finds in them the identifiers that the ledger has.
"""

from __future__ import annotations

import hashlib
import struct
import warnings
import zlib
from collections import Counter
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian

from node.malformed import MALFORMED
from tests.node.receiving import instances
from tests.peers import by_hand, scanner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.torture.listeners import Listeners

_KEYWORDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_COLUMNS = ("sop_class_uid", "sop_instance_uid", "study_uid", "series_uid")


@dataclass(frozen=True)
class Request:
    """One C-STORE as it was sent."""

    message_id: int
    sop_instance_uid: str
    data_set: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the data set."""
        return hashlib.sha256(self.data_set).hexdigest()


@dataclass
class Answers:
    """What was answered to many requests.

    Attributes:
        statuses: How often each; None: the association ended instead.
        successes: What got 0x0000, by digest, with its transfer syntax.
        wrong: Why an answer of 0x0000 was wrong, one an answer.
    """

    statuses: Counter[int | None] = field(default_factory=Counter)
    successes: dict[str, tuple[Request, str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def add(self, status: int | None, sent: Request | None, transfer_syntax: str) -> None:
        """Note an answer, and to what; None: to nothing that was one request by the letter."""
        self.statuses[status] += 1
        if status != 0x0000:
            return
        if sent is None:
            self.wrong.append("0x0000 for what was no request")
            return
        self.successes[sent.digest] = (sent, transfer_syntax)

    def judge(self, listeners: Listeners) -> list[str]:
        """Return why answers of 0x0000 were wrong, now that all is written."""
        lost = set(listeners.lost(self.successes))
        rows = {row["digest"]: row for row in instances(listeners.ledger)}
        found = [*self.wrong, *(f"0x0000, but {digest} is not kept" for digest in lost)]
        for digest in self.successes.keys() - lost:
            sent, transfer_syntax = self.successes[digest]
            read = identifiers(sent.data_set, transfer_syntax)
            row = tuple(rows[digest][name] for name in _COLUMNS)
            if read != row or read[1] != sent.sop_instance_uid:
                found.append(f"0x0000, and the ledger has {row}, but pydicom reads {read}")
        return found


def identifiers(data_set: bytes, transfer_syntax: str) -> tuple[str, ...]:
    """Return the UIDs of class, instance, study and series as pydicom reads them; '' for none."""
    syntax = UID(transfer_syntax)
    if syntax.is_deflated:
        data_set = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data_set)
        syntax = ExplicitVRLittleEndian
    # UIDs are ASCII in every character set, and on some damaged ones pydicom gives up.
    order = "<HH" if syntax.is_little_endian else ">HH"
    charset, unknown = (struct.pack(order, 0x0008, number) for number in (0x0005, 0x0004))
    data_set = data_set.replace(charset, unknown, 1)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    head = DicomBytesIO()
    write_file_meta_info(head, meta, enforce_standard=False)
    whole = BytesIO(bytes(128) + b"DICM" + head.getvalue() + data_set)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read: Dataset = dcmread(whole, specific_tags=[*_KEYWORDS])
        except MALFORMED:
            read = Dataset()
        return tuple(_value(read, keyword) for keyword in _KEYWORDS)


def _value(read: Dataset, keyword: str) -> str:
    try:
        return str(read.get(keyword, ""))
    except MALFORMED:
        return ""


def request_pdus(
    sent: Request, sop_class_uid: str, *, piece_bytes: int = 16_000, context_id: int = 1
) -> list[bytes]:
    """Return the P-DATA-TF PDUs of a C-STORE-RQ: one of the command, then those of the data set."""
    command = scanner.store_command(sop_class_uid, sent.sop_instance_uid, sent.message_id)
    starts = range(0, max(1, len(sent.data_set)), piece_bytes)
    pieces = [sent.data_set[start : start + piece_bytes] for start in starts]
    fragments = [(command, by_hand.COMMAND | by_hand.LAST), *((piece, 0) for piece in pieces)]
    fragments[-1] = (pieces[-1], by_hand.LAST)
    return [_pdu(fragment, control, context_id) for fragment, control in fragments]


def _pdu(fragment: bytes, control: int, context_id: int) -> bytes:
    pdv = struct.pack(">LBB", len(fragment) + 2, context_id, control) + fragment
    return by_hand.header(by_hand.P_DATA_TF, len(pdv)) + pdv


def requests_in(stream: bytes, *, contexts: Sequence[int] = (1,)) -> list[Request]:
    """Return the requests that a stream of PDUs holds by the letter, up to its first mistake.

    A request is whole with its last fragment, also where the PDU around it says that more follows.
    """
    found: list[Request] = []
    command, data_set = bytearray(), bytearray()
    at = 0
    while at + 6 <= len(stream):
        pdu_type, length = struct.unpack_from(">BxL", stream, at)
        end = at + 6 + length
        if pdu_type != by_hand.P_DATA_TF:
            break
        at += 6
        while at < end:
            if at + 6 > min(end, len(stream)):
                return found
            size_bytes, context_id, control = struct.unpack_from(">LBB", stream, at)
            fragment = stream[at + 6 : at + 4 + size_bytes]
            at += 4 + size_bytes
            if size_bytes < 2 or at > min(end, len(stream)) or context_id not in contexts:
                return found
            (command if control & by_hand.COMMAND else data_set).extend(fragment)
            if control & 0x03 == by_hand.LAST:
                found.append(_request(bytes(command), bytes(data_set)))
                command, data_set = bytearray(), bytearray()
    return found


def _request(command: bytes, data_set: bytes) -> Request:
    elements = by_hand.elements_of(_pdu(command, by_hand.COMMAND | by_hand.LAST, 1))
    uid = elements.get(0x1000, b"").decode("ascii", "replace").rstrip("\0 ")
    return Request(int.from_bytes(elements.get(0x0110, b""), "little"), uid, data_set)
