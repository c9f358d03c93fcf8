"""Earlier results that a later one takes the place of: which they are, and when to reject them.

An earlier result must not disappear from a destination before a later one is safe there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import case, exists, func, select

from node.domain import Artifact, DeliveryState, Outcome, Role
from node.store.deliveries import plan_deliveries
from node.store.statements import spelled
from node.store.tables import artifact, delivery, job

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import ColumnElement, Connection, ScalarSelect, Select

_HELD = (DeliveryState.SENT.value, DeliveryState.COMMITTED.value)


def superseded(db: Connection, job_id: str) -> tuple[str, ...]:
    """Return the jobs whose results a result replaces, the last first.

    One that could not look replaced nothing: what it followed is replaced now.
    """
    jobs: list[str] = []
    current: str | None = job_id
    while current is not None:
        row = db.execute(
            select(job.c.supersedes, job.c.outcome).where(job.c.id == current)
        ).one_or_none()
        if row is None or (jobs and row.outcome != Outcome.COULD_NOT_LOOK):
            break
        current = row.supersedes
        if current is not None:
            jobs.append(current)
    return tuple(jobs)


def to_reject(
    db: Connection, jobs: Collection[str], destinations: Collection[str]
) -> tuple[Artifact, ...]:
    """Return the objects of earlier results that went, or go, to one of ``destinations``.

    An archive refuses a note that names an object which it never got.
    """
    went = exists().where(
        delivery.c.sop_instance_uid == artifact.c.sop_instance_uid,
        delivery.c.destination.in_(list(destinations)),
        delivery.c.state.in_([*_HELD, DeliveryState.PENDING.value]),
    )
    columns = [artifact.c[name] for name in Artifact.__dataclass_fields__]
    rows = db.execute(
        select(*columns)
        .where(
            artifact.c.job_id.in_(list(jobs)),
            artifact.c.role != Role.REJECTION,
            artifact.c.released_at.is_(None),  # nobody knows its series any more
            went,
        )
        .order_by(artifact.c.sop_instance_uid)
    )
    return tuple(Artifact(*row) for row in rows)


def plan_due(db: Connection, destination: str, *, commits: bool) -> int:
    """Plan the rejection notes whose time has come; how many.

    It has come when all of the later result is safe at the destination (committed, where it
    commits), and something of the earlier one is there and nothing of it still on its way.
    """
    note, own, old = (artifact.alias(name) for name in ("note", "own", "old"))
    safe = (DeliveryState.COMMITTED.value,) if commits else _HELD
    earlier = job.alias("earlier")

    def number_of(objects: Select[tuple[str]], which: ColumnElement[bool]) -> ScalarSelect[int]:
        # In these words the few objects are looked for, and not all that ever went there.
        return (
            select(func.count(case((which, 1))))
            .where(delivery.c.sop_instance_uid.in_(objects), delivery.c.destination == destination)
            .scalar_subquery()
        )

    mine = select(own.c.sop_instance_uid).where(own.c.job_id == note.c.job_id).correlate(note)
    before = (
        select(old.c.sop_instance_uid)
        .join(earlier, earlier.c.id == old.c.job_id)
        .where(
            earlier.c.study_uid == job.c.study_uid,
            earlier.c.series_uid == job.c.series_uid,
            earlier.c.sop_instance_uid == job.c.sop_instance_uid,
            earlier.c.pipeline == job.c.pipeline,
            earlier.c.planned_at < job.c.planned_at,
        )
        .correlate(job)
    )
    planned = exists().where(
        delivery.c.sop_instance_uid == note.c.sop_instance_uid,
        delivery.c.destination == destination,
    )
    due = (
        select(*(note.c[name] for name in Artifact.__dataclass_fields__))
        .join(job, job.c.id == note.c.job_id)
        .where(
            note.c.role == spelled(Role.REJECTION.value),
            # Not "IS NULL": another index has those, and that is all that was made lately.
            func.coalesce(note.c.released_at, 0.0) == 0.0,
            ~planned,
            number_of(mine, delivery.c.state.in_(safe)) > 0,
            number_of(mine, delivery.c.state.not_in(safe)) == 0,
            number_of(before, delivery.c.state.in_(_HELD)) > 0,
            number_of(before, delivery.c.state == DeliveryState.PENDING) == 0,
        )
    )
    notes = tuple(Artifact(*row) for row in db.execute(due))
    plan_deliveries(db, notes, destination)
    return len(notes)
