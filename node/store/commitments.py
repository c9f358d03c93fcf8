"""Storage commitment: what each destination was asked to answer for, and what it answered."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from sqlalchemy import and_, select, update

from node.clock import LONGEST_WAIT_S, database_now
from node.domain import Commitment, DeliveryState
from node.store import events
from node.store.deliveries import among, lock_due
from node.store.statements import insert_if_new
from node.store.tables import artifact, commitment, delivery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

RESEND_S = 5.0
"""A PACS that lost an object gets it again after this long; doubled each time that it does."""
LONGEST_RESEND_S = 900.0


def is_known(db: Connection, transaction_uid: str) -> bool:
    """Whether this node has ever asked under ``transaction_uid``."""
    found = select(commitment.c.transaction_uid).where(
        commitment.c.transaction_uid == transaction_uid
    )
    return db.execute(found).one_or_none() is not None


def is_answered(db: Connection, transaction_uid: str) -> bool:
    """Whether a report under ``transaction_uid`` has come, by whatever way."""
    answered_at = select(commitment.c.answered_at).where(
        commitment.c.transaction_uid == transaction_uid
    )
    return db.execute(answered_at).scalar_one_or_none() is not None


def longest_wait_s(timeout_s: float) -> float:
    """Return how far ahead a question may be due; further, the clock was set back since."""
    return max(LONGEST_WAIT_S, timeout_s + 60.0)


def claim_uncommitted(db: Connection, destination: str, *, timeout_s: float) -> Commitment | None:
    """Open a transaction for what one study has sent and nobody has committed to.

    The row is there before the request leaves (PS3.4 J.3.2): the answer may be faster than
    the response. Without an answer the same objects are due again after ``timeout_s``.
    """
    due = lock_due(db, destination, DeliveryState.SENT, longest_wait_s=longest_wait_s(timeout_s))
    if not due:
        return None
    transaction_uid = f"2.25.{uuid.uuid4().int}"
    db.execute(
        update(delivery)
        .where(among(due, destination))
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


def abandon_commitment(
    db: Connection, transaction_uid: str, *, what: str, retry_in_s: float
) -> None:
    """Note that the request could not be made; it is due again after ``retry_in_s``."""
    asked = select(commitment.c.destination).where(commitment.c.transaction_uid == transaction_uid)
    db.execute(
        update(delivery)
        .where(
            # Among what waits there for an answer: no index has all transactions there ever were.
            delivery.c.destination == asked.scalar_subquery(),
            delivery.c.state == DeliveryState.SENT,
            delivery.c.transaction_uid == transaction_uid,
        )
        .values(what=what, next_attempt_at=database_now() + retry_in_s)
    )


def mark_committed(db: Connection, transaction_uid: str, sop_instance_uids: Sequence[str]) -> int:
    """Note what the destination has committed to; the number of deliveries this finished.

    Objects of an earlier transaction count as well: a late answer is an answer.
    """
    destination = _answered_by(db, transaction_uid)
    if destination is None:
        return 0
    rows = db.execute(
        update(delivery)
        .where(among(sop_instance_uids, destination), delivery.c.state == DeliveryState.SENT)
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
    destination = _answered_by(db, transaction_uid)
    if destination is None:
        return 0
    concerned = 0
    for sop_instance_uid, reason in failures:
        lost = and_(
            among([sop_instance_uid], destination),
            delivery.c.state == DeliveryState.SENT,
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


def _answered_by(db: Connection, transaction_uid: str) -> str | None:
    """Note that an answer came; the destination that was asked, None if nobody was."""
    return db.execute(
        update(commitment)
        .where(commitment.c.transaction_uid == transaction_uid)
        .values(answered_at=database_now())
        .returning(commitment.c.destination)
    ).scalar_one_or_none()
