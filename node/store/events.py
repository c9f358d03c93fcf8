"""The event log: what changed, when, why. Append-only; the audit trail is read from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, text

from node.clock import database_now
from node.store.tables import event

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import ColumnElement, Connection


@dataclass(frozen=True)
class Event:
    """One line of the event log."""

    sequence: int
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
    return _found(db, event.c.study_uid == study_uid)


def after(db: Connection, sequence: int, limit: int) -> tuple[Event, ...]:
    """Return the first events after one, in order. On PostgreSQL, see ``wait_for_writers``."""
    return _found(db, event.c.sequence > sequence, limit)


def numbered(db: Connection, sequences: Collection[int]) -> tuple[Event, ...]:
    """Return those events of these numbers that are there."""
    return _found(db, event.c.sequence.in_(list(sequences)))


def wait_for_writers(db: Connection) -> None:
    """Wait until no transaction is open that has written an event; none begins until ours ends.

    Then every number that was given out has its event, or will never have one. SQLite gives out
    numbers in the order of the commits, and nothing is to be waited for.
    """
    if db.dialect.name == "postgresql":
        db.execute(text("LOCK TABLE event IN SHARE MODE"))


def _found(
    db: Connection, which: ColumnElement[bool], limit: int | None = None
) -> tuple[Event, ...]:
    columns = [event.c[name] for name in Event.__dataclass_fields__]
    rows = db.execute(select(*columns).where(which).order_by(event.c.sequence).limit(limit))
    return tuple(Event(*row) for row in rows)
