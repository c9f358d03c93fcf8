"""Result objects and their way to each destination.

pending ──accepted──▶ sent ──N-EVENT-REPORT──▶ committed
   ▲ │ └──said no──▶ refused ──retry by a person──▶ pending
   │ └── not reached: tried again, for ever; ``next_attempt_at`` says when
   └──── the destination could not commit to it: sent again
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, func, select, update

from node.clock import LONGEST_WAIT_S, database_now, is_due
from node.domain import Artifact, DeliveryState, DueDelivery
from node.store import events, transfers
from node.store.statements import insert_if_new
from node.store.tables import artifact, delivery, job

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

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
    """Return the objects of one job that are durable and indexed, and not released."""
    columns = [artifact.c[name] for name in Artifact.__dataclass_fields__]
    kept = and_(artifact.c.job_id == job_id, artifact.c.released_at.is_(None))
    rows = db.execute(select(*columns).where(kept).order_by(artifact.c.role))
    return tuple(Artifact(*row) for row in rows)


def plan_deliveries(db: Connection, made: Sequence[Artifact], destination: str) -> None:
    """Note that these objects of a job go to ``destination``.

    In the transaction that completes the job, or that decides on other objects instead.
    """
    for one in made:
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


def lock_due(
    db: Connection,
    destination: str,
    state: DeliveryState,
    *,
    longest_wait_s: float = LONGEST_WAIT_S,
) -> tuple[str, ...]:
    """Lock the due objects of one study; return their SOP Instance UIDs.

    The study tried least often goes first, so that none which fails again and again keeps
    another waiting; of several, the most urgent; of those, the one that waits longest.
    """
    due = and_(
        delivery.c.destination == destination,
        delivery.c.state == state,
        is_due(delivery.c.next_attempt_at, longest_wait_s=longest_wait_s),
    )
    first = (
        select(delivery.c.study_uid)
        .join(artifact, artifact.c.sop_instance_uid == delivery.c.sop_instance_uid)
        .join(job, job.c.id == artifact.c.job_id)
        .where(due)
        .order_by(delivery.c.attempts, job.c.priority, delivery.c.planned_at, delivery.c.study_uid)
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


def among(sop_instance_uids: Collection[str], destination: str) -> ColumnElement[bool]:
    """Whether a delivery is that of one of these objects to ``destination``."""
    return and_(
        delivery.c.destination == destination,
        delivery.c.sop_instance_uid.in_(list(sop_instance_uids)),
    )


def claim_due(
    db: Connection, destination: str, *, lease_s: float = 60.0
) -> tuple[DueDelivery, ...]:
    """Take the due objects of one study for ``destination``: ``lock_due`` says which.

    Their attempts are counted, and nobody else takes them for ``lease_s``; a deliverer that
    dies frees them thereby.
    """
    sop_instance_uids = lock_due(db, destination, DeliveryState.PENDING)
    if not sop_instance_uids:
        return ()
    due = among(sop_instance_uids, destination)
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
            artifact.c.role,
            artifact.c.path,
            artifact.c.digest,
            delivery.c.attempts,
        )
        .join(artifact, artifact.c.sop_instance_uid == delivery.c.sop_instance_uid)
        .where(due)
        # Segmentations before the reports that refer to them, unless the destination chokes on one.
        .order_by(delivery.c.attempts, artifact.c.written_at, artifact.c.role)
    )
    claimed = tuple(DueDelivery(*row) for row in rows)
    events.record(
        db,
        "sending",
        study_uid=claimed[0].study_uid,
        subject=destination,
        detail=transfers.of_classes(one.sop_class_uid for one in claimed),
    )
    return claimed


def _pending(sop_instance_uid: str, destination: str) -> ColumnElement[bool]:
    return and_(among([sop_instance_uid], destination), delivery.c.state == DeliveryState.PENDING)


def give_back(db: Connection, sop_instance_uids: Collection[str], destination: str) -> None:
    """Make claimed objects that were not tried due again, as if they had not been claimed."""
    db.execute(
        update(delivery)
        .where(among(sop_instance_uids, destination), delivery.c.state == DeliveryState.PENDING)
        .values(attempts=delivery.c.attempts - 1, next_attempt_at=database_now())
    )


def mark_sent(
    db: Connection, sop_instance_uid: str, destination: str, *, status: int | None
) -> None:
    """Note that the destination accepted the object; ``status`` keeps its warning, if any.

    It holds the object then, whatever was decided while the object was on its way.
    """
    this = among([sop_instance_uid], destination)
    accepted = (DeliveryState.SENT.value, DeliveryState.COMMITTED.value)
    row = db.execute(
        select(delivery.c.study_uid, delivery.c.state, artifact.c.job_id, artifact.c.sop_class_uid)
        .join(artifact, artifact.c.sop_instance_uid == delivery.c.sop_instance_uid)
        .where(this, delivery.c.state.not_in(accepted))
        .with_for_update(of=delivery)
    ).one_or_none()
    if row is None:
        return
    db.execute(
        update(delivery)
        .where(this)
        .values(
            state=DeliveryState.SENT.value,
            status=status,
            sent_at=database_now(),
            next_attempt_at=database_now(),
            what=None,
            do=None,
        )
    )
    answered = "" if status is None else f", status 0x{status:04X}"
    events.record(
        db,
        "sent",
        study_uid=row.study_uid,
        job_id=row.job_id,
        subject=destination,
        detail=transfers.of_classes([row.sop_class_uid]) + answered,
    )
    if row.state == DeliveryState.CANCELED:
        events.record(
            db,
            "canceled_too_late",
            study_uid=row.study_uid,
            subject=destination,
            detail="It was on its way, and the destination has accepted it.",
        )


def mark_unsent(
    db: Connection, sop_instance_uid: str, destination: str, *, what: str, retry_in_s: float
) -> None:
    """Note why the object was not accepted this time, and when to try again."""
    db.execute(
        update(delivery)
        .where(_pending(sop_instance_uid, destination))
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
        .where(_pending(sop_instance_uid, destination))
        .values(state=DeliveryState.REFUSED.value, what=what, do=do, status=status)
        .returning(delivery.c.study_uid)
    ).scalar_one_or_none()
    if study_uid is not None:
        events.record(db, "refused", study_uid=study_uid, subject=destination, detail=what)


def fall_back(
    db: Connection, refused: DueDelivery, withdrawn: Collection[str], instead: Collection[str]
) -> bool:
    """Send other objects of the same result; False if there are none, and nothing is changed.

    Args:
        db: In one transaction, so that a destination never gets both or neither.
        refused: Its SOP class is not known at its destination.
        withdrawn: Roles that are not sent there any more.
        instead: Roles that are.
    """
    job_id = select(artifact.c.job_id).where(
        artifact.c.sop_instance_uid == refused.sop_instance_uid
    )
    of_job = artifacts_of(db, db.execute(job_id).scalar_one())
    others = [one for one in of_job if one.role in instead]
    if not others:
        return False
    uids = [one.sop_instance_uid for one in of_job if one.role in withdrawn]
    names = ", ".join(one.role for one in others)
    # Deleted, not canceled: a person's retry must not send both forms.
    db.execute(
        delete(delivery).where(
            among(uids, refused.destination), delivery.c.state == DeliveryState.PENDING
        )
    )
    plan_deliveries(db, others, refused.destination)
    events.record(
        db,
        "fell_back",
        study_uid=refused.study_uid,
        subject=refused.destination,
        detail=f"{refused.role} is not accepted: {names} instead",
    )
    return True


# --- a destination that is not configured any more -------------------------------------------


def _elsewhere(known: Collection[str]) -> ColumnElement[bool]:
    return delivery.c.destination.not_in(list(known))


def without_destination(db: Connection, known: Collection[str]) -> tuple[tuple[str, str], ...]:
    """Return (SOP Instance UID, destination) of what is to be sent, but not to one of ``known``."""
    rows = db.execute(
        select(delivery.c.sop_instance_uid, delivery.c.destination).where(
            _elsewhere(known), delivery.c.state == DeliveryState.PENDING
        )
    )
    return tuple((row[0], row[1]) for row in rows)


def unknown_destinations(db: Connection, known: Collection[str]) -> dict[str, int]:
    """Return, by name, how many objects no destination has accepted that is not in ``known``."""
    waiting = (DeliveryState.PENDING.value, DeliveryState.REFUSED.value)
    rows = db.execute(
        select(delivery.c.destination, func.count())
        .where(_elsewhere(known), delivery.c.state.in_(waiting))
        .group_by(delivery.c.destination)
        .order_by(delivery.c.destination)
    )
    return {row[0]: row[1] for row in rows}


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
