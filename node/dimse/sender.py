"""C-STORE and C-ECHO to a destination. The bytes on the wire are the bytes on the disk."""

from __future__ import annotations

import time
from dataclasses import dataclass
from io import BytesIO, FileIO
from typing import TYPE_CHECKING

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dimse_primitives import C_ECHO
from pynetdicom.dsutils import encode
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from node.dimse import meta
from node.dimse.association import associate, connected, exchange
from node.dimse.status import Verdict, meaning_of
from node.dimse.wire import store_request
from node.errors import AssociationBroken, ClassRefused, DeliveryError, PeerBusy, PeerRefused
from node.malformed import MALFORMED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

    from node.dimse.connection import Connection
    from node.dimse.meta import Meta
    from node.settings import DimseDestination, Settings

MAXIMUM_CONTEXTS = 128
"""In one association: their IDs are odd and fit one byte (PS3.8 section 9.3.2.2)."""

UNKNOWN_CLASS = (0x0118, 0x0122)
"""Statuses of a peer that has accepted a SOP class and then does not know it (PS3.7 annex C.5)."""


@dataclass(frozen=True)
class _Part10:
    """A file, and what its meta group says."""

    path: Path
    meta: Meta

    @property
    def ways(self) -> tuple[tuple[str, str], ...]:
        """(SOP class, transfer syntax) it can be sent in, the best first."""
        own = (self.meta.sop_class_uid, self.meta.transfer_syntax_uid)
        if self.meta.transfer_syntax_uid != ExplicitVRLittleEndian:
            return (own,)
        return own, (self.meta.sop_class_uid, str(ImplicitVRLittleEndian))


def send(
    settings: Settings, destination: DimseDestination, files: Mapping[str, Path]
) -> Iterator[tuple[str, int | DeliveryError]]:
    """Send ``files`` on one association and yield each one's outcome as it comes.

    It ends with the first file at which the association breaks: that file may be all that the
    peer chokes on. What is not yielded was not tried.

    Args:
        settings: Of this node.
        destination: Who shall store them.
        files: SOP Instance UID -> Part 10 file, in the order of sending.

    Yields:
        The SOP Instance UID, and the status with which it was accepted or why it was not.

    Raises:
        PeerUnreachable: No association could be opened.
    """
    readable: dict[str, _Part10] = {}
    for sop_instance_uid, path in files.items():
        try:
            readable[sop_instance_uid] = _open(path)
        except PeerRefused as error:
            yield sop_instance_uid, error
    for batch in _batches(readable):
        under_way: str | None = None
        try:
            with (
                associate(settings, destination, _contexts(batch.values())) as association,
                connected(association, timeout_s=destination.timeout_s) as connection,
            ):
                accepted = _accepted(association)
                for message_id, (under_way, file) in enumerate(batch.items(), start=1):
                    yield under_way, _store(connection, file, message_id % 0x10000, accepted)
        except AssociationBroken as error:
            yield under_way or next(iter(batch)), error
            return
        except PeerRefused as error:
            if under_way is not None:
                yield under_way, error
                return
            yield from ((sop_instance_uid, error) for sop_instance_uid in batch)


def echo(settings: Settings, destination: DimseDestination) -> float:
    """Ask ``destination`` whether it answers; the time from the call to the answer, in ms.

    Raises:
        DeliveryError: It does not, or not with Success.
    """
    request = C_ECHO()
    request.MessageID = 1
    request.AffectedSOPClassUID = Verification
    began = time.perf_counter()
    contexts = [build_context(Verification, ImplicitVRLittleEndian)]
    with associate(settings, destination, contexts) as association:
        context_id = association.accepted_contexts[0].context_id or 1
        response = exchange(association, request, context_id, timeout_s=destination.timeout_s)
        milliseconds = (time.perf_counter() - began) * 1000.0
    if response.Status != 0x0000:
        raise PeerRefused(
            f"'{destination.ae_title}' answered the C-ECHO with status 0x{response.Status:04X}.",
            do="Ask its administrator whether this AE title may call.",
            status=response.Status,
        )
    return milliseconds


