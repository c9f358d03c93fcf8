"""What a modality sends: valid objects, made into P-DATA-TF bytes before the clock starts.

Between two instances of one association only the Message ID and the SOP Instance UID differ, both
in command and data set at the same length, so each is a new one for the receiver and costs the
sender two copies of a few bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from io import BytesIO

import numpy as np
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    CTImageStorage,
    MRImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
)
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE

from tests.peers import by_hand

LONGEST_PDU_BYTES = 1 << 20
"""Where the receiver sets no limit (PS3.8 D.1: it says 0)."""

_ROOT = "1.2.826.0.1.3680043.8.498."


@dataclass(frozen=True)
class Kind:
    """One kind of object.

    Attributes:
        source: Of its header, among pydicom's own files.
        sop_class_uid: Of the object.
        frames: 1 for a single-frame object.
        side: Rows and columns.
    """

    source: str
    sop_class_uid: str
    frames: int
    side: int


KINDS = {
    "CT": Kind("CT_small.dcm", CTImageStorage, 1, 512),
    "MR": Kind("MR_small.dcm", MRImageStorage, 1, 256),
    "multi-frame": Kind(
        "CT_small.dcm", MultiFrameGrayscaleWordSecondaryCaptureImageStorage, 192, 512
    ),
}


def uid(run: int, association: int, number: int) -> str:
    """Return a UID that no other instance has; all are of one length.

    Args:
        run: Below 900,000; another for each load.
        association: Below 9e5.
        number: Of the instance in its association, below 9e9; 0 is the study, 1 the series.
    """
    # Each component has its full length without a leading zero (PS3.5 9.1).
    return f"{_ROOT}{run + 10**5}.{association + 10**5}.{number + 10**9}"


@cache
def encoded(kind: str) -> bytes:
    """Return the data set of one instance in Explicit VR Little Endian; its UIDs are of run 0."""
    it = KINDS[kind]
    dataset = dcmread(str(get_testdata_file(it.source)))
    if "DataSetTrailingPadding" in dataset:
        del dataset.DataSetTrailingPadding
    dataset.SOPClassUID = it.sop_class_uid
    dataset.StudyInstanceUID = uid(0, 0, 0)
    dataset.SeriesInstanceUID = uid(0, 0, 1)
    dataset.SOPInstanceUID = uid(0, 0, 2)
    dataset.Rows = dataset.Columns = it.side
    dataset.SamplesPerPixel = 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    if it.frames > 1:
        dataset.NumberOfFrames = it.frames
        dataset.ConversionType = "SYN"
    pixels = np.random.default_rng(0).integers(0, 4096, (it.frames, it.side, it.side), np.uint16)
    dataset.PixelData = pixels.tobytes()
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    write_dataset(out, dataset)
    return out.getvalue()


class Instances:
    """The instances of one association, one after another, as bytes to send.

    ``head`` holds all that changes; ``tail`` is shared by all associations.
    """

    def __init__(self, kind: str, pdu_bytes: int, run: int, association: int) -> None:
        head, self.tail, self._message_id_at, at = _stream(kind, pdu_bytes)
        self.head = bytearray(head)
        self._run, self._association = run, association
        self._uids_at = at[2]
        self.sent = 0
        for number in (0, 1):
            for where in at[number]:
                self._write(where, uid(run, association, number))

    @property
    def size_bytes(self) -> int:
        """Of one instance on the wire."""
        return len(self.head) + len(self.tail)

    def next(self) -> int:
        """Make ``head`` that of the next instance, and return its Message ID."""
        self.sent += 1
        message_id = self.sent & 0xFFFF
        struct.pack_into("<H", self.head, self._message_id_at, message_id)
        for where in self._uids_at:
            self._write(where, uid(self._run, self._association, self.sent + 1))
        return message_id

    def _write(self, where: int, value: str) -> None:
        self.head[where : where + len(value)] = value.encode()


@cache
def _stream(kind: str, pdu_bytes: int) -> tuple[bytes, bytes, int, tuple[tuple[int, ...], ...]]:
    """Return head, tail, the place of the Message ID, and the places of each UID in head."""
    data_set = encoded(kind)
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = KINDS[kind].sop_class_uid
    request.AffectedSOPInstanceUID = uid(0, 0, 2)
    request.Priority = 2
    request.DataSet = BytesIO(b"\0\0")  # it only says in the command that one follows
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, True
    write_dataset(out, message.command_set)
    command = out.getvalue()
    limit = (pdu_bytes or LONGEST_PDU_BYTES) - 6
    pieces = [data_set[at : at + limit] for at in range(0, len(data_set), limit)]
    last = len(pieces) - 1
    controls = [by_hand.LAST if i == last else 0 for i in range(len(pieces))]
    head = _pdu(command, by_hand.COMMAND | by_hand.LAST) + _pdu(pieces[0], controls[0])
    tail = b"".join(map(_pdu, pieces[1:], controls[1:]))
    places = tuple(_places(head, uid(0, 0, number).encode()) for number in (0, 1, 2))
    message_id_at = head.index(struct.pack("<HHI", 0x0000, 0x0110, 2)) + 8
    if len(places[0]) != 1 or len(places[1]) != 1 or len(places[2]) != 2:
        raise ValueError("The UIDs of a made instance are not where they should be.")
    return head, tail, message_id_at, places


def _pdu(fragment: bytes, control: int) -> bytes:
    """Return a P-DATA-TF PDU with one PDV (PS3.8 9.3.5, E.2)."""
    pdv = by_hand.pdv(fragment, control)
    return by_hand.header(by_hand.P_DATA_TF, len(pdv)) + pdv


def _places(within: bytes, what: bytes) -> tuple[int, ...]:
    found, at = [], within.find(what)
    while at >= 0:
        found.append(at)
        at = within.find(what, at + 1)
    return tuple(found)


def header_elements(kind: str) -> int:
    """Return how many data elements an instance has."""
    return len(dcmread(BytesIO(encoded(kind)), force=True))
