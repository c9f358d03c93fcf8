"""Storage commitment as SCP (PS3.4 annex J): peers ask this node to answer for objects.

Only what is durable and indexed is answered for, and it stays until a person releases it: whoever
asked may have deleted its own. The question is in the ledger before it is taken, so that no end of
a process forgets it. Who is under [destinations] is called back; to anyone else it is reported on
the association that asked, while that lasts.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import encode
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)
from sqlalchemy.exc import SQLAlchemyError

from node.dimse import gate
from node.dimse.association import associate, exchange
from node.dimse.commitment import (
    ALL_COMMITTED,
    INVALID_ARGUMENT_VALUE,
    MISSING_ATTRIBUTE,
    REQUEST_COMMITMENT,
    SOME_FAILED,
    SUCCESS,
    proposal,
    reference,
)
from node.dimse.receive import cause_of
from node.domain import Pledge, Verdict
from node.errors import PeerBusy
from node.log import get_logger, short
from node.store import events, pledges
from node.uids import is_uid
from node.wake import Stage

if TYPE_CHECKING:
    from collections.abc import Collection

    from pynetdicom import evt
    from pynetdicom.presentation import PresentationContextTuple

    from node.dimse.acceptor import AcceptedAssociation
    from node.settings import DimseDestination, Settings
    from node.spool import Spool
    from node.store.ledger import Ledger
    from node.wake import Waker

log = get_logger(__name__)

NO_SUCH_ACTION = 0x0123
PROCESSING_FAILURE = 0x0110
"""Statuses of an N-ACTION response (PS3.7 section 10.1.4.1.10)."""

NO_SUCH_OBJECT, CLASS_CONFLICT = 0x0112, 0x0119
"""Failure Reasons (PS3.3 section C.14.1.1)."""


class Pledges:
    """Takes what peers ask, in the listener.

    Args:
        spool: Of the node.
        ledger: Migrated.
        waker: Wakes the stage that calls back.
        called_back: AE titles under [destinations].
    """

    def __init__(
        self, spool: Spool, ledger: Ledger, waker: Waker, called_back: Collection[str]
    ) -> None:
        self._spool = spool
        self._ledger = ledger
        self._waker = waker
        self._called_back = called_back

    def on_n_action(self, event: evt.Event) -> tuple[int, None]:
        """Take a request for commitment (EVT_N_ACTION), and return the status of its response."""
        if event.action_type != REQUEST_COMMITMENT:
            return NO_SUCH_ACTION, None
        asked = event.request.ActionInformation  # type: ignore[union-attr]
        context = event.context
        if (
            asked is None
            or context.abstract_syntax != StorageCommitmentPushModel
            or not gate.may_decode(asked.getvalue(), str(context.transfer_syntax))
        ):
            return INVALID_ARGUMENT_VALUE, None
        information = event.action_information
        references = information.get("ReferencedSOPSequence") or ()
        if not references or not information.get("TransactionUID"):
            return MISSING_ATTRIBUTE, None
        association: AcceptedAssociation = event.assoc  # type: ignore[assignment]
        pledge = Pledge(
            str(information.TransactionUID),
            association.calling_ae,
            tuple(
                (
                    str(item.get("ReferencedSOPClassUID", "")),
                    str(item.get("ReferencedSOPInstanceUID", "")),
                )
                for item in references
            ),
        )
        uids = (pledge.transaction_uid, *(uid for pair in pledge.references for uid in pair))
        if not all(map(is_uid, uids)):
            return INVALID_ARGUMENT_VALUE, None
        try:
            with self._ledger.write() as db:
                pledges.ask(db, pledge)
        except SQLAlchemyError as error:
            log.error("ledger_failed", error=cause_of(error))
            return PROCESSING_FAILURE, None
        if pledge.calling_ae in self._called_back:
            self._waker.wake(Stage.DELIVER)
        else:
            self._report_here(association, context, pledge)
        return SUCCESS, None

    def _report_here(
        self, association: AcceptedAssociation, context: PresentationContextTuple, pledge: Pledge
    ) -> None:
        """Report on the association that asked, once it has its response."""
        verdict = judge(self._ledger, self._spool, pledge)

        def answered(status: int | None) -> None:
            if status == SUCCESS:
                tell(self._ledger, pledge, verdict)
            else:
                _tell_untold(self._ledger, pledge)

        report = report_of(pledge, verdict, str(context.transfer_syntax))
        association.ask(report, context.context_id, answered)


def judge(ledger: Ledger, spool: Spool, pledge: Pledge) -> Verdict:
    """Return which of the objects asked for this node has; those are kept from then on."""
    with ledger.write() as db:
        kept = pledges.kept(db, pledge)
        pledges.keep(db, list(kept))
    committed, failed = [], []
    for sop_class_uid, uid in pledge.references:
        found = kept.get(uid)
        if found is None or not spool.holds(found.path):
            failed.append((sop_class_uid, uid, NO_SUCH_OBJECT))
        elif found.sop_class_uid != sop_class_uid:
            failed.append((sop_class_uid, uid, CLASS_CONFLICT))
        else:
            committed.append((sop_class_uid, uid))
    return Verdict(tuple(committed), tuple(failed))


def report_of(pledge: Pledge, verdict: Verdict, transfer_syntax_uid: str) -> N_EVENT_REPORT:
    """Return the N-EVENT-REPORT that says what this node answers for (PS3.4 table J.3.3-1)."""
    information = Dataset()
    information.TransactionUID = pledge.transaction_uid
    if verdict.committed:
        information.ReferencedSOPSequence = [reference(*one) for one in verdict.committed]
    if verdict.failed:
        information.FailedSOPSequence = [_failure(*one) for one in verdict.failed]
    report = N_EVENT_REPORT()
    report.MessageID = 1
    report.AffectedSOPClassUID = StorageCommitmentPushModel
    report.AffectedSOPInstanceUID = StorageCommitmentPushModelInstance
    report.EventTypeID = SOME_FAILED if verdict.failed else ALL_COMMITTED
    report.EventInformation = BytesIO(
        encode(
            information,
            is_implicit_vr=transfer_syntax_uid == ImplicitVRLittleEndian,
            is_little_endian=True,
        )
        or b""
    )
    return report


def call_back(
    settings: Settings, destination: DimseDestination, pledge: Pledge, verdict: Verdict
) -> None:
    """Report on a new association (PS3.4 section J.3.3).

    Raises:
        DeliveryError: The peer was not told, as far as this node knows.
    """
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid = StorageCommitmentPushModel
    role.scu_role, role.scp_role = False, True
    with associate(settings, destination, [proposal()], roles=[role]) as association:
        accepted = association.accepted_contexts[0]
        report = report_of(pledge, verdict, str(accepted.transfer_syntax[0]))
        timeout_s = destination.timeout_s
        response = exchange(association, report, accepted.context_id or 1, timeout_s=timeout_s)
    if response.Status != SUCCESS:
        raise PeerBusy(
            f"'{destination.ae_title}' answered a storage commitment report with status "
            f"0x{response.Status:04X}.",
            do="The node reports again by itself. If it stays, look into the log of the peer.",
        )


def tell(ledger: Ledger, pledge: Pledge, verdict: Verdict) -> None:
    """Note that the peer was told."""
    with ledger.write() as db:
        pledges.answered(db, pledge)
        if verdict.failed:
            events.record(
                db,
                "pledge_refused",
                subject=pledge.calling_ae,
                detail=f"{len(verdict.failed)} of {len(pledge.references)} objects that "
                f"'{pledge.calling_ae}' asked about are not here; it was told so.",
            )
    log.info(
        "pledged",
        calling_ae=pledge.calling_ae,
        transaction=short(pledge.transaction_uid),
        committed=len(verdict.committed),
        not_committed=len(verdict.failed),
    )


def _tell_untold(ledger: Ledger, pledge: Pledge) -> None:
    """Tell a person that a peer asked and left without its answer."""
    try:
        with ledger.write() as db:
            events.record(
                db,
                "pledge_untold",
                subject=pledge.calling_ae,
                detail=f"'{pledge.calling_ae}' asked for storage commitment and did not take the "
                "answer on its association. List it under [destinations] to have it called back.",
            )
    except SQLAlchemyError as error:
        log.error("ledger_failed", error=cause_of(error))
    log.warning("pledge_untold", calling_ae=pledge.calling_ae)


def _failure(sop_class_uid: str, sop_instance_uid: str, reason: int) -> Dataset:
    item = reference(sop_class_uid, sop_instance_uid)
    item.FailureReason = reason
    return item
