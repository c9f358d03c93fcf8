"""C-FIND and C-GET: what an archive has of a patient, and its instances as files.

By C-GET and not by C-MOVE, because what comes is nobody's new study: it arrives on the
association that asked for it, in the folder of the job that asked, and the listener and the
ledger never see it.
"""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from pydicom import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_role, evt
from pynetdicom.dimse_primitives import C_FIND, C_GET, C_STORE
from pynetdicom.dsutils import decode, encode
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from node.dimse.association import associate, converse
from node.dimse.receive import RefusedPart, part10_header
from node.dimse.streaming import DataSetFile, StreamingProvider
from node.errors import AssociationBroken, ClassRefused, PeerRefused, RejectedInstance, disk_failed
from node.malformed import MALFORMED
from node.spool import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pynetdicom.association import Association
    from pynetdicom.pdu_primitives import P_DATA
    from pynetdicom.presentation import PresentationContext

    from node.settings import DimseDestination, Settings

MEDIUM = 0x0000
SUCCESS = 0x0000
PENDING = (0xFF00, 0xFF01)
"""Matches or sub-operations are continuing (PS3.4 tables C.4-1 and C.4-3)."""
SOME_FAILED = (0xA701, 0xA702, 0xB000, *range(0xC000, 0xD000))
"""Of the sub-operations, or all of them (PS3.4 table C.4-3): for want of a presentation context,
for example. What came is whole."""
OUT_OF_RESOURCES = 0xA700

MAXIMUM_ANSWERS = 5000
"""To one C-FIND. A patient with more studies is none."""
MAXIMUM_ANSWER_BYTES = 65_536
"""Of one answer to a C-FIND: it has a dozen short elements."""
MAXIMUM_SPOKEN_BYTES = 50_000_000
"""Of everything on one association that is no instance: commands and answers."""
PATIENCE_S = 10.0
"""An archive that keeps silent for longer is away: a job waits for it."""


@dataclass(frozen=True)
class Limits:
    """What may come on one association.

    Attributes:
        instances: How many.
        size_bytes: Of all of them.
        seconds: From its first request on.
    """

    instances: int = 5000
    size_bytes: int = 8_000_000_000
    seconds: float = 600.0


