"""Storage commitment, push model (PS3.4 annex J): ask the destination to answer for objects.

The answer, an N-EVENT-REPORT, may come on the association that asked, on a new one to the
listener, before the response to the question, much later, or twice. All end in
``on_n_event_report``.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.dimse_primitives import N_ACTION
from pynetdicom.dsutils import encode
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from node.dimse.association import associate, exchange
from node.errors import PeerBusy, PeerRefused
from node.log import get_logger, short
from node.store import commitments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

    from node.domain import Commitment
    from node.settings import DimseDestination, Settings
    from node.store.ledger import Ledger

log = get_logger(__name__)

REQUEST_COMMITMENT = 1
"""Action Type ID (PS3.4 table J.3.2-1)."""
ALL_COMMITTED, SOME_FAILED = 1, 2
"""Event Type IDs (PS3.4 table J.3.3-1)."""

SUCCESS = 0x0000
NO_SUCH_EVENT_TYPE = 0x0113
INVALID_ARGUMENT_VALUE = 0x0115
MISSING_ATTRIBUTE = 0x0120


def on_n_event_report(event: evt.Event, ledger: Ledger) -> tuple[int, None]:
    """Take one commitment report into the ledger and return the status of its response.

    A report under a transaction UID that this node never used changes nothing. One that was
    taken before changes nothing either, and is answered with Success: it did arrive.
    """
    if event.event_type not in (ALL_COMMITTED, SOME_FAILED):
        return NO_SUCH_EVENT_TYPE, None
    report = event.event_information
    if not report.get("TransactionUID"):
        return MISSING_ATTRIBUTE, None
    transaction_uid = str(report.TransactionUID)
    committed = [
        str(item.ReferencedSOPInstanceUID) for item in report.get("ReferencedSOPSequence") or ()
    ]
    failed = [
        (str(item.ReferencedSOPInstanceUID), int(item.get("FailureReason") or 0x0110))
        for item in report.get("FailedSOPSequence") or ()
    ]
    with ledger.write() as db:
        if not commitments.is_known(db, transaction_uid):
            log.warning("commitment_unknown", transaction=short(transaction_uid))
            return INVALID_ARGUMENT_VALUE, None
        finished = commitments.mark_committed(db, transaction_uid, committed)
        unfinished = commitments.mark_uncommitted(db, transaction_uid, failed)
    log.info(
        "committed",
        transaction=short(transaction_uid),
        committed=finished,
        not_committed=unfinished,
    )
    return SUCCESS, None


@contextmanager
def associate_for_commitment(
    settings: Settings, destination: DimseDestination, ledger: Ledger, arrived: threading.Event
) -> Iterator[Association]:
    """Open an association to ask on; ``arrived`` is set whenever an answer came on it.

    Raises:
        DeliveryError: As ``associate``; ``PeerRefused`` if the destination does not offer
            storage commitment.
    """
    reporting: list[threading.Thread] = []

    def on_report(event: evt.Event) -> tuple[int, None]:
        reporting.append(threading.current_thread())
        answer = on_n_event_report(event, ledger)
        arrived.set()
        return answer

    handlers = [(evt.EVT_N_EVENT_REPORT, on_report)]
    try:
        with associate(settings, destination, [proposal()], handlers) as association:
            yield association
            for thread in reporting:  # the ledger has the answer; the peer must get its response
                thread.join(destination.timeout_s)
    except PeerRefused as error:
        raise PeerRefused(
            f"'{destination.ae_title}' does not offer storage commitment.",
            do="Set commit = false for this destination, or ask its administrator for it.",
        ) from error


def request(association: Association, transaction: Commitment, *, timeout_s: float) -> None:
    """Ask for commitment to the objects of ``transaction``, which the ledger has already.

    Raises:
        AssociationBroken: The destination may have understood.
        PeerBusy: The destination did not take the request.
    """
    context = association.accepted_contexts[0]
    information = Dataset()
    information.TransactionUID = transaction.transaction_uid
    information.ReferencedSOPSequence = [
        reference(sop_class_uid, sop_instance_uid)
        for sop_class_uid, sop_instance_uid in transaction.references
    ]
    encoded = encode(
        information,
        is_implicit_vr=context.transfer_syntax[0] == ImplicitVRLittleEndian,
        is_little_endian=True,
    )
    question = N_ACTION()
    question.MessageID = 1
    question.RequestedSOPClassUID = StorageCommitmentPushModel
    question.RequestedSOPInstanceUID = StorageCommitmentPushModelInstance
    question.ActionTypeID = REQUEST_COMMITMENT
    question.ActionInformation = BytesIO(encoded or b"")
    response = exchange(association, question, context.context_id or 1, timeout_s=timeout_s)
    if response.Status != SUCCESS:
        raise PeerBusy(
            f"'{association.acceptor.ae_title}' answered the request for storage commitment "
            f"with status 0x{response.Status:04X}.",
            do="The node asks again by itself. If it stays, look into the log of the "
            "destination, or set commit = false for it.",
        )


def proposal() -> PresentationContext:
    """Return the presentation context that storage commitment is spoken in, as this node asks."""
    return build_context(
        StorageCommitmentPushModel, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    )


def reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """Return the item that stands for an object (PS3.4 table J.3.2-1)."""
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    return item
