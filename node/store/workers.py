"""Workers: which are alive, and which leases they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import exists, select

from node.clock import database_now
from node.store.jobs import IS_OPEN
from node.store.statements import insert_or_update
from node.store.tables import job, worker

if TYPE_CHECKING:
    from sqlalchemy import Connection


def touch_worker(db: Connection, name: str, job_id: str | None) -> None:
    """Say that a worker is alive, and what it works on."""
    now = database_now()
    insert_or_update(
        db,
        worker,
        {"name": name, "started_at": now, "seen_at": now, "job_id": job_id},
        {"seen_at": now, "job_id": job_id},
    )


def silent_s(db: Connection, name: str) -> float | None:
    """Return how long ago a worker was last alive; None if it never was."""
    age = select(database_now() - worker.c.seen_at).where(worker.c.name == name)
    return db.execute(age).scalar_one_or_none()


def holds_lease(db: Connection, token: str) -> bool:
    """Whether some worker still works under ``token``."""
    held = exists().where(IS_OPEN, job.c.lease_token == token)
    return bool(db.execute(select(held)).scalar_one())
