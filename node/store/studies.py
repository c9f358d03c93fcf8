"""Instances, series, studies: what has arrived, and when nothing more is expected.

receiving ──quiet, nothing feeds it──▶ complete
    ▲                                     │
    └──────────late instance──────────────┘   and complete again: the next revision
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, case, delete, exists, insert, null, or_, select, true, update

from node.clock import database_now
from node.domain import (
    CompletedSeries,
    PlannedJob,
    Receipt,
    ReceivedInstance,
    StoredInstance,
    StudyState,
)
from node.store import events
from node.store.statements import insert_if_new, insert_or_update
from node.store.tables import association, conflict, instance, series, study

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Column, ColumnElement, Connection

ASSOCIATION_SILENCE_S = 60.0
"""A listener that has not said for this long that an association is open has died with it."""
AHEAD_S = 5.0
"""A time further ahead than this was written before the clock was set back."""


FEEDING_S = 300.0
"""An association that has brought nothing of a series for this long does not feed it: routers
keep theirs open for days."""


# --- associations ----------------------------------------------------------------------------


def open_association(
    db: Connection, association_id: str, *, listener: str, calling_ae: str
) -> None:
    """Note that an association is open: what it feeds is not complete."""
    now = database_now()
    row = {"id": association_id, "listener": listener, "calling_ae": calling_ae}
    db.execute(insert(association).values(**row, opened_at=now, seen_at=now))


def touch_associations(db: Connection, listener: str) -> None:
    """Say that the open associations of ``listener`` are still open."""
    db.execute(
        update(association).where(association.c.listener == listener).values(seen_at=database_now())
    )


def close_association(db: Connection, association_id: str) -> None:
    """Note that an association has ended, in whatever way."""
    db.execute(delete(association).where(association.c.id == association_id))


def close_associations_of(db: Connection, listener: str) -> None:
    """Forget the associations of a listener that has just started, or ends.

    Their senders come back: what they were sending has its whole quiet time before it again.
    """
    theirs = select(association.c.id).where(association.c.listener == listener)
    for fed, uid in ((series, "series_uid"), (study, "study_uid")):
        sent = select(instance.c[uid]).where(instance.c.association_id.in_(theirs))
        db.execute(
            update(fed)
            .where(fed.c.state == StudyState.RECEIVING, fed.c[uid].in_(sent))
            .values(last_instance_at=database_now())
        )
    db.execute(delete(association).where(association.c.listener == listener))


# --- receiving -------------------------------------------------------------------------------


def record_instance(db: Connection, received: ReceivedInstance) -> Receipt:
    """Index one durable instance, and set the timers of its series and study back."""
    now = database_now()
    row = {
        "sop_instance_uid": received.sop_instance_uid,
        "sop_class_uid": received.sop_class_uid,
        "study_uid": received.study_uid,
        "series_uid": received.series_uid,
        "transfer_syntax_uid": received.transfer_syntax_uid,
        "digest": received.digest,
        "path": received.path,
        "size_bytes": received.size_bytes,
        "calling_ae": received.calling_ae,
        "association_id": received.association_id,
        "own_result": received.own_result,
        "resends": 0,
        "received_at": now,
    }
    if not insert_if_new(db, instance, row):
        return _received_again(db, received)
    if received.own_result:
        events.record(db, "own_result_returned", study_uid=received.study_uid)
        return Receipt.NEW
    state = StudyState.RECEIVING.value
    insert_or_update(
        db,
        study,
        {
            "study_uid": received.study_uid,
            "state": state,
            "revision": 0,
            "received_at": now,
            "last_instance_at": now,
            "routed_revision": 0,
        },
        {"state": state, "last_instance_at": now},
    )
    insert_or_update(
        db,
        series,
        {
            "study_uid": received.study_uid,
            "series_uid": received.series_uid,
            "modality": received.modality,
            "state": state,
            "revision": 0,
            "routed_revision": 0,
            "last_instance_at": now,
        },
        {"state": state, "last_instance_at": now},
    )
    return Receipt.NEW


def _received_again(db: Connection, received: ReceivedInstance) -> Receipt:
    same_uid = instance.c.sop_instance_uid == received.sop_instance_uid
    first = db.execute(select(instance.c.digest).where(same_uid)).scalar_one()
    if first == received.digest:
        _hold_open(db, received)
        return Receipt.RESENT
    row = {
        "sop_instance_uid": received.sop_instance_uid,
        "digest": received.digest,
        "path": received.path,
        "calling_ae": received.calling_ae,
        "received_at": database_now(),
    }
    if insert_if_new(db, conflict, row):
        events.record(
            db,
            "instance_conflict",
            study_uid=received.study_uid,
            subject=received.calling_ae,
            detail="An instance came again with other content; the first one is kept.",
        )
    return Receipt.CONFLICT


def _hold_open(db: Connection, received: ReceivedInstance) -> None:
    """Count a resend. A series that is still open stays so: its sender is not done with it."""
    now = database_now()
    db.execute(
        update(instance)
        .where(instance.c.sop_instance_uid == received.sop_instance_uid)
        .values(
            resends=instance.c.resends + 1,
            association_id=received.association_id,
            received_at=now,
        )
    )
    for table, same in (
        (study, study.c.study_uid == received.study_uid),
        (
            series,
            and_(
                series.c.study_uid == received.study_uid,
                series.c.series_uid == received.series_uid,
            ),
        ),
    ):
        is_open = and_(same, table.c.state == StudyState.RECEIVING)
        db.execute(update(table).where(is_open).values(last_instance_at=now))


# --- completing ------------------------------------------------------------------------------


def _quiet_s(default_s: float, by_modality: Mapping[str, float]) -> ColumnElement[float] | float:
    if not by_modality:
        return default_s
    return case(dict(by_modality), value=series.c.modality, else_=default_s)


def _is_fed() -> ColumnElement[bool]:
    """Whether an open association has lately brought an instance of this row of ``series``."""
    return exists(
        select(association.c.id)
        .join(instance, instance.c.association_id == association.c.id)
        .where(
            instance.c.study_uid == series.c.study_uid,
            instance.c.series_uid == series.c.series_uid,
            association.c.seen_at > database_now() - ASSOCIATION_SILENCE_S,
            instance.c.received_at > database_now() - FEEDING_S,
        )
    )


def _bring_back(db: Connection, at: Column[float], *among: ColumnElement[bool]) -> None:
    """Set the times in ``at`` that lie ahead to now: the clock was set back since.

    A wait that began then begins anew, or it would last for as long as the step was wide.
    """
    ahead = at > database_now() + AHEAD_S
    db.execute(update(at.table).where(ahead, *among).values({at: database_now()}))


def anything_receiving(db: Connection) -> bool:
    """Whether any series or study is not complete: a read, so that an idle node locks nothing."""
    receiving = exists(
        select(series.c.series_uid).where(series.c.state == StudyState.RECEIVING)
    ) | exists(select(study.c.study_uid).where(study.c.state == StudyState.RECEIVING))
    return bool(db.execute(select(receiving)).scalar_one())


def complete_series(
    db: Connection, default_s: float, by_modality: Mapping[str, float]
) -> tuple[CompletedSeries, ...]:
    """Close every series that is quiet and that no open association feeds.

    Args:
        db: In a transaction.
        default_s: Quiet time of most series.
        by_modality: Quiet time of the others.
    """
    receiving = series.c.state == StudyState.RECEIVING
    _bring_back(db, series.c.last_instance_at, receiving)
    _bring_back(db, association.c.seen_at)
    quiet = and_(
        receiving,
        series.c.last_instance_at <= database_now() - _quiet_s(default_s, by_modality),
        ~_is_fed(),
    )
    rows = db.execute(
        update(series)
        .where(quiet)
        .values(
            state=StudyState.COMPLETE.value,
            revision=series.c.revision + 1,
            completed_at=database_now(),
        )
        .returning(series.c.study_uid, series.c.series_uid, series.c.modality, series.c.revision)
    ).all()
    done = tuple(CompletedSeries(*row) for row in rows)
    for one in done:
        events.record(
            db,
            "series_complete",
            study_uid=one.study_uid,
            subject=one.modality,
            detail=f"revision {one.revision}",
        )
    return done


def complete_studies(
    db: Connection, default_s: float, by_modality: Mapping[str, float]
) -> tuple[str, ...]:
    """Close every study that is quiet and whose series are all complete; return their UIDs."""
    receiving = study.c.state == StudyState.RECEIVING
    _bring_back(db, study.c.last_instance_at, receiving)
    busy = exists(
        select(series.c.series_uid).where(
            series.c.study_uid == study.c.study_uid,
            or_(
                series.c.state == StudyState.RECEIVING,
                study.c.last_instance_at > database_now() - _quiet_s(default_s, by_modality),
            ),
        )
    )
    rows = db.execute(
        update(study)
        .where(receiving, ~busy)
        .values(
            state=StudyState.COMPLETE.value,
            revision=study.c.revision + 1,
            completed_at=database_now(),
            route_at=null(),
        )
        .returning(study.c.study_uid, study.c.revision)
    ).all()
    for row in rows:
        events.record(
            db, "study_complete", study_uid=row.study_uid, detail=f"revision {row.revision}"
        )
    return tuple(row.study_uid for row in rows)


# --- what has come ---------------------------------------------------------------------------


def series_of(db: Connection, study_uid: str) -> tuple[CompletedSeries, ...]:
    """Return every series of a study, complete or not."""
    rows = db.execute(
        select(series.c.study_uid, series.c.series_uid, series.c.modality, series.c.revision)
        .where(series.c.study_uid == study_uid)
        .order_by(series.c.series_uid)
    )
    return tuple(CompletedSeries(*row) for row in rows)


def instances_of(
    db: Connection, study_uid: str, series_uid: str, sop_instance_uid: str = ""
) -> tuple[StoredInstance, ...]:
    """Return the instances of one series, or one, in an order not that of their arrival."""
    one = instance.c.sop_instance_uid == sop_instance_uid if sop_instance_uid else true()
    rows = db.execute(
        select(
            instance.c.sop_instance_uid,
            instance.c.sop_class_uid,
            instance.c.digest,
            instance.c.path,
        )
        .where(
            instance.c.study_uid == study_uid,
            instance.c.series_uid == series_uid,
            one,
            ~instance.c.own_result,
        )
        .order_by(instance.c.sop_instance_uid)
    )
    return tuple(StoredInstance(*row) for row in rows)


def instances_by_input(db: Connection, job: PlannedJob) -> dict[str, tuple[StoredInstance, ...]]:
    """Return what a job judges, by the names of its inputs; under "" if it judges one series."""
    if job.series_uid:
        return {"": instances_of(db, job.study_uid, job.series_uid, job.sop_instance_uid)}
    return {one.name: instances_of(db, job.study_uid, one.series_uid) for one in job.inputs}


def calling_aes_of(db: Connection, study_uid: str, series_uid: str) -> tuple[str, ...]:
    """Return the AE titles that sent instances of one series."""
    rows = db.execute(
        select(instance.c.calling_ae)
        .where(
            instance.c.study_uid == study_uid,
            instance.c.series_uid == series_uid,
            ~instance.c.own_result,
        )
        .distinct()
    )
    return tuple(sorted(rows.scalars()))
