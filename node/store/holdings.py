"""Every file that the node holds of a study: what was received, and what was made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from node.store.tables import artifact, instance, job

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True)
class Holding:
    """One object.

    Attributes:
        sop_instance_uid: Of the object.
        path: Relative to the spool, or to the artifacts.
    """

    sop_instance_uid: str
    path: str


def received(db: Connection, study_uid: str) -> tuple[Holding, ...]:
    """Return what scanners sent of a study; not results of our own that came back."""
    columns = instance.c.sop_instance_uid, instance.c.path
    wanted = select(*columns).where(instance.c.study_uid == study_uid, ~instance.c.own_result)
    return tuple(Holding(*row) for row in db.execute(wanted.order_by(instance.c.path)))


def made(db: Connection, study_uid: str) -> tuple[Holding, ...]:
    """Return the result objects of a study."""
    columns = artifact.c.sop_instance_uid, artifact.c.path
    jobs = select(job.c.id).where(job.c.study_uid == study_uid)
    wanted = select(*columns).where(artifact.c.job_id.in_(jobs))
    return tuple(Holding(*row) for row in db.execute(wanted.order_by(artifact.c.path)))