def _open(path: Path) -> _Part10:
    try:
        return _Part10(path, meta.read(path))
    except (OSError, *MALFORMED) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> PeerRefused:
    return PeerRefused(
        f"The file to send cannot be read ({type(error).__name__}).",
        do=f"Restore {path.name} in its folder from a backup, then 'radnode retry'.",
    )


def _batches(files: Mapping[str, _Part10]) -> Iterator[dict[str, _Part10]]:
    """Split ``files`` where their presentation contexts exceed one association."""
    batch: dict[str, _Part10] = {}
    ways: set[tuple[str, str]] = set()
    for sop_instance_uid, file in files.items():
        if len(ways | set(file.ways)) > MAXIMUM_CONTEXTS:
            yield batch
            batch, ways = {}, set()
        batch[sop_instance_uid] = file
        ways.update(file.ways)
    if batch:
        yield batch


def _contexts(files: Iterable[_Part10]) -> list[PresentationContext]:
    """Return one context per SOP class and transfer syntax, so that the peer cannot choose."""
    ways = dict.fromkeys(way for file in files for way in file.ways)
    return [build_context(sop_class, syntax) for sop_class, syntax in ways]


def _accepted(association: Association) -> dict[tuple[str, str], int]:
    """Return the IDs of the contexts that were accepted, by SOP class and transfer syntax."""
    return {
        (str(context.abstract_syntax), str(context.transfer_syntax[0])): context.context_id or 1
        for context in association.accepted_contexts
    }


def _store(
    connection: Connection,
    file: _Part10,
    message_id: int,
    accepted: Mapping[tuple[str, str], int],
) -> int | DeliveryError:
    way = next((way for way in file.ways if way in accepted), None)
    if way is None:
        return ClassRefused(
            f"'{connection.peer}' does not accept SOP class "
            f"{file.meta.sop_class_uid} in transfer syntax {file.meta.transfer_syntax_uid}.",
            do="Ask its administrator to accept it, then 'radnode retry'.",
        )
    command = store_request(message_id, file.meta.sop_class_uid, file.meta.sop_instance_uid)
    try:
        with _data_set(file, as_it_is=way == file.ways[0]) as data_set:
            status = connection.store(
                command, data_set, message_id=message_id, context_id=accepted[way]
            )
    except PeerRefused as error:
        return error
    except OSError as error:
        raise _unreadable(file.path, error) from error
    return _outcome(connection.peer, status)


def _data_set(file: _Part10, *, as_it_is: bool) -> FileIO | BytesIO:
    """Return the data set to be read, in its own transfer syntax or in the default one."""
    if not as_it_is:
        return BytesIO(_as_implicit(file.path))
    opened = FileIO(file.path)
    opened.seek(file.meta.offset)
    return opened


def _as_implicit(path: Path) -> bytes:
    """Return the data set in the default transfer syntax (PS3.5 section 10.1).

    Both syntaxes encode values alike; what is dropped, the VRs, is in the data dictionary
    (PS3.5 annex A.1). Nothing is added, so the same file always gives the same bytes.
    """
    try:
        encoded = encode(dcmread(path), is_implicit_vr=True, is_little_endian=True)
    except (OSError, *MALFORMED) as error:
        raise _unreadable(path, error) from error
    if encoded is None:
        raise PeerRefused(
            "The object cannot be written in Implicit VR Little Endian.",
            do="Ask the destination's administrator to accept Explicit VR Little Endian.",
        )
    return encoded


def _outcome(peer: str, status: int) -> int | DeliveryError:
    meaning = meaning_of(status)
    if meaning.verdict is Verdict.ACCEPTED:
        return status
    what = f"'{peer}' answered with status 0x{status:04X}. {meaning.what}"
    if meaning.verdict is Verdict.BUSY:
        return PeerBusy(what, do="The node tries again by itself.")
    refused = ClassRefused if status in UNKNOWN_CLASS else PeerRefused
    return refused(what, do=meaning.do, status=status)