class Archive:
    """An open association with an archive. One request at a time."""

    def __init__(
        self,
        association: Association,
        *,
        timeout_s: float,
        folder: Path,
        limits: Limits,
        tick: Callable[[], None],
    ) -> None:
        self._association = association
        self._timeout_s = timeout_s
        self._folder = folder
        self._limits = limits
        self._tick = tick
        self._until = time.monotonic() + limits.seconds
        self._parts: list[Part] = []
        self._message_id = 0
        self._provider = _CountingProvider(association, self._begin)
        association.dimse = self._provider

    def find(self, query: Dataset) -> list[Dataset]:
        """Return the answers to a query, in the archive's order.

        Args:
            query: With Query/Retrieve Level, keys to match and keys to return.

        Raises:
            AssociationBroken: It ended, stalled, or brought nonsense.
            PeerRefused: The archive does not answer such queries.
        """
        request, context = self._request(
            C_FIND(), StudyRootQueryRetrieveInformationModelFind, query
        )
        answers: list[Dataset] = []
        for _, response in self._messages(request, context):
            if not isinstance(response, C_FIND) or len(answers) > MAXIMUM_ANSWERS:
                raise self._nonsense()
            if response.Status not in PENDING:
                self._require_success(response.Status)
                return answers
            answers.append(self._identifier(response, query, context))
        raise self._nonsense()

    def get(self, wanted: Dataset) -> tuple[list[Path], bool]:
        """Return files of the instances that the archive sends, and whether they are all.

        Args:
            wanted: With Query/Retrieve Level and unique keys.

        Raises:
            AssociationBroken: It ended, stalled, brought nonsense, or more than the limits allow.
            PeerRefused: The archive does not let this node retrieve.
            DiskFailed: The folder cannot be written.
        """
        request, context = self._request(C_GET(), StudyRootQueryRetrieveInformationModelGet, wanted)
        files: list[Path] = []
        for context_id, message in self._messages(request, context):
            if isinstance(message, C_STORE):
                files += self._keep(message, context_id)
            elif not isinstance(message, C_GET):
                raise self._nonsense()
            elif message.Status not in PENDING:
                if message.Status not in SOME_FAILED:
                    self._require_success(message.Status)
                return files, message.Status == SUCCESS
        raise self._nonsense()

    def _request(
        self, request: C_FIND | C_GET, sop_class: UID, identifier: Dataset
    ) -> tuple[C_FIND | C_GET, PresentationContext]:
        accepted = self._association.accepted_contexts
        context = next((one for one in accepted if one.abstract_syntax == sop_class), None)
        if context is None:
            raise ClassRefused(
                f"'{self._peer}' does not offer {sop_class.name}.",
                do="Ask its administrator to let this AE title query and retrieve (C-GET).",
            )
        self._message_id += 1
        request.MessageID = self._message_id
        request.AffectedSOPClassUID = sop_class
        request.Priority = MEDIUM
        encoded = encode(identifier, _is_implicit(context), is_little_endian=True)
        request.Identifier = BytesIO(encoded or b"")
        return request, context

    def _messages(
        self, request: C_FIND | C_GET, context: PresentationContext
    ) -> Iterator[tuple[int, Any]]:
        return converse(
            self._association,
            request,
            context.context_id or 1,
            timeout_s=self._timeout_s,
            received=self._received_bytes,
            tick=self.check,
        )

    def check(self) -> None:
        """Tell the caller that this goes on, and end it where it goes on for too long.

        Raises:
            AssociationBroken: More came than the limits allow, or for longer.
            DiskFailed: The folder cannot be written.
        """
        self._tick()
        for part in tuple(self._parts):
            if part.failure is not None:
                raise disk_failed(part.failure)
        received = self._received_bytes()
        if received > self._limits.size_bytes:
            raise self._too_much(f"more than {self._limits.size_bytes} bytes")
        if self._provider.heard_bytes - received > MAXIMUM_SPOKEN_BYTES:
            raise self._too_much(f"more than {MAXIMUM_SPOKEN_BYTES} bytes of answers")
        if time.monotonic() > self._until:
            raise self._too_much(f"for longer than {self._limits.seconds:g} s")

    def _begin(
        self, _association: Association, command: Dataset, context: PresentationContext
    ) -> Part | RefusedPart:
        """Open a file for an instance about to come. Its name is a number, whatever its UID."""
        if len(self._parts) >= self._limits.instances:
            return RefusedPart(
                RejectedInstance("Too many.", do="Ask for fewer.", status=OUT_OF_RESOURCES)
            )
        header = part10_header(
            str(command.AffectedSOPClassUID),
            str(command.AffectedSOPInstanceUID),
            str(context.transfer_syntax[0]),
            self._peer,
        )
        part = Part(self._folder / f"{len(self._parts) + 1}.dcm", header)
        self._parts.append(part)
        return part

    def _keep(self, request: C_STORE, context_id: int) -> list[Path]:
        """Answer one C-STORE sub-operation; its file, unless it was one too many."""
        file: Any = request._dataset_file  # noqa: SLF001
        if not isinstance(file, DataSetFile):
            raise self._nonsense()
        part = file.part
        response = C_STORE()
        response.MessageIDBeingRespondedTo = request.MessageID
        response.AffectedSOPClassUID = request.AffectedSOPClassUID
        response.AffectedSOPInstanceUID = request.AffectedSOPInstanceUID
        response.Status = OUT_OF_RESOURCES if isinstance(part, RefusedPart) else SUCCESS
        self._association.dimse.send_msg(response, context_id)
        if isinstance(part, RefusedPart):
            return []
        if part.failure is not None:
            raise disk_failed(part.failure)
        file.keep()
        return [part.path]

    def _identifier(
        self, response: C_FIND, query: Dataset, context: PresentationContext
    ) -> Dataset:
        """Return an answer, as far as it was asked for."""
        encoded = response.Identifier or BytesIO()
        if encoded.getbuffer().nbytes > MAXIMUM_ANSWER_BYTES:
            raise self._nonsense()
        try:
            answer = decode(encoded, _is_implicit(context), is_little_endian=True)
            answer.decode()
            return Dataset({tag: answer[tag] for tag in query.keys() if tag in answer})  # noqa: SIM118
        except MALFORMED as error:
            raise self._nonsense() from error

    def _received_bytes(self) -> int:
        return sum(part.size_bytes for part in tuple(self._parts))

    @property
    def _peer(self) -> str:
        return str(self._association.acceptor.ae_title)

    def _require_success(self, status: int | None) -> None:
        if status is None:
            raise self._nonsense()
        if status != SUCCESS:
            raise PeerRefused(
                f"'{self._peer}' answered the query with status 0x{status:04X}.",
                do="Ask its administrator whether this AE title may query and retrieve.",
                status=status,
            )

    def _nonsense(self) -> AssociationBroken:
        return AssociationBroken(
            f"'{self._peer}' sent something that is no answer to a query.",
            do="Report it to the maker of the archive.",
        )

    def _too_much(self, what: str) -> AssociationBroken:
        return AssociationBroken(
            f"'{self._peer}' sent {what}.", do="Nothing: the query was given up."
        )


