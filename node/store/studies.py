"""Instances, series, studies: what has arrived, and when nothing more is expected.

receiving ──quiet, nothing feeds it──▶ complete
    ▲                                     │
    └──────────late instance──────────────┘   and complete again: the next revision
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, case, delete, exists, insert, or_, select, true, update

from node.clock import database_now
from node.domain import CompletedSeries, CompletedStudy, PlannedJob, StoredInstance, StudyState
from node.store import events, transfers
from node.store.tables import association, instance, series, study

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
    # The study before its series, and one after the other by their keys, as whoever receives.
    for fed, same in (
        (study, instance.c.study_uid == study.c.study_uid),
        (
            series,
            and_(
                instance.c.study_uid == series.c.study_uid,
                instance.c.series_uid == series.c.series_uid,
            ),
        ),
    ):
        key = fed.primary_key
        sent = exists().where(same, instance.c.association_id.in_(theirs))
        fed_by_them = (
            select(*key)
            .where(fed.c.state == StudyState.RECEIVING, sent)
            .order_by(*key)
            .with_for_update()
        )
        for row in db.execute(fed_by_them).all():
            this = and_(*(column == value for column, value in zip(key, row, strict=True)))
            db.execute(update(fed).where(this).values(last_instance_at=database_now()))
    db.execute(delete(association).where(association.c.listener == listener))


# --- completing ------------------------------------------------------------------------------


def quiet_s(default_s: float, by_modality: Mapping[str, float]) -> ColumnElement[float] | float:
    """Return the quiet time of a row of ``series``: a default, and others for some modalities."""
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

    What a listener is writing to at this moment is not quiet, and is not waited for.

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
        series.c.last_instance_at <= database_now() - quiet_s(default_s, by_modality),
        ~_is_fed(),
    )
    rows = db.execute(
        select(series.c.study_uid, series.c.series_uid, series.c.modality, series.c.revision + 1)
        .where(quiet)
        .order_by(*series.primary_key)
        .with_for_update(skip_locked=True)
    )
    done = tuple(CompletedSeries(*row) for row in rows)
    for one in done:
        db.execute(
            update(series)
            .where(series.c.study_uid == one.study_uid, series.c.series_uid == one.series_uid)
            .values(
                state=StudyState.COMPLETE.value, revision=one.revision, completed_at=database_now()
            )
        )
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
    """Close every study that is quiet and whose series are all complete; return their UIDs.

    One that a listener is writing to at this moment is not quiet, and is not waited for.
    """
    receiving = study.c.state == StudyState.RECEIVING
    _bring_back(db, study.c.last_instance_at, receiving)
    busy = exists(
        select(series.c.series_uid).where(
            series.c.study_uid == study.c.study_uid,
            or_(
                series.c.state == StudyState.RECEIVING,
                study.c.last_instance_at > database_now() - quiet_s(default_s, by_modality),
            ),
        )
    )
    rows = db.execute(
        select(study.c.study_uid, study.c.revision + 1)
        .where(receiving, ~busy)
        .order_by(study.c.study_uid)
        .with_for_update(skip_locked=True)
    )
    done = tuple(CompletedStudy(*row) for row in rows)
    for one in done:
        db.execute(
            update(study)
            .where(study.c.study_uid == one.study_uid)
            .values(
                state=StudyState.COMPLETE.value,
                revision=one.revision,
                completed_at=database_now(),
                route_at=None,
            )
        )
        transfers.record_received(db, one.study_uid)
        events.record(
            db, "study_complete", study_uid=one.study_uid, detail=f"revision {one.revision}"
        )
    return tuple(one.study_uid for one in done)


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
