"""Receive: one C-STORE request becomes one durable, indexed file, and only then Success.

    part file ─▶ gate ─▶ fsync ─▶ rename ─▶ fsync of the folders ─▶ row ─▶ 0x0000

From then on the sender may delete its copy. On any failure it gets a status that says so, and
nothing of the instance is kept.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import create_file_meta, encode_file_meta
from sqlalchemy.exc import SQLAlchemyError

from node.crashpoint import reach
from node.dimse import gate
from node.dimse.streaming import DataSetFile, RefusedPart, provider_of
from node.domain import Receipt, ReceivedInstance
from node.errors import RejectedInstance
from node.log import get_logger, short
from node.spool import Part
from node.store import deliveries, studies
from node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

if TYPE_CHECKING:
    from pynetdicom import evt
    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

    from node.spool import Spool
    from node.store.ledger import Ledger

log = get_logger(__name__)

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
"""PS3.4 table B.2-1: the sender keeps the instance and may try again."""
UNEXPECTED = 0xC001
CONFLICT = 0xC010
"""PS3.4 has no status for another instance under a UID that is taken; this is one of failure."""

COMMENT_CHARACTERS = 64
"""Of Error Comment (0000,0902), VR LO."""

NO_ROOM = ("The receiver's disk takes no more.", "Try again later.")
NO_LEDGER = ("The receiver's database does not answer.", "Try again later.")


@dataclass(frozen=True)
class Receiver:
    """Where instances go."""

    spool: Spool
    ledger: Ledger
    minimum_free_bytes: int

    def has_room(self) -> bool:
        """Whether the disk takes more; if it cannot be asked, it does not."""
        try:
            return self.spool.has_room(self.minimum_free_bytes)
        except OSError:
            return False

    def begin(
        self, association: Association, command: Dataset, context: PresentationContext
    ) -> Part | RefusedPart:
        """Open the file for a data set about to come, or say already why it will be refused."""
        sop_class_uid = str(command.AffectedSOPClassUID)
        sop_instance_uid = str(command.AffectedSOPInstanceUID)
        try:
            gate.check_request(sop_class_uid, sop_instance_uid, str(context.abstract_syntax))
        except RejectedInstance as rejection:
            return RefusedPart(rejection)
        if not self.has_room():
            return RefusedPart(_out_of_resources(NO_ROOM))
        header = part10_header(
            sop_class_uid,
            sop_instance_uid,
            str(context.transfer_syntax[0]),
            association.requestor.ae_title,
        )
        return Part(self.spool.new_part(), header)

    def on_c_store(self, event: evt.Event) -> int | Dataset:
        """Keep the instance and return its status; the handler of pynetdicom's EVT_C_STORE."""
        try:
            self._store(event)
        except RejectedInstance as rejection:
            log.warning(
                "instance_refused",
                calling_ae=event.assoc.requestor.ae_title,
                status=f"0x{rejection.status:04X}",
                what=rejection.what,
            )
            return status_of(rejection)
        except Exception as error:  # the process's edge: no request goes unanswered
            # Neither the message nor the arguments: they may quote the data set.
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{last.filename}:{last.lineno}"
            log.error("receive_failed", error=type(error).__name__, where=where)
            return status_of(
                RejectedInstance(
                    "The receiver failed.", do="See its log 'receive_failed'.", status=UNEXPECTED
                )
            )
        return SUCCESS

    def _store(self, event: evt.Event) -> None:
        request: Any = event.request
        file = request._dataset_file  # noqa: SLF001
        if not isinstance(file, DataSetFile):
            raise RejectedInstance(
                "The request has no data set.", do="Check the sender.", status=gate.MALFORMED
            )
        part = file.part
        if isinstance(part, RefusedPart):
            raise part.why
        try:
            self._keep(event, part)
        except OSError as error:
            log.error("disk_failed", reason=error.strerror)
            raise _out_of_resources(NO_ROOM) from error
        except SQLAlchemyError as error:
            log.error("ledger_failed", error=cause_of(error))
            raise _out_of_resources(NO_LEDGER) from error

    def _keep(self, event: evt.Event, part: Part) -> None:
        if part.failure is not None:
            raise part.failure
        request: Any = event.request
        syntax = str(event.context.transfer_syntax)
        identity = gate.identify(part.path, part.data_offset, syntax, self.spool)
        gate.check_agreement(
            identity,
            str(request.AffectedSOPClassUID),
            str(request.AffectedSOPInstanceUID),
        )
        reach("receive.part_written")
        path = self.spool.keep(part.path, part.digest)
        reach("receive.renamed")
        receipt = index(
            self.ledger,
            identity,
            transfer_syntax_uid=syntax,
            digest=part.digest,
            path=path,
            size_bytes=part.size_bytes,
            calling_ae=event.assoc.requestor.ae_title,
            association_id=provider_of(event.assoc).association_id,
        )
        reach("receive.row_written")
        log.info(
            "received",
            receipt=receipt.value,
            study=short(identity.study_uid),
            series=short(identity.series_uid),
            calling_ae=event.assoc.requestor.ae_title,
            bytes=part.size_bytes,
        )
        if receipt is Receipt.CONFLICT:
            raise RejectedInstance(
                "Another instance has this UID.", do="Give this one its own UID.", status=CONFLICT
            )


