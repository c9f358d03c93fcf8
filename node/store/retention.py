"""What may go: studies that are final, and what is removed of them.

A study is final when nothing of it is still to happen: it is complete and routed, no job on it
waits, runs or is quarantined, every delivery of it is committed, canceled by a person, or sent to
a destination that is not asked to commit, and no content is set aside beside one of its instances.

Its instances lose their rows, so that one that comes again is new. The rows of studies, series,
jobs, results and deliveries stay. The files are in ``removal`` until they are gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import (
    and_,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)

from node.clock import database_now
from node.domain import OPEN_JOB_STATES, DeliveryState, JobState, StudyState
from node.store import deliveries, events, jobs, removals
from node.store.tables import (
    artifact,
    conflict,
    delivery,
    instance,
    job,
    safekeeping,
    series,
    study,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import ColumnElement, Connection, ScalarSelect


@dataclass(frozen=True)
class Released:
    """What was given up of one study."""

    study_uid: str
    files: int
    size_bytes: int

    @property
    def in_words(self) -> str:
        """For the event."""
        return f"{self.files} files, {self.size_bytes / 1e6:.1f} MB"


# --- what is final ---------------------------------------------------------------------------


def is_settled(uncommitting: Collection[str]) -> ColumnElement[bool]:
    """Whether nothing more becomes of a row of ``delivery``.

    Args:
        uncommitting: Names of the destinations that are not asked to commit.
    """
    closed = (DeliveryState.COMMITTED.value, DeliveryState.CANCELED.value)
    return or_(
        delivery.c.state.in_(closed),
        and_(
            delivery.c.state == DeliveryState.SENT.value,
            delivery.c.destination.in_(list(uncommitting)),
        ),
    )


def _delivery_of_study(*which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether a delivery of the results of this row of ``study`` is as ``which`` says."""
    return exists(
        select(job.c.id)
        .join(artifact, artifact.c.job_id == job.c.id)
        .join(delivery, delivery.c.sop_instance_uid == artifact.c.sop_instance_uid)
        .where(job.c.study_uid == study.c.study_uid, *which)
    )


def _is_final(uncommitting: Collection[str]) -> ColumnElement[bool]:
    """Whether this row of ``study`` is final."""
    of_study = series.c.study_uid == study.c.study_uid
    expected = or_(
        series.c.state != StudyState.COMPLETE.value, series.c.routed_revision < series.c.revision
    )
    unfinished = job.c.state.in_([*OPEN_JOB_STATES, JobState.QUARANTINED])
    set_aside = (
        select(conflict.c.digest)
        .join(instance, instance.c.sop_instance_uid == conflict.c.sop_instance_uid)
        .where(instance.c.study_uid == study.c.study_uid)
    )
    return and_(
        # Not "complete": another index would find those, and that is all there ever was.
        study.c.state != StudyState.RECEIVING.value,
        study.c.routed_revision >= study.c.revision,
        ~exists().where(of_study, expected),
        ~exists().where(job.c.study_uid == study.c.study_uid, unfinished),
        ~_delivery_of_study(~is_settled(uncommitting)),
        ~exists(set_aside),
    )


def _unchanged_for(seconds: float) -> ColumnElement[bool]:
    """Whether nothing has happened to this row of ``study`` for so long."""
    since = database_now() - seconds
    return and_(
        study.c.last_instance_at <= since,
        func.coalesce(study.c.completed_at, 0.0) <= since,
        ~exists().where(job.c.study_uid == study.c.study_uid, job.c.finished_at > since),
        ~_delivery_of_study(
            or_(
                delivery.c.planned_at > since,
                delivery.c.sent_at > since,
                delivery.c.committed_at > since,
            )
        ),
    )


def _is_analysed() -> ColumnElement[bool]:
    return exists().where(
        job.c.study_uid == study.c.study_uid, job.c.state == JobState.COMPLETED.value
    )


def final_studies(
    db: Connection,
    uncommitting: Collection[str],
    *,
    for_s: float,
    analysed: bool = False,
    limit: int = 100,
) -> tuple[str, ...]:
    """Return studies whose instances may go, the oldest first.

    Args:
        db: A connection.
        uncommitting: As ``is_settled``.
        for_s: How long nothing has happened to them.
        analysed: Only such as a job was completed on: not those that no route takes.
        limit: How many at most.
    """
    query = (
        select(study.c.study_uid)
        .where(
            study.c.released_revision < study.c.revision,
            _is_final(uncommitting),
            _unchanged_for(for_s),
            # Who was told that they are safe here may have deleted them: a person decides.
            ~exists().where(safekeeping.c.study_uid == study.c.study_uid),
        )
        .order_by(study.c.last_instance_at)
        .limit(limit)
    )
    return tuple(db.execute(query.where(_is_analysed()) if analysed else query).scalars())


