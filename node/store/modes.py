"""Modes: which pipelines are off, and which run in shadow, as a person decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select, update

from node.clock import database_now
from node.domain import OPEN_JOB_STATES, Lease, Mode
from node.store import events, jobs
from node.store.statements import insert_or_update
from node.store.tables import job, pipeline_mode

if TYPE_CHECKING:
    from sqlalchemy import Connection


def decided(db: Connection) -> dict[str, Mode]:
    """Return the mode of each pipeline that a person decided on, by its name."""
    rows = db.execute(select(pipeline_mode.c.pipeline, pipeline_mode.c.mode))
    return {row.pipeline: Mode(row.mode) for row in rows}


def decide(db: Connection, pipeline: str, mode: Mode) -> int:
    """Set the mode of a pipeline; return how many of its waiting jobs that cancels."""
    values = {"mode": mode.value, "changed_at": database_now()}
    insert_or_update(db, pipeline_mode, {"pipeline": pipeline, **values}, values)
    events.record(db, f"pipeline_{mode.value}", subject=pipeline, detail="decided by a person")
    if mode is not Mode.DISABLED:
        return 0
    waiting = select(job.c.id).where(job.c.pipeline == pipeline, job.c.state.in_(OPEN_JOB_STATES))
    return sum(jobs.cancel(db, job_id) for job_id in db.execute(waiting).scalars().all())


def withhold(db: Connection, lease: Lease) -> bool:
    """Mark a finished job whose pipeline may not send. False: it may."""
    mode = decided(db).get(lease.job.pipeline, Mode.ENABLED)
    if mode is Mode.ENABLED:
        return False
    db.execute(update(job).where(job.c.id == lease.job.id).values(withheld=True))
    events.record(
        db,
        "withheld",
        study_uid=lease.job.study_uid,
        job_id=lease.job.id,
        subject=lease.job.pipeline,
        detail=f"Nothing is sent: the pipeline is {_AS_WORDS[mode]}.",
    )
    return True


_AS_WORDS = {Mode.SHADOW: "in shadow", Mode.DISABLED: "disabled"}
