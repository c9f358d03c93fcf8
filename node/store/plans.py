"""Plans: jobs to be, what they take the place of, and what was planned before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, exists, insert, or_, select, update

from node.clock import database_now
from node.domain import OPEN_JOB_STATES, JobState, PlannedJob
from node.store import events
from node.store.statements import insert_if_new
from node.store.tables import job, job_input, outbox

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection


def plan(db: Connection, planned: PlannedJob) -> bool:
    """Record a job and the bell announcing it. False if it was planned before.

    Earlier jobs of the same pipeline on the same series, or study, are superseded: canceled
    where they are not finished, named as the predecessor where they are.
    """
    row = {
        "id": planned.id,
        "study_uid": planned.study_uid,
        "series_uid": planned.series_uid,
        "sop_instance_uid": planned.sop_instance_uid,
        "revision": planned.revision,
        "pipeline": planned.pipeline,
        "pipeline_version": planned.pipeline_version,
        "model_sha256": planned.model_sha256,
        "parameters": planned.parameters,
        "input_digest": planned.input_digest,
        "send_to": " ".join(planned.send_to),
        "priority": int(planned.priority),
        "deadline_s": planned.deadline_s,
        "state": JobState.SCHEDULED.value,
        "attempts": 0,
        "next_attempt_at": database_now(),
        "planned_at": database_now(),
    }
    if not insert_if_new(db, job, row):
        return False
    for one in planned.inputs:
        db.execute(insert(job_input).values(job_id=planned.id, **vars(one)))
    _supersede(db, planned)
    db.execute(insert(outbox).values(job_id=planned.id))
    events.record(
        db,
        "job_scheduled",
        study_uid=planned.study_uid,
        job_id=planned.id,
        subject=planned.pipeline,
        detail=f"revision {planned.revision}",
    )
    return True


def _supersede(db: Connection, planned: PlannedJob) -> None:
    earlier = and_(
        job.c.study_uid == planned.study_uid,
        job.c.series_uid == planned.series_uid,
        job.c.sop_instance_uid == planned.sop_instance_uid,
        job.c.pipeline == planned.pipeline,
        job.c.id != planned.id,
    )
    unfinished = db.execute(
        update(job)
        .where(earlier, job.c.state.in_([*OPEN_JOB_STATES, JobState.QUARANTINED]))
        .values(
            state=JobState.CANCELED.value,
            lease_token=None,
            finished_at=database_now(),
            what="A later job on the same series replaced this one before it finished.",
            do="Nothing: the later job reports on all that there is.",
        )
        .returning(job.c.id)
    ).scalars()
    for job_id in unfinished:
        events.record(db, "job_superseded", study_uid=planned.study_uid, job_id=job_id)
    # Not "completed": another index has those by their time, and that is all there ever were.
    completed = job.c.state.not_in([one for one in JobState if one is not JobState.COMPLETED])
    predecessor = (
        select(job.c.id)
        .where(earlier, completed, job.c.withheld.is_(False))
        .order_by(job.c.planned_at.desc())
        .limit(1)
    )
    found = db.execute(predecessor).scalar_one_or_none()
    if found is not None:
        db.execute(update(job).where(job.c.id == planned.id).values(supersedes=found))


def planned_for(db: Connection, study_uid: str, series_uid: str) -> bool:
    """Whether any job was ever planned on a series."""
    found = exists().where(job.c.study_uid == study_uid, job.c.series_uid == series_uid)
    return bool(db.execute(select(found)).scalar_one())


def outdated(
    db: Connection, pipeline: str, version: str, model_sha256: str, parameters: Collection[str]
) -> tuple[tuple[str, str], ...]:
    """Return (study, series) of jobs that wait for another version of ``pipeline`` than this.

    The series is empty where the job is on several.

    Args:
        db: A transaction.
        pipeline: Its name.
        version: As installed.
        model_sha256: As installed.
        parameters: Any that the installed one may have.
    """
    rows = db.execute(
        select(job.c.study_uid, job.c.series_uid)
        .where(
            job.c.pipeline == pipeline,
            job.c.state.in_((JobState.SCHEDULED, JobState.QUARANTINED)),
            or_(
                job.c.pipeline_version != version,
                job.c.model_sha256 != model_sha256,
                job.c.parameters.not_in(parameters),
            ),
        )
        .distinct()
    )
    return tuple((row.study_uid, row.series_uid) for row in rows)