def final_results(
    db: Connection, uncommitting: Collection[str], *, for_s: float, limit: int = 100
) -> tuple[str, ...]:
    """Return studies without instances whose results may go too, the oldest first."""
    old = (
        select(job.c.study_uid)
        .join(artifact, artifact.c.job_id == job.c.id)
        .where(artifact.c.released_at.is_(None), artifact.c.written_at <= database_now() - for_s)
    )
    rows = db.execute(
        select(study.c.study_uid)
        .where(
            study.c.study_uid.in_(old),
            study.c.released_revision >= study.c.revision,
            _is_final(uncommitting),
            _unchanged_for(for_s),
        )
        .order_by(study.c.last_instance_at)
        .limit(limit)
    )
    return tuple(rows.scalars())


# --- giving up -------------------------------------------------------------------------------


def _locked(db: Connection, study_uid: str, *which: ColumnElement[bool]) -> bool:
    """Lock a study if it is as ``which`` says, in the order in which a listener locks."""
    theirs = select(instance.c.sop_instance_uid).where(instance.c.study_uid == study_uid)
    db.execute(theirs.order_by(instance.c.sop_instance_uid).with_for_update())
    this = select(study.c.study_uid).where(study.c.study_uid == study_uid)
    if db.execute(this.with_for_update()).one_or_none() is None:
        return False
    # What another has changed before the lock is seen by a statement that begins after it.
    return db.execute(this.where(*which)).one_or_none() is not None


def release_study(
    db: Connection, study_uid: str, uncommitting: Collection[str], *, why: str, for_s: float = 0.0
) -> Released | None:
    """Give up the received instances of a study; None if it is not final (any more).

    Args:
        db: In a transaction. When it is committed, nobody looks for the files any more.
        study_uid: The study.
        uncommitting: As ``is_settled``.
        why: For the event.
        for_s: As ``final_studies``.
    """
    is_kept = study.c.released_revision < study.c.revision
    if not _locked(db, study_uid, is_kept, _is_final(uncommitting), _unchanged_for(for_s)):
        return None
    _count_instances(db, study_uid)
    theirs = instance.c.study_uid == study_uid
    released = Released(study_uid, *removals.add_instances(db, theirs))
    db.execute(delete(instance).where(theirs))
    _forget_unfinished(db, study_uid)
    db.execute(
        update(study)
        .where(study.c.study_uid == study_uid)
        .values(released_revision=study.c.revision)
    )
    detail = f"{released.in_words}: {why}"
    events.record(db, "study_released", study_uid=study_uid, detail=detail)
    return released


def _instances_there() -> ScalarSelect[int]:
    """Return how many instances of this row of ``series`` there are."""
    return (
        select(func.count())
        .where(
            instance.c.study_uid == series.c.study_uid,
            instance.c.series_uid == series.c.series_uid,
            ~instance.c.own_result,
        )
        .scalar_subquery()
    )


def _count_instances(db: Connection, study_uid: str) -> None:
    """Note how many instances of each series go: with fewer it is not whole, if it comes again."""
    there = _instances_there()
    db.execute(
        update(series)
        .where(series.c.study_uid == study_uid, there > series.c.released_instances)
        .values(released_instances=there)
    )


def _forget_unfinished(db: Connection, study_uid: str) -> None:
    """Give up what jobs that were canceled had made: nobody was sent any of it."""
    canceled = select(job.c.id).where(
        job.c.study_uid == study_uid, job.c.state == JobState.CANCELED.value
    )
    removals.add_results(db, canceled)
    sent = exists().where(delivery.c.sop_instance_uid == artifact.c.sop_instance_uid)
    db.execute(delete(artifact).where(artifact.c.job_id.in_(canceled), ~sent))


def release_results(
    db: Connection, study_uid: str, uncommitting: Collection[str], *, why: str, for_s: float = 0.0
) -> Released | None:
    """Give up the results of a study, as files; None if it is not final, or not released.

    Args:
        db: In a transaction.
        study_uid: The study.
        uncommitting: As ``is_settled``.
        why: For the event.
        for_s: As ``final_studies``.
    """
    is_released = study.c.released_revision >= study.c.revision
    if not _locked(db, study_uid, is_released, _is_final(uncommitting), _unchanged_for(for_s)):
        return None
    kept = and_(
        artifact.c.job_id.in_(select(job.c.id).where(job.c.study_uid == study_uid)),
        artifact.c.released_at.is_(None),
    )
    released = Released(study_uid, *removals.add_results(db, select(artifact.c.job_id).where(kept)))
    if not released.files:
        return None
    db.execute(update(artifact).where(kept).values(released_at=database_now()))
    detail = f"{released.in_words}: {why}"
    events.record(db, "results_released", study_uid=study_uid, detail=detail)
    return released


