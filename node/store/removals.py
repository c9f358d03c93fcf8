"""Files that no row stands for any more, on their way out.

A file of the spool is first moved aside. A listener that took it for its own in the last moment
writes its row soon after: then the file is put back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Double, cast, delete, func, literal, null, select, update

from node.clock import database_now, is_due
from node.store.statements import insert_for
from node.store.tables import artifact, conflict, instance, job, removal

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import ColumnElement, Connection, Select


@dataclass(frozen=True)
class Removal:
    """One file of the spool, or the folder of one job, that shall go.

    Attributes:
        path: Relative to the spool; or the id of the job.
        sop_instance_uid: Of the instance in the file; empty: it is the folder of a job.
        is_aside: Whether the file was moved out of the way.
        is_over: Whether that was long enough ago.
    """

    path: str
    sop_instance_uid: str
    is_aside: bool
    is_over: bool


_NOT_ASIDE = cast(null(), Double)


def add_instances(db: Connection, which: ColumnElement[bool]) -> tuple[int, int]:
    """Note that the files of these rows of ``instance`` go; number and bytes of the files."""
    _add(
        db,
        select(
            instance.c.path, instance.c.sop_instance_uid, instance.c.size_bytes, _NOT_ASIDE
        ).where(which),
    )
    sizes = select(func.count(), func.coalesce(func.sum(instance.c.size_bytes), 0))
    files, size_bytes = db.execute(sizes.where(which)).one()
    return int(files), int(size_bytes)


def add_conflicts(db: Connection, which: ColumnElement[bool]) -> None:
    """Note that the files of these rows of ``conflict`` go."""
    _add(
        db,
        select(conflict.c.path, conflict.c.sop_instance_uid, literal(0), _NOT_ASIDE).where(which),
    )


def add_results(db: Connection, jobs: Select[tuple[str]]) -> tuple[int, int]:
    """Note that the folders of these jobs go; number and bytes of the objects in them."""
    of_job = (artifact.c.job_id == job.c.id, artifact.c.released_at.is_(None))
    size_bytes = select(func.coalesce(func.sum(artifact.c.size_bytes), 0)).where(*of_job)
    folders = select(job.c.id, literal(""), size_bytes.scalar_subquery(), _NOT_ASIDE)
    sizes = select(func.count(), func.coalesce(func.sum(artifact.c.size_bytes), 0)).where(
        artifact.c.job_id.in_(jobs), artifact.c.released_at.is_(None)
    )
    files, total_bytes = db.execute(sizes).one()
    _add(db, folders.where(job.c.id.in_(jobs)))
    return int(files), int(total_bytes)


def _add(db: Connection, going: Select[Any]) -> None:
    """Insert rows; one that is there stands for a file that has come again, and goes again."""
    columns = ["path", "sop_instance_uid", "size_bytes", "aside_at"]
    statement = insert_for(db.dialect.name, removal).from_select(columns, going)
    db.execute(
        statement.on_conflict_do_update(index_elements=removal.primary_key, set_={"aside_at": None})
    )


def paths(db: Connection) -> frozenset[str]:
    """Return all that is on its way out: nothing of it is to be indexed."""
    return frozenset(db.execute(select(removal.c.path)).scalars())


def waiting_bytes(db: Connection) -> int:
    """Return how much room there will be when all that is on its way out is gone."""
    total = select(func.coalesce(func.sum(removal.c.size_bytes), 0))
    return int(db.execute(total).scalar_one())


def after(db: Connection, path: str, *, grace_s: float, limit: int) -> tuple[Removal, ...]:
    """Return what shall go, page by page.

    Args:
        db: A connection.
        path: The last one of the page before; empty for the first page.
        grace_s: How long a file lies aside.
        limit: Of a page. An empty page is the end.
    """
    over = is_due(removal.c.aside_at + grace_s, longest_wait_s=grace_s)
    rows = db.execute(
        select(
            removal.c.path,
            removal.c.sop_instance_uid,
            removal.c.aside_at.is_not(None),
            func.coalesce(over, literal(value=False)),
        )
        .where(removal.c.path > path)
        .order_by(removal.c.path)
        .limit(limit)
    )
    return tuple(Removal(row[0], row[1], bool(row[2]), bool(row[3])) for row in rows)


def received_again(db: Connection, some: Sequence[Removal]) -> frozenset[str]:
    """Return the paths of those that a row stands for after all."""
    uids = [one.sop_instance_uid for one in some if one.sop_instance_uid]
    found = (
        select(table.c.path).where(table.c.sop_instance_uid.in_(uids))
        for table in (instance, conflict)
    )
    known = {path for query in found for path in db.execute(query).scalars()}
    return frozenset(one.path for one in some if one.path in known)


def mark_aside(db: Connection, some: Collection[str]) -> None:
    """Note that these were moved out of the way now."""
    db.execute(
        update(removal).where(removal.c.path.in_(list(some))).values(aside_at=database_now())
    )


def forget(db: Connection, some: Collection[str]) -> None:
    """Note that these are gone, or stay."""
    db.execute(delete(removal).where(removal.c.path.in_(list(some))))