def index(  # noqa: PLR0913 - the columns of a row
    ledger: Ledger,
    identity: gate.Identity,
    *,
    transfer_syntax_uid: str,
    digest: str,
    path: str,
    size_bytes: int,
    calling_ae: str,
    association_id: str,
) -> Receipt:
    """Write the row of a kept file. What this node made itself is marked, so it is not analysed."""
    with ledger.write() as db:
        own = identity.made_here or deliveries.is_own(db, identity.sop_instance_uid)
        return studies.record_instance(
            db,
            ReceivedInstance(
                sop_instance_uid=identity.sop_instance_uid,
                sop_class_uid=identity.sop_class_uid,
                series_uid=identity.series_uid,
                study_uid=identity.study_uid,
                modality=identity.modality,
                transfer_syntax_uid=transfer_syntax_uid,
                digest=digest,
                path=path,
                size_bytes=size_bytes,
                calling_ae=calling_ae,
                association_id=association_id,
                own_result=own,
            ),
        )


def part10_header(
    sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, calling_ae: str
) -> bytes:
    """Return preamble (all zero), prefix and file meta information of a Part 10 file.

    The sender's AE title goes into Source Application Entity Title (0002,0016): where a crash
    lost the row, it is read from there.
    """
    meta = create_file_meta(
        sop_class_uid=UID(sop_class_uid),
        sop_instance_uid=UID(sop_instance_uid),
        transfer_syntax=UID(transfer_syntax_uid),
        implementation_uid=UID(IMPLEMENTATION_CLASS_UID),
        implementation_version=IMPLEMENTATION_VERSION_NAME,
    )
    meta.SourceApplicationEntityTitle = calling_ae
    return b"\0" * 128 + b"DICM" + encode_file_meta(meta)


def status_of(rejection: RejectedInstance) -> Dataset:
    """Return what pynetdicom answers with: Status and Error Comment."""
    status = Dataset()
    status.Status = rejection.status
    status.ErrorComment = f"{rejection.what} {rejection.do}"[:COMMENT_CHARACTERS]
    return status


def cause_of(error: SQLAlchemyError) -> str:
    """Return the type of what the driver raised, or the pool: its words may quote a row."""
    return type(getattr(error, "orig", None) or error).__name__


def on_pdu_sent(event: evt.Event) -> None:
    """Give tests a point to die at once Success is on the wire."""
    provider = provider_of(event.assoc)
    if provider.stored:
        provider.stored = False
        reach("receive.answered")


def _out_of_resources(why: tuple[str, str]) -> RejectedInstance:
    what, do = why
    return RejectedInstance(what, do=do, status=OUT_OF_RESOURCES)
