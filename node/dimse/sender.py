"""C-STORE and C-ECHO to a destination. The bytes on the wire are the bytes on the disk."""

from __future__ import annotations

import time
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.dsutils import encode, split_dataset
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from node.dimse.association import associate, exchange
from node.dimse.status import Verdict, meaning_of
from node.errors import AssociationBroken, ClassRefused, DeliveryError, PeerBusy, PeerRefused
from node.malformed import MALFORMED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

    from node.settings import DimseDestination, Settings

MAXIMUM_CONTEXTS = 128
"""In one association: their IDs are odd and fit one byte (PS3.8 section 9.3.2.2)."""

MEDIUM = 0x0000
"""Priority of a C-STORE-RQ (PS3.7 table 9.3-1)."""


UNKNOWN_CLASS = (0x0118, 0x0122)
"""Statuses of a peer that has accepted a SOP class and then does not know it (PS3.7 annex C.5)."""


@dataclass(frozen=True)
class _Part10:
    """A file, and what its meta group says. The data set begins at ``offset``."""

    path: Path
    offset: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str

    @property
    def ways(self) -> tuple[tuple[str, str], ...]:
        """(SOP class, transfer syntax) it can be sent in, the best first."""
        own = (self.sop_class_uid, self.transfer_syntax_uid)
        if self.transfer_syntax_uid != ExplicitVRLittleEndian:
            return (own,)
        return own, (self.sop_class_uid, str(ImplicitVRLittleEndian))


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
            with associate(settings, destination, _contexts(batch.values())) as association:
                for message_id, (under_way, file) in enumerate(batch.items(), start=1):
                    outcome = _store(association, file, message_id, destination.timeout_s)
                    yield under_way, outcome
        except (AssociationBroken, PeerRefused) as error:
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
        meta, offset = split_dataset(path)
        return _Part10(
            path,
            offset,
            str(meta.MediaStorageSOPClassUID),
            str(meta.MediaStorageSOPInstanceUID),
            str(meta.TransferSyntaxUID),
        )
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
    for sop_instance_uid, file in files.items():
        if len(_contexts([*batch.values(), file])) > MAXIMUM_CONTEXTS:
            yield batch
            batch = {}
        batch[sop_instance_uid] = file
    if batch:
        yield batch


def _contexts(files: Iterable[_Part10]) -> list[PresentationContext]:
    """Return one context per SOP class and transfer syntax, so that the peer cannot choose."""
    ways = dict.fromkeys(way for file in files for way in file.ways)
    return [build_context(sop_class, syntax) for sop_class, syntax in ways]


def _store(
    association: Association, file: _Part10, message_id: int, timeout_s: float
) -> int | DeliveryError:
    accepted = {
        (str(context.abstract_syntax), str(context.transfer_syntax[0])): context.context_id
        for context in association.accepted_contexts
    }
    way = next((way for way in file.ways if way in accepted), None)
    if way is None:
        return ClassRefused(
            f"'{association.acceptor.ae_title}' does not accept SOP class "
            f"{file.sop_class_uid} in transfer syntax {file.transfer_syntax_uid}.",
            do="Ask its administrator to accept it, then 'radnode retry'.",
        )
    request = C_STORE()
    request.MessageID = message_id % 0x10000
    request.Priority = MEDIUM
    request.AffectedSOPClassUID = file.sop_class_uid
    request.AffectedSOPInstanceUID = file.sop_instance_uid
    if way == file.ways[0]:
        request._dataset_path = (file.path, file.offset)  # noqa: SLF001 - sent chunk by chunk
    else:
        try:
            request.DataSet = BytesIO(_as_implicit(file.path))
        except PeerRefused as error:
            return error
    try:
        response = exchange(association, request, accepted[way] or 1, timeout_s=timeout_s)
    except OSError as error:
        raise _unreadable(file.path, error) from error
    return _outcome(association.acceptor.ae_title, response.Status)


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
