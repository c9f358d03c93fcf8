"""Jobs and their leases.

scheduled ──claim──▶ in_progress ──finish──▶ completed
    ▲                  │   │   └──third failure, closed gate──▶ quarantined
    └──fail, release───┘   └──lease expired: claimed again
canceled: by a person, or superseded. A person's retry schedules what is set aside or canceled.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, exists, insert, or_, select, update

from node.clock import database_now, is_due
from node.domain import (
    OPEN_JOB_STATES,
    JobInput,
    JobState,
    Lease,
    Outcome,
    PlannedJob,
    Priority,
)
from node.errors import LeaseLost
from node.store import events
from node.store.statements import spelled
from node.store.tables import job, job_input, outbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection, Row

LEASE_S = 60.0
MAXIMUM_ATTEMPTS = 3

IS_OPEN = job.c.state.not_in(
    [spelled(state.value) for state in JobState if state not in OPEN_JOB_STATES]
)
"""In the words of ``ix_job_open``, which has the most urgent first, and no history."""


# --- working ---------------------------------------------------------------------------------


def claim(db: Connection, worker_name: str) -> Lease | None:
    """Take the most urgent job that waits, or whose worker is gone. None if there is none.

    A job whose attempts are used up is quarantined here: its last worker died with it.
    """
    # Not "scheduled": another index would find those, and each of them would be put in order.
    waits = and_(job.c.state != JobState.IN_PROGRESS, is_due(job.c.next_attempt_at))
    while True:
        row = db.execute(
            select(job)
            .where(IS_OPEN, or_(waits, lost()))
            # One that failed goes behind those that came meanwhile: it may fail again.
            .order_by(job.c.priority, job.c.next_attempt_at, job.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).one_or_none()
        if row is None:
            return None
        if row.attempts < MAXIMUM_ATTEMPTS:
            return _lease(db, row, worker_name)
        _close(
            db,
            row.id,
            JobState.QUARANTINED,
            what=row.what or f"{row.attempts} workers died while working on this job.",
            do=row.do or "Read the worker's log, then 'radnode retry' or 'radnode cancel'.",
        )


def lost() -> ColumnElement[bool]:
    """Whether the lease of an open row of ``job`` has run out: its worker is gone."""
    expired = is_due(job.c.lease_until, longest_wait_s=2.0 * LEASE_S)
    return and_(job.c.state != JobState.SCHEDULED, expired)


def _lease(db: Connection, row: Row[Any], worker_name: str) -> Lease:
    token = uuid.uuid4().hex
    first_started_at = db.execute(
        update(job)
        .where(job.c.id == row.id)
        .values(
            state=JobState.IN_PROGRESS.value,
            attempts=job.c.attempts + 1,
            lease_token=token,
            lease_until=database_now() + LEASE_S,
            worker=worker_name,
            started_at=database_now(),
            first_started_at=row.first_started_at or database_now(),
        )
        .returning(job.c.first_started_at)
    ).scalar_one()
    planned = PlannedJob(
        id=row.id,
        study_uid=row.study_uid,
        series_uid=row.series_uid,
        sop_instance_uid=row.sop_instance_uid,
        revision=row.revision,
        pipeline=row.pipeline,
        pipeline_version=row.pipeline_version,
        model_sha256=row.model_sha256,
        parameters=row.parameters,
        input_digest=row.input_digest,
        priority=Priority(row.priority),
        deadline_s=row.deadline_s,
        send_to=tuple(row.send_to.split()),
        inputs=inputs_of(db, row.id),
    )
    events.record(
        db,
        "job_started",
        study_uid=row.study_uid,
        job_id=row.id,
        subject=worker_name,
        detail=f"attempt {row.attempts + 1}",
    )
    return Lease(planned, token, row.attempts + 1, first_started_at, row.supersedes)


def inputs_of(db: Connection, job_id: str) -> tuple[JobInput, ...]:
    """Return the series that a job takes by name; none where it judges one series."""
    rows = db.execute(
        select(job_input.c.name, job_input.c.series_uid, job_input.c.fitting)
        .where(job_input.c.job_id == job_id)
        .order_by(job_input.c.name)
    )
    return tuple(JobInput(*row) for row in rows)


def renew(db: Connection, lease: Lease) -> None:
    """Keep the lease for another ``LEASE_S``.

    Raises:
        LeaseLost: It has passed to another worker, or the job was canceled.
    """
    _held(db, lease, lease_until=database_now() + LEASE_S)


def finish(db: Connection, lease: Lease, outcome: Outcome, timings: str) -> None:
    """Note the outcome. In the same transaction as the deliveries it causes.

    Raises:
        LeaseLost: The result belongs to nobody and must be discarded.
    """
    _held(
        db,
        lease,
        state=JobState.COMPLETED.value,
        outcome=outcome.value,
        timings=timings,
        finished_at=database_now(),
        lease_token=None,
        what=None,
        do=None,
    )
    events.record(
        db,
        "job_completed",
        study_uid=lease.job.study_uid,
        job_id=lease.job.id,
        subject=lease.job.pipeline,
        detail=outcome.value,
    )


def fail(db: Connection, lease: Lease, *, what: str, do: str, retry_in_s: float) -> None:
    """Give a failed job back for another attempt; after the last one, quarantine it.

    Raises:
        LeaseLost: Another worker has the job already.
    """
    if lease.attempt >= MAXIMUM_ATTEMPTS:
        quarantine(db, lease, what=what, do=do)
        return
    _held(
        db,
        lease,
        state=JobState.SCHEDULED.value,
        lease_token=None,
        next_attempt_at=database_now() + retry_in_s,
        what=what,
        do=do,
    )
    events.record(db, "job_failed", study_uid=lease.job.study_uid, job_id=lease.job.id, detail=what)


def quarantine(db: Connection, lease: Lease, *, what: str, do: str) -> None:
    """Set a job aside for a person.

    Raises:
        LeaseLost: Another worker has the job already.
    """
    _held(db, lease)
    _close(db, lease.job.id, JobState.QUARANTINED, what=what, do=do)


def overtake(db: Connection, lease: Lease) -> None:
    """Cancel a job whose series has grown since it was planned: the next revision reports on it.

    Raises:
        LeaseLost: Another worker has the job already.
    """
    _held(db, lease)
    _close(
        db,
        lease.job.id,
        JobState.CANCELED,
        what="A late instance arrived before this job began.",
        do="Nothing: the job of the next revision reports on the whole series.",
    )


def postpone(db: Connection, lease: Lease, *, what: str, do: str, retry_in_s: float) -> None:
    """Give a job back for later without counting the attempt: this host failed, not the job.

    Raises:
        LeaseLost: Another worker has the job already.
    """
    known = db.execute(select(job.c.what).where(job.c.id == lease.job.id)).scalar_one()
    _held(
        db,
        lease,
        state=JobState.SCHEDULED.value,
        lease_token=None,
        attempts=job.c.attempts - 1,
        next_attempt_at=database_now() + retry_in_s,
        what=what,
        do=do,
    )
    if known != what:
        events.record(
            db, "job_postponed", study_uid=lease.job.study_uid, job_id=lease.job.id, detail=what
        )


def release(db: Connection, lease: Lease) -> None:
    """Give an unfinished job back, as if it had not been tried: this worker is stopping.

    Raises:
        LeaseLost: Another worker has the job already.
    """
    _held(
        db,
        lease,
        state=JobState.SCHEDULED.value,
        lease_token=None,
        attempts=job.c.attempts - 1,
        next_attempt_at=database_now(),
    )
    db.execute(insert(outbox).values(job_id=lease.job.id))


def _held(db: Connection, lease: Lease, **changes: Any) -> None:
    """Change the job only while ``lease`` holds it. The token is the fence."""
    held = db.execute(
        update(job)
        .where(
            job.c.id == lease.job.id,
            job.c.state == JobState.IN_PROGRESS,
            job.c.lease_token == lease.token,
        )
        .values(**changes or {"lease_token": lease.token})
    )
    if held.rowcount != 1:
        raise LeaseLost(
            f"Job {lease.job.id} was taken from this worker.",
            do="Nothing: whoever holds it now finishes it.",
        )


def _close(  # noqa: PLR0913 - one keyword per column
    db: Connection,
    job_id: str,
    state: JobState,
    *,
    what: str,
    do: str,
    among: Sequence[JobState] = OPEN_JOB_STATES,
) -> bool:
    """Take a job out of the work for good. False if its state is none ``among`` these."""
    study_uid = db.execute(
        update(job)
        .where(job.c.id == job_id, job.c.state.in_(among))
        .values(state=state.value, what=what, do=do, lease_token=None, finished_at=database_now())
        .returning(job.c.study_uid)
    ).scalar_one_or_none()
    if study_uid is None:
        return False
    events.record(db, f"job_{state.value}", study_uid=study_uid, job_id=job_id, detail=what)
    return True


# --- by a person -----------------------------------------------------------------------------


def retry(db: Connection, job_id: str) -> bool:
    """Schedule a quarantined or canceled job again.

    False if it is in no such state, or if a later revision has a job of its own.
    """
    closed = (JobState.QUARANTINED.value, JobState.CANCELED.value)
    later = job.alias("later")
    replaced = exists(
        select(later.c.id).where(
            later.c.study_uid == job.c.study_uid,
            later.c.series_uid == job.c.series_uid,
            later.c.pipeline == job.c.pipeline,
            later.c.revision > job.c.revision,
        )
    )
    study_uid = db.execute(
        update(job)
        .where(job.c.id == job_id, job.c.state.in_(closed), ~replaced)
        .values(
            state=JobState.SCHEDULED.value,
            attempts=0,
            next_attempt_at=database_now(),
            finished_at=None,
        )
        .returning(job.c.study_uid)
    ).scalar_one_or_none()
    if study_uid is None:
        return False
    db.execute(insert(outbox).values(job_id=job_id))
    events.record(db, "job_retried", study_uid=study_uid, job_id=job_id)
    return True


def cancel(db: Connection, job_id: str) -> bool:
    """Cancel a job that is not finished; a worker on it stops at its next heartbeat."""
    return _close(
        db,
        job_id,
        JobState.CANCELED,
        what="Canceled by a person.",
        do="'radnode retry'.",
        among=(*OPEN_JOB_STATES, JobState.QUARANTINED),
    )
