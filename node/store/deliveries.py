"""Result objects and their way to each destination.

pending ──accepted──▶ sent ──N-EVENT-REPORT──▶ committed
   ▲ │ └──said no──▶ refused ──retry by a person──▶ pending
   │ └── not reached: tried again, for ever; ``next_attempt_at`` says when
   └──── the destination could not commit to it: sent again
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, select, update

from node.clock import database_now
from node.domain import Artifact, Commitment, DeliveryState, DueDelivery
from node.store import events
from node.store.statements import insert_if_new
from node.store.tables import artifact, commitment, delivery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection, Row


def write_artifact(db: Connection, made: Artifact) -> bool:
    """Index one result object whose file is durable. False if it was there before."""
    row = {
        "sop_instance_uid": made.sop_instance_uid,
        "sop_class_uid": made.sop_class_uid,
        "study_uid": made.study_uid,
        "job_id": made.job_id,
        "role": made.role,
        "path": made.path,
        "digest": made.digest,
        "size_bytes": made.size_bytes,
        "written_at": database_now(),
    }
    return insert_if_new(db, artifact, row)


def artifacts_of(db: Connection, job_id: str) -> tuple[Artifact, ...]:
    """Return the objects of one job that are durable and indexed."""
    columns = [artifact.c[name] for name in Artifact.__dataclass_fields__]
    rows = db.execute(select(*columns).where(artifact.c.job_id == job_id).order_by(artifact.c.role))
    return tuple(Artifact(*row) for row in rows)


def is_own(db: Connection, sop_instance_uid: str) -> bool:
    """Whether an object is one of our results."""
    found = select(artifact.c.role).where(artifact.c.sop_instance_uid == sop_instance_uid)
    return db.execute(found).one_or_none() is not None


def plan_deliveries(db: Connection, made: Sequence[Artifact], send_to: Sequence[str]) -> None:
    """Note where the objects of a job go. In the transaction that completes the job."""
    for one in made:
        for destination in send_to:
            row = {
                "sop_instance_uid": one.sop_instance_uid,
                "destination": destination,
                "study_uid": one.study_uid,
                "state": DeliveryState.PENDING.value,
                "attempts": 0,
                "next_attempt_at": database_now(),
                "planned_at": database_now(),
            }
            insert_if_new(db, delivery, row)


# --- sending ---------------------------------------------------------------------------------


def _lock_due(db: Connection, destination: str, state: DeliveryState) -> tuple[str, ...]:
    """Lock the due objects of the study that waits longest; return their SOP Instance UIDs."""
    due = and_(
        delivery.c.destination == destination,
        delivery.c.state == state,
        delivery.c.next_attempt_at <= database_now(),
    )
    first = (
        select(delivery.c.study_uid)
        .where(due)
        .order_by(delivery.c.planned_at, delivery.c.study_uid)
        .limit(1)
    )
    while (study_uid := db.execute(first).scalar_one_or_none()) is not None:
        # In one order, or two deliverers would each hold an object that the other wants. Who
        # had to wait finds the study taken, and looks for the next.
        objects = (
            select(delivery.c.sop_instance_uid)
            .where(due, delivery.c.study_uid == study_uid)
            .order_by(delivery.c.sop_instance_uid)
            .with_for_update()
        )
        if locked := tuple(db.execute(objects).scalars()):
            return locked
    return ()


def _locked(sop_instance_uids: Sequence[str], destination: str) -> ColumnElement[bool]:
    return and_(
        delivery.c.destination == destination,
        delivery.c.sop_instance_uid.in_(sop_instance_uids),
    )


def claim_due(
    db: Connection, destination: str, *, lease_s: float = 60.0
) -> tuple[DueDelivery, ...]:
    """Take the due objects of the study that waits longest for ``destination``.

    Its attempts are counted, and nobody else takes them for ``lease_s``; a deliverer that
    dies frees them thereby.
    """
    sop_instance_uids = _lock_due(db, destination, DeliveryState.PENDING)
    if not sop_instance_uids:
        return ()
    due = _locked(sop_instance_uids, destination)
    db.execute(
        update(delivery)
        .where(due)
        .values(attempts=delivery.c.attempts + 1, next_attempt_at=database_now() + lease_s)
    )
    rows = db.execute(
        select(
            artifact.c.sop_instance_uid,
            artifact.c.sop_class_uid,
            artifact.c.study_uid,
            delivery.c.destination,
            artifact.c.path,
            delivery.c.attempts,
        )
        .join(artifact, artifact.c.sop_instance_uid == delivery.c.sop_instance_uid)
        .where(due)
        # Segmentations before the reports that refer to them.
        .order_by(artifact.c.written_at, artifact.c.role)
    )
    return tuple(DueDelivery(*row) for row in rows)


def _one(sop_instance_uid: str, destination: str, state: DeliveryState) -> ColumnElement[bool]:
    return and_(
        delivery.c.sop_instance_uid == sop_instance_uid,
        delivery.c.destination == destination,
        delivery.c.state == state,
    )


def mark_sent(
    db: Connection, sop_instance_uid: str, destination: str, *, status: int | None
) -> None:
    """Note that the destination accepted the object; ``status`` keeps its warning, if any."""
    study_uid = db.execute(
        update(delivery)
        .where(_one(sop_instance_uid, destination, DeliveryState.PENDING))
        .values(
            state=DeliveryState.SENT.value,
            status=status,
            sent_at=database_now(),
            next_attempt_at=database_now(),
            what=None,
            do=None,
        )
        .returning(delivery.c.study_uid)
    ).scalar_one_or_none()
    if study_uid is not None:
        detail = "" if status is None else f"status 0x{status:04X}"
        events.record(db, "sent", study_uid=study_uid, subject=destination, detail=detail)


def mark_unsent(
    db: Connection, sop_instance_uid: str, destination: str, *, what: str, retry_in_s: float
) -> None:
    """Note why the object was not accepted this time, and when to try again."""
    db.execute(
        update(delivery)
        .where(_one(sop_instance_uid, destination, DeliveryState.PENDING))
        .values(what=what, next_attempt_at=database_now() + retry_in_s)
    )


def mark_refused(  # noqa: PLR0913 - what the person who decides must know
    db: Connection,
    sop_instance_uid: str,
    destination: str,
    *,
    what: str,
    do: str,
    status: int | None,
) -> None:
    """Note that the destination will not take the object; a person decides."""
    study_uid = db.execute(
        update(delivery)
        .where(_one(sop_instance_uid, destination, DeliveryState.PENDING))
        .values(state=DeliveryState.REFUSED.value, what=what, do=do, status=status)
        .returning(delivery.c.study_uid)
    ).scalar_one_or_none()
    if study_uid is not None:
        events.record(db, "refused", study_uid=study_uid, subject=destination, detail=what)


# --- storage commitment ----------------------------------------------------------------------


def claim_uncommitted(db: Connection, destination: str, *, timeout_s: float) -> Commitment | None:
    """Open a transaction for what one study has sent and nobody has committed to.

    The row is there before the request leaves (PS3.4 J.3.2): the answer may be faster than
    the response. Without an answer the same objects are due again after ``timeout_s``.
    """
    due = _lock_due(db, destination, DeliveryState.SENT)
    if not due:
        return None
    transaction_uid = f"2.25.{uuid.uuid4().int}"
    db.execute(
        update(delivery)
        .where(_locked(due, destination))
        .values(transaction_uid=transaction_uid, next_attempt_at=database_now() + timeout_s)
    )
    rows = db.execute(
        select(artifact.c.sop_class_uid, artifact.c.sop_instance_uid).where(
            artifact.c.sop_instance_uid.in_(due)
        )
    ).all()
    row = {
        "transaction_uid": transaction_uid,
        "destination": destination,
        "requested_at": database_now(),
    }
    insert_if_new(db, commitment, row)
    return Commitment(transaction_uid, destination, tuple((r[0], r[1]) for r in rows))


def _destination_of(db: Connection, transaction_uid: str) -> str | None:
    return db.execute(
        update(commitment)
        .where(commitment.c.transaction_uid == transaction_uid)
        .values(answered_at=database_now())
        .returning(commitment.c.destination)
    ).scalar_one_or_none()


def mark_committed(db: Connection, transaction_uid: str, sop_instance_uids: Sequence[str]) -> int:
    """Note what the destination has committed to; the number of deliveries this finished.

    Objects of an earlier transaction count as well: a late answer is an answer.
    """
    destination = _destination_of(db, transaction_uid)
    if destination is None:
        return 0
    rows = db.execute(
        update(delivery)
        .where(
            delivery.c.destination == destination,
            delivery.c.sop_instance_uid.in_(list(sop_instance_uids)),
            delivery.c.state == DeliveryState.SENT,
        )
        .values(state=DeliveryState.COMMITTED.value, committed_at=database_now(), what=None)
        .returning(delivery.c.study_uid)
    ).scalars()
    finished = list(rows)
    for study_uid in finished:
        events.record(db, "committed", study_uid=study_uid, subject=destination)
    return len(finished)


def mark_uncommitted(
    db: Connection, transaction_uid: str, failures: Sequence[tuple[str, int]]
) -> int:
    """Send again what the destination cannot commit to; the number of deliveries concerned.

    Args:
        db: In a transaction.
        transaction_uid: Of the request that was answered.
        failures: (SOP Instance UID, Failure Reason of PS3.3 C.14.1.1) of each.
    """
    destination = _destination_of(db, transaction_uid)
    if destination is None:
        return 0
    concerned = 0
    for sop_instance_uid, reason in failures:
        lost = and_(
            _one(sop_instance_uid, destination, DeliveryState.SENT),
            delivery.c.transaction_uid == transaction_uid,
        )
        row = db.execute(
            select(delivery.c.study_uid, delivery.c.attempts).where(lost).with_for_update()
        ).one_or_none()
        if row is None:
            continue
        concerned += 1
        # Sent again ever less often: some destinations take every object and commit to none.
        doubled_s = RESEND_S * 2.0 ** min(row.attempts - 1, 20)
        what = f"'{destination}' could not commit to the object: reason 0x{reason:04X}."
        db.execute(
            update(delivery)
            .where(lost)
            .values(
                state=DeliveryState.PENDING.value,
                transaction_uid=None,
                what=what,
                next_attempt_at=database_now() + min(doubled_s, LONGEST_RESEND_S),
            )
        )
        events.record(
            db, "not_committed", study_uid=row.study_uid, subject=destination, detail=what
        )
    return concerned


RESEND_S = 5.0
"""A PACS that lost an object gets it again after this long; doubled each time that it does."""
LONGEST_RESEND_S = 900.0


def abandon_commitment(
    db: Connection, transaction_uid: str, *, what: str, retry_in_s: float
) -> None:
    """Note that the request could not be made; it is due again after ``retry_in_s``."""
    db.execute(
        update(delivery)
        .where(
            delivery.c.transaction_uid == transaction_uid,
            delivery.c.state == DeliveryState.SENT,
        )
        .values(what=what, next_attempt_at=database_now() + retry_in_s)
    )


# --- by a person -----------------------------------------------------------------------------


def retry(db: Connection, sop_instance_uids: Sequence[str], destination: str | None) -> int:
    """Send refused or canceled objects again; the number of deliveries concerned."""
    closed = (DeliveryState.REFUSED.value, DeliveryState.CANCELED.value)
    which = and_(
        delivery.c.sop_instance_uid.in_(list(sop_instance_uids)), delivery.c.state.in_(closed)
    )
    if destination is not None:
        which = and_(which, delivery.c.destination == destination)
    concerned = db.execute(
        update(delivery)
        .where(which)
        .values(state=DeliveryState.PENDING.value, next_attempt_at=database_now())
        .returning(delivery.c.study_uid, delivery.c.destination)
    ).all()
    return _told(db, "delivery_retried", concerned)


def cancel(db: Connection, sop_instance_uids: Sequence[str]) -> int:
    """Stop sending objects that no destination has yet; the number of deliveries concerned."""
    open_states = (DeliveryState.PENDING.value, DeliveryState.REFUSED.value)
    concerned = db.execute(
        update(delivery)
        .where(
            delivery.c.sop_instance_uid.in_(list(sop_instance_uids)),
            delivery.c.state.in_(open_states),
        )
        .values(state=DeliveryState.CANCELED.value)
        .returning(delivery.c.study_uid, delivery.c.destination)
    ).all()
    return _told(db, "delivery_canceled", concerned)


def _told(db: Connection, kind: str, concerned: Sequence[Row[Any]]) -> int:
    """Note what a person decided about each of these (study UID, destination); how many."""
    for row in concerned:
        events.record(db, kind, study_uid=row.study_uid, subject=row.destination)
    return len(concerned)
