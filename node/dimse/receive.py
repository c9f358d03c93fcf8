"""Receive: one C-STORE request becomes one durable, indexed file, and only then Success.

    part file ─▶ gate ─▶ fsync ─▶ rename ─▶ fsync of the folders ─▶ row ─▶ 0x0000

From then on the sender may delete its copy. On any failure it gets a status that says so, and
nothing of the instance is kept.
"""

from __future__ import annotations

import struct
import traceback
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from node.crashpoint import reach
from node.dimse import gate
from node.domain import Receipt, ReceivedInstance
from node.errors import RejectedInstance
from node.group_commit import GroupCommit
from node.log import get_logger
from node.spool import Part
from node.store import receiving
from node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node.dimse.messages import StoreRequest
    from node.spool import Spool
    from node.store.ledger import Ledger

log = get_logger(__name__)

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
"""PS3.4 table B.2-1: the sender keeps the instance and may try again."""
UNEXPECTED = 0xC001
CONFLICT = 0xC010
"""PS3.4 has no status for another instance under a UID that is taken; this is one of failure."""

_META = struct.Struct("<HH2sH")
_META_LONG = struct.Struct("<HH2s2xL")

NO_ROOM = ("The receiver's disk takes no more.", "Try again later.")
NO_LEDGER = ("The receiver's database does not answer.", "Try again later.")


class Sender(NamedTuple):
    """Who sends, on which association."""

    calling_ae: str
    association_id: str


class Answer(NamedTuple):
    """Status of a C-STORE-RSP, and its Error Comment."""

    status: int
    comment: str = ""


class RefusedPart:
    """Takes a data set whose request is refused already, and drops it."""

    def __init__(self, why: RejectedInstance) -> None:
        self.why = why

    def write(self, data_set: bytes | memoryview) -> None:
        """Drop it."""

    def close(self) -> None:
        """Nothing is open."""

    def discard(self) -> None:
        """Nothing is there."""


class Receiver:
    """Where the instances of all associations of a process go.

    Args:
        spool: Of the node.
        ledger: Migrated.
        minimum_free_bytes: Of the disk; below, nothing is taken.
    """

    def __init__(self, spool: Spool, ledger: Ledger, minimum_free_bytes: int) -> None:
        self.spool = spool
        self.ledger = ledger
        self.minimum_free_bytes = minimum_free_bytes
        # The associations wait for the disk and the database together.
        self._places: GroupCommit[Part, str | OSError] = GroupCommit(spool.keep_all)
        self._rows: GroupCommit[ReceivedInstance, Receipt | SQLAlchemyError] = GroupCommit(
            self._index
        )

    def has_room(self) -> bool:
        """Whether the disk takes more; if it cannot be asked, it does not."""
        try:
            return self.spool.has_room(self.minimum_free_bytes)
        except OSError:
            return False

    def begin(
        self, request: StoreRequest, abstract_syntax: str, transfer_syntax_uid: str, sender: Sender
    ) -> Part | RefusedPart:
        """Open the file for a data set about to come, or say already why it will be refused."""
        if not request.has_data_set:
            return RefusedPart(
                RejectedInstance(
                    "The request has no data set.", do="Check the sender.", status=gate.MALFORMED
                )
            )
        try:
            gate.check_request(request.sop_class_uid, request.sop_instance_uid, abstract_syntax)
        except RejectedInstance as rejection:
            return RefusedPart(rejection)
        if not self.has_room():
            return RefusedPart(_out_of_resources(NO_ROOM))
        header = part10_header(
            request.sop_class_uid,
            request.sop_instance_uid,
            transfer_syntax_uid,
            sender.calling_ae,
        )
        return Part(self.spool.new_part(), header)

    def store(
        self,
        part: Part | RefusedPart,
        request: StoreRequest,
        transfer_syntax_uid: str,
        sender: Sender,
    ) -> Answer:
        """Keep an instance that has come whole, and return what its sender is told."""
        try:
            self._keep(part, request, transfer_syntax_uid, sender)
        except RejectedInstance as rejection:
            log.warning(
                "instance_refused",
                calling_ae=sender.calling_ae,
                status=f"0x{rejection.status:04X}",
                what=rejection.what,
            )
            return answer_to(rejection)
        except Exception as error:  # the process's edge: no request goes unanswered
            # Neither the message nor the arguments: they may quote the data set.
            log.error("receive_failed", error=type(error).__name__, where=place_of(error))
            return answer_to(
                RejectedInstance(
                    "The receiver failed.", do="See its log 'receive_failed'.", status=UNEXPECTED
                )
            )
        return Answer(SUCCESS)

    def _keep(
        self,
        part: Part | RefusedPart,
        request: StoreRequest,
        transfer_syntax_uid: str,
        sender: Sender,
    ) -> None:
        if isinstance(part, RefusedPart):
            raise part.why
        try:
            identity = self._identify(part, request, transfer_syntax_uid)
            reach("receive.part_written")
            path = self._places(part)
            if isinstance(path, OSError):
                raise path
        except OSError as error:
            log.error("disk_failed", reason=error.strerror)
            raise _out_of_resources(NO_ROOM) from error
        reach("receive.renamed")
        try:
            receipt = self._rows(
                received(
                    identity,
                    transfer_syntax_uid=transfer_syntax_uid,
                    digest=part.digest,
                    path=path,
                    size_bytes=part.size_bytes,
                    sender=sender,
                )
            )
            if isinstance(receipt, SQLAlchemyError):
                raise receipt
        except SQLAlchemyError as error:
            log.error("ledger_failed", error=cause_of(error))
            raise _out_of_resources(NO_LEDGER) from error
        reach("receive.row_written")
        if receipt is Receipt.CONFLICT:
            raise RejectedInstance(
                "Another instance has this UID.", do="Give this one its own UID.", status=CONFLICT
            )

    def _identify(
        self, part: Part, request: StoreRequest, transfer_syntax_uid: str
    ) -> gate.Identity:
        if part.failure is not None:
            raise part.failure
        identity = gate.identify(part.path, part.data_offset, transfer_syntax_uid, self.spool)
        gate.check_agreement(identity, request.sop_class_uid, request.sop_instance_uid)
        part.sync()
        return identity

    def _index(self, group: Sequence[ReceivedInstance]) -> Sequence[Receipt | SQLAlchemyError]:
        try:
            return index(self.ledger, group)
        except (DataError, IntegrityError) as error:
            if len(group) == 1:
                return [error]
        # One of them is to blame; its neighbours shall not suffer for it.
        return [outcome for one in group for outcome in self._index([one])]


