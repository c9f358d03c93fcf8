"""Which bells to ring: the outbox, written only with its job (``store.jobs``), and what it lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, or_, select, update

from node.clock import database_now, is_due
from node.domain import JobState
from node.store.jobs import IS_OPEN, lost
from node.store.tables import job, outbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

FORGOTTEN_S = 30.0
"""A job that waits for longer than this may have lost its bell."""


def unrung(db: Connection, limit: int = 100) -> tuple[tuple[int, str], ...]:
    """Return (sequence, job id) of bells not yet handed to the broker, oldest first."""
    rows = db.execute(
        select(outbox.c.sequence, outbox.c.job_id)
        .where(outbox.c.sent_at.is_(None))
        .order_by(outbox.c.sequence)
        .limit(limit)
    )
    return tuple((row.sequence, row.job_id) for row in rows)


def mark_rung(db: Connection, sequences: Sequence[int]) -> None:
    """Note that the broker has these bells."""
    db.execute(
        update(outbox).where(outbox.c.sequence.in_(sequences)).values(sent_at=database_now())
    )


def forgotten(db: Connection, limit: int = 100) -> tuple[str, ...]:
    """Return ids of jobs that wait for so long that their bell must have been lost."""
    for_long = is_due(job.c.next_attempt_at + FORGOTTEN_S)
    rows = db.execute(
        select(job.c.id)
        .where(IS_OPEN, or_(and_(job.c.state != JobState.IN_PROGRESS, for_long), lost()))
        .order_by(job.c.priority, job.c.planned_at)
        .limit(limit)
    )
    return tuple(rows.scalars())
