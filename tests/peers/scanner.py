"""A scripted scanner: real associations, and full control over every byte of a C-STORE.

    with scanner.associate(port, [(CT, EXPLICIT)]) as ct1:
        ct1.store(dataset)                                  # Answer(status=0x0000, comment="")
        ct1.store_bytes(encoded, sop_class_uid=..., sop_instance_uid="../../evil")
        ct1.store_bytes(encoded, ..., cut_at=1000)          # stops in the middle of the data set
        ct1.reset()                                         # TCP RST

What is sent goes to the socket as PDUs made here, so nothing is checked, corrected or buffered.
"""

from __future__ import annotations

import socket
import struct
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification

from tests.peers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pynetdicom.association import Association

PDV_BYTES = 65_536
_COMMAND, _LAST = 1, 2


class Rejected(Exception):
    """A-ASSOCIATE-RJ; result, source and reason are None if there was no answer."""

    def __init__(self, result: int | None, source: int | None, reason: int | None) -> None:
        super().__init__(f"result {result}, source {source}, reason {reason}")
        self.why = (result, source, reason)


@dataclass(frozen=True)
class Answer:
    """To one C-STORE. ``status`` is None if the association ended instead."""

    status: int | None
    comment: str = ""


def encode(dataset: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> bytes:
    """Return the data set without preamble and file meta."""
    syntax = UID(transfer_syntax)
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = syntax.is_implicit_VR
    buffer.is_little_endian = syntax.is_little_endian
    write_dataset(buffer, dataset)
    return buffer.getvalue()


class Scanner:
    """One open association."""

    def __init__(self, association: Association, *, timeout_s: float) -> None:
        self.association = association
        self.timeout_s = timeout_s
        self._message_id = 0
        # Or the data set waits for the acknowledgement of its command, 40 ms.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The thread of pynetdicom shall not take answers off the queue.
        association._reactor_checkpoint.clear()
        wait_until(lambda: association._is_paused or not association.is_alive())

    @property
    def accepted(self) -> dict[tuple[str, str], int]:
        """(SOP class, transfer syntax) -> presentation context ID."""
        return {
            (str(context.abstract_syntax), str(context.transfer_syntax[0])): context.context_id
            for context in self.association.accepted_contexts
            if context.context_id is not None
        }

    def store(self, dataset: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> Answer:
        """Send a data set of this association's class."""
        return self.store_bytes(
            encode(dataset, transfer_syntax),
            sop_class_uid=str(dataset.SOPClassUID),
            sop_instance_uid=str(dataset.SOPInstanceUID),
            transfer_syntax=transfer_syntax,
        )

    def store_bytes(
        self,
        encoded: bytes | Iterable[bytes],
        *,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax: str = ExplicitVRLittleEndian,
        context_class: str | None = None,
        cut_at: int | None = None,
    ) -> Answer:
        """Send these bytes as they are, under whatever UIDs.

        Args:
            encoded: The data set, whole or in pieces.
            sop_class_uid: Of the command.
            sop_instance_uid: Of the command.
            transfer_syntax: Chooses the presentation context.
            context_class: Abstract syntax of that context, if not ``sop_class_uid``.
            cut_at: Send so many bytes of the data set, then nothing; returns at once.
        """
        context_id = self.accepted[context_class or sop_class_uid, transfer_syntax]
        self._message_id += 1
        command = store_command(sop_class_uid, sop_instance_uid, self._message_id)
        self.send_pdv(context_id, _COMMAND | _LAST, command)
        pieces = [encoded] if isinstance(encoded, bytes) else encoded
        sent = 0
        held: bytes | None = None
        for piece in pieces:
            for start in range(0, len(piece), PDV_BYTES):
                fragment = piece[start : start + PDV_BYTES]
                if cut_at is not None and sent + len(fragment) >= cut_at:
                    if held is not None:
                        self.send_pdv(context_id, 0, held)
                    self.send_pdv(context_id, 0, fragment[: cut_at - sent])
                    return Answer(None)
                if held is not None:
                    self.send_pdv(context_id, 0, held)
                held = fragment
                sent += len(fragment)
        self.send_pdv(context_id, _LAST, held or b"")
        return self.answer()

    def answer(self) -> Answer:
        """Return the next response; none if the association has ended."""
        end = time.monotonic() + self.timeout_s
        while time.monotonic() < end:
            _, message = self.association.dimse.get_msg(block=False)
            if message is not None:
                comment: Any = getattr(message, "ErrorComment", None)
                return Answer(message.Status, str(comment or ""))
            if not self.association.dul.is_alive():
                return Answer(None)
            time.sleep(0.002)
        raise TimeoutError(f"No answer within {self.timeout_s:g} s")

    def echo(self) -> int | None:
        """C-ECHO; the association must have been opened with its context."""
        context_id = self.accepted[str(Verification), ExplicitVRLittleEndian]
        command = command_set({0x0002: Verification, 0x0100: 0x0030, 0x0110: 1, 0x0800: 0x0101})
        self.send_pdv(context_id, _COMMAND | _LAST, command)
        return self.answer().status

    def send_pdv(self, context_id: int, control: int, fragment: bytes) -> None:
        """Send one P-DATA-TF with one fragment (PS3.8 section 9.3.5)."""
        length = len(fragment) + 2
        head = struct.pack(">BBLLBB", 4, 0, length + 4, length, context_id, control)
        self.send(head + fragment)

    def send(self, content: bytes) -> None:
        """Send bytes, whatever they are.

        Raises:
            ConnectionError: The association has ended.
        """
        try:
            self._socket.sendall(content)
        except OSError as error:
            raise ConnectionError("The association has ended") from error

    def reset(self) -> None:
        """Cut the line: the peer gets a TCP reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        descriptor = self._socket.detach()
        socket.close(descriptor)
        self.association.kill()

    def abort(self) -> None:
        """A-ABORT."""
        self.association.abort()

    def release(self) -> None:
        """Release the association, if it still is one."""
        if self.association.is_established and self.association.dul.is_alive():
            self.association.release()
        self.association._reactor_checkpoint.set()

    @property
    def _socket(self) -> socket.socket:
        transport = self.association.dul.socket
        if transport is None or transport.socket is None:
            raise ConnectionError("The association has ended")
        return transport.socket


@contextmanager
def associate(
    port: int,
    contexts: Sequence[tuple[str, str]] = ((CTImageStorage, ExplicitVRLittleEndian),),
    *,
    calling_ae: str = "CT1",
    called_ae: str = "RADNODE",
    timeout_s: float = 60.0,
) -> Iterator[Scanner]:
    """Open an association, one presentation context for each (SOP class, transfer syntax).

    Raises:
        Rejected: By the peer.
    """
    entity = AE(calling_ae)
    entity.acse_timeout = entity.network_timeout = entity.dimse_timeout = timeout_s
    association = entity.associate(
        "127.0.0.1",
        port,
        contexts=[build_context(sop_class, syntax) for sop_class, syntax in contexts],
        ae_title=called_ae,
    )
    if not association.is_established:
        answer = association.acceptor.primitive
        if association.is_rejected and answer is not None:
            raise Rejected(answer.result, answer.result_source, answer.diagnostic)
        raise Rejected(None, None, None)
    scanner = Scanner(association, timeout_s=timeout_s)
    try:
        yield scanner
    finally:
        scanner.release()


def send(
    port: int,
    datasets: Iterable[Dataset],
    *,
    calling_ae: str = "CT1",
    called_ae: str = "RADNODE",
    transfer_syntax: str = ExplicitVRLittleEndian,
) -> list[Answer]:
    """Send data sets on one association, in this order."""
    queue = list(datasets)
    contexts = sorted({(str(one.SOPClassUID), str(transfer_syntax)) for one in queue})
    with associate(port, contexts, calling_ae=calling_ae, called_ae=called_ae) as scanner:
        return [scanner.store(one, transfer_syntax) for one in queue]


def send_bytes(
    port: int,
    encoded: bytes,
    *,
    sop_class_uid: str = str(CTImageStorage),
    sop_instance_uid: str = "1.2.3.4.1",
    context_class: str = str(CTImageStorage),
    transfer_syntax: str = ExplicitVRLittleEndian,
) -> Answer:
    """Send bytes on an association of their own, as ``ct_slice()`` if not told otherwise."""
    with associate(port, [(context_class, transfer_syntax)]) as scanner:
        return scanner.store_bytes(
            encoded,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            context_class=context_class,
            transfer_syntax=transfer_syntax,
        )


def store_command(sop_class_uid: str, sop_instance_uid: str, message_id: int = 1) -> bytes:
    """Return an encoded C-STORE-RQ (PS3.7 section 9.3.1.1), with any text for UIDs."""
    return command_set(
        {
            0x0002: sop_class_uid,
            0x0100: 0x0001,
            0x0110: message_id,
            0x0700: 0,
            0x0800: 0x0001,
            0x1000: sop_instance_uid,
        }
    )


def command_set(elements: dict[int, str | int]) -> bytes:
    """Return command elements in implicit VR little endian, with their group length."""
    body = b""
    for element, value in elements.items():
        encoded = struct.pack("<H", value) if isinstance(value, int) else value.encode()
        encoded += b"\0" * (len(encoded) % 2)
        body += struct.pack("<HHL", 0, element, len(encoded)) + encoded
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def ct_slice(number: int = 1, *, study: str = "1.2.3", series: str = "1.2.3.4") -> Dataset:
    """Return a small CT instance; the same arguments give the same bytes."""
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = f"{series}.{number}"
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = series
    dataset.Modality = "CT"
    dataset.PatientName = "Test^Phantom"
    dataset.PatientID = "T1"
    dataset.InstanceNumber = str(number)
    dataset.ImagePositionPatient = [0, 0, number]
    dataset.Rows = dataset.Columns = 16
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.SamplesPerPixel = 1
    dataset.PixelRepresentation = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.add_new("PixelData", "OW", struct.pack("<256h", *range(number, number + 256)))
    return dataset