def received(  # noqa: PLR0913 - the columns of a row
    identity: gate.Identity,
    *,
    transfer_syntax_uid: str,
    digest: str,
    path: str,
    size_bytes: int,
    sender: Sender,
) -> ReceivedInstance:
    """Return the row of a kept file. What this node made itself is marked."""
    return ReceivedInstance(
        sop_instance_uid=identity.sop_instance_uid,
        sop_class_uid=identity.sop_class_uid,
        series_uid=identity.series_uid,
        study_uid=identity.study_uid,
        modality=identity.modality,
        transfer_syntax_uid=transfer_syntax_uid,
        digest=digest,
        path=path,
        size_bytes=size_bytes,
        calling_ae=sender.calling_ae,
        association_id=sender.association_id,
        own_result=identity.made_here,
    )


def index(ledger: Ledger, group: Sequence[ReceivedInstance]) -> Sequence[Receipt]:
    """Write the rows of kept files in one transaction."""
    with ledger.write() as db:
        return receiving.record_instances(db, group)


def part10_header(
    sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, calling_ae: str
) -> bytes:
    """Return preamble (all zero), prefix and file meta information of a Part 10 file.

    The sender's AE title goes into Source Application Entity Title (0002,0016): where a crash
    lost the row, it is read from there.
    """
    elements = b"".join(
        (
            _META_LONG.pack(2, 0x0001, b"OB", 2) + b"\0\1",
            _meta(0x0002, b"UI", sop_class_uid),
            _meta(0x0003, b"UI", sop_instance_uid),
            _meta(0x0010, b"UI", transfer_syntax_uid),
            _meta(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _meta(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
            _meta(0x0016, b"AE", calling_ae),
        )
    )
    length = _META.pack(2, 0x0000, b"UL", 4) + struct.pack("<L", len(elements))
    return b"\0" * 128 + b"DICM" + length + elements


def _meta(number: int, vr: bytes, text: str) -> bytes:
    """Return one element of group 0002, in explicit VR little endian (PS3.10 section 7.1)."""
    value = text.encode("ascii", errors="replace")
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return _META.pack(2, number, vr, len(value)) + value


def answer_to(rejection: RejectedInstance) -> Answer:
    """Return what the sender of a refused instance is told."""
    return Answer(rejection.status, f"{rejection.what} {rejection.do}")


def cause_of(error: SQLAlchemyError) -> str:
    """Return the type of what the driver raised, or the pool: its words may quote a row."""
    return type(getattr(error, "orig", None) or error).__name__


def place_of(error: Exception) -> str:
    """Return where an error was raised: its words may quote a data set."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}"


def _out_of_resources(why: tuple[str, str]) -> RejectedInstance:
    what, do = why
    return RejectedInstance(what, do=do, status=OUT_OF_RESOURCES)