class _CountingProvider(StreamingProvider):
    """Counts what comes where it comes: nobody may have listened yet.

    Attributes:
        heard_bytes: Of all commands and data sets so far.
    """

    heard_bytes = 0

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the fragments of one P-DATA."""
        self.heard_bytes += sum(len(one) for _, one in primitive.presentation_data_value_list)
        super().receive_primitive(primitive)


@contextmanager
def archive(  # noqa: PLR0913 - who is asked for what, and what may come of it
    settings: Settings,
    destination: DimseDestination,
    storage: Sequence[tuple[str, str]],
    folder: Path,
    *,
    limits: Limits,
    tick: Callable[[], None],
) -> Iterator[Archive]:
    """Open an association to query and retrieve on.

    Args:
        settings: Of this node.
        destination: The archive.
        storage: (SOP class, transfer syntax) that may come, at most 126; what is first of a
            class is preferred by archives that convert.
        folder: Where instances go; no other association writes there.
        limits: What may come at most.
        tick: Called about once a second; whatever it raises ends the association.

    Raises:
        DeliveryError: As ``associate``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    uncompressed: list[str | UID] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    contexts = [
        build_context(StudyRootQueryRetrieveInformationModelFind, uncompressed),
        build_context(StudyRootQueryRetrieveInformationModelGet, uncompressed),
        *(build_context(sop_class, syntax) for sop_class, syntax in storage),
    ]
    roles = [build_role(UID(one), scp_role=True) for one in sorted({one for one, _ in storage})]
    handlers = [(evt.EVT_DATA_SENT, _acknowledge_at_once)]
    timeout_s = min(destination.timeout_s, PATIENCE_S)
    with associate(
        settings, destination, contexts, handlers, roles, timeout_s=timeout_s, tick=tick
    ) as association:
        yield Archive(
            association,
            timeout_s=timeout_s,
            folder=folder,
            limits=limits,
            tick=tick,
        )


def _acknowledge_at_once(event: evt.Event) -> None:
    # Archives send an instance only when its command was acknowledged (Nagle's algorithm): the
    # delay of the ACK made 45 ms of every 4 ms (measured). The kernel forgets the option.
    transport = event.assoc.dul.socket
    if hasattr(socket, "TCP_QUICKACK") and transport is not None and transport.socket is not None:
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _is_implicit(context: PresentationContext) -> bool:
    return bool(context.transfer_syntax[0] == ImplicitVRLittleEndian)