def release_own_results(db: Connection, *, for_s: float, limit: int = 1000) -> int:
    """Give up results of ours that came back, and that nobody analyses; how many.

    Their study is not asked: it may never have come.
    """
    set_aside = exists().where(conflict.c.sop_instance_uid == instance.c.sop_instance_uid)
    old = (
        select(instance.c.sop_instance_uid)
        .where(instance.c.own_result, instance.c.received_at <= database_now() - for_s, ~set_aside)
        .order_by(instance.c.received_at)
        .limit(limit)
    )
    uids = tuple(db.execute(old.with_for_update(skip_locked=True)).scalars())
    theirs = instance.c.sop_instance_uid.in_(uids)
    files, _ = removals.add_instances(db, theirs)
    if files:
        db.execute(delete(instance).where(theirs))
        detail = f"{files} results of this node that had come back to it"
        events.record(db, "own_results_released", detail=detail)
    return files


# --- by a person -----------------------------------------------------------------------------


def is_arriving(db: Connection, study_uid: str) -> bool:
    """Whether instances of a study may still come."""
    receiving = StudyState.RECEIVING.value
    series_too = exists().where(series.c.study_uid == study_uid, series.c.state == receiving)
    study_too = exists().where(study.c.study_uid == study_uid, study.c.state == receiving)
    return bool(db.execute(select(or_(series_too, study_too))).scalar_one())


def discard(db: Connection, study_uid: str, *, person: str, reason: str) -> None:
    """Cancel all that is still to happen to a study, so that it is final.

    Args:
        db: In a transaction, in which the study is then released.
        study_uid: Of a study that is not arriving.
        person: Who decided.
        reason: Why, in words that identify no patient.
    """
    _locked(db, study_uid)
    events.record(db, "study_discarded", study_uid=study_uid, subject=person, detail=reason)
    for table in (series, study):
        values = {"routed_revision": table.c.revision, "route_at": None}
        db.execute(update(table).where(table.c.study_uid == study_uid).values(values))
    of_study = select(job.c.id).where(job.c.study_uid == study_uid)
    for job_id in tuple(db.execute(of_study).scalars()):
        jobs.cancel(db, job_id)
    made = select(artifact.c.sop_instance_uid).where(artifact.c.job_id.in_(of_study))
    deliveries.cancel(db, tuple(db.execute(made).scalars()))
    # Sent, and its destination owes an answer: nobody waits for that any more.
    db.execute(
        update(delivery)
        .where(delivery.c.sop_instance_uid.in_(made), delivery.c.state == DeliveryState.SENT.value)
        .values(state=DeliveryState.CANCELED.value)
    )
    beside = select(instance.c.sop_instance_uid).where(instance.c.study_uid == study_uid)
    which = conflict.c.sop_instance_uid.in_(beside)
    removals.add_conflicts(db, which)
    db.execute(delete(conflict).where(which))


# --- what has come again ---------------------------------------------------------------------


def lacking(db: Connection, study_uid: str, series_uid: str | None = None) -> int:
    """Return how many instances that were released have not come again.

    Of one series, or of all series of the study.
    """
    there = _instances_there()
    which = [series.c.study_uid == study_uid, series.c.released_instances > there]
    if series_uid is not None:
        which.append(series.c.series_uid == series_uid)
    number = func.coalesce(func.sum(series.c.released_instances - there), 0)
    return int(db.execute(select(number).where(*which)).scalar_one())


def tell_lacking(db: Connection, study_uid: str, modality: str | None, lacking: int) -> None:
    """Record that a series, or with ``None`` a study, is not analysed since it is not whole."""
    events.record(
        db,
        "not_planned",
        study_uid=study_uid,
        subject=modality,
        detail=f"{lacking} of its instances were released and have not come again: what is here is "
        "a part, and is not analysed. Have all of it sent again.",
    )


def is_released(db: Connection, study_uid: str) -> bool:
    """Whether a study has no instances any more."""
    there = exists().where(instance.c.study_uid == study_uid, ~instance.c.own_result)
    return not db.execute(select(there)).scalar_one()
