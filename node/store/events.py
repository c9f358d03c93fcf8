"""The event log: what changed, when, why. Append-only; the audit trail is read from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import insert, select

from node.clock import database_now
from node.store.tables import event

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True)
class Event:
    """One line of the event log."""

    at: float
    kind: str
    study_uid: str | None
    job_id: str | None
    subject: str | None
    detail: str


def record(  # noqa: PLR0913 - one keyword per column
    db: Connection,
    kind: str,
    *,
    study_uid: str | None = None,
    job_id: str | None = None,
    subject: str | None = None,
    detail: str = "",
) -> None:
    """Append one event. ``detail`` must not identify a patient."""
    db.execute(
        insert(event).values(
            at=database_now(),
            kind=kind,
            study_uid=study_uid,
            job_id=job_id,
            subject=subject,
            detail=detail,
        )
    )


def of_study(db: Connection, study_uid: str) -> tuple[Event, ...]:
    """Return what happened to one study, oldest first."""
    rows = db.execute(
        select(event).where(event.c.study_uid == study_uid).order_by(event.c.sequence)
    )
    return tuple(
        Event(row.at, row.kind, row.study_uid, row.job_id, row.subject, row.detail) for row in rows
    )
