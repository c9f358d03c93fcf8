"""Every file that a row stands for, in order; and how far someone has come who reads them all."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select, tuple_

from node.clock import database_now
from node.store.statements import insert_or_update
from node.store.tables import artifact, conflict, instance, job, reading

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection


class Area(enum.StrEnum):
    """Where files lie, in the order in which they are read."""

    INSTANCES = "instances"
    CONFLICTS = "conflicts"
    RESULTS = "results"


@dataclass(frozen=True)
class Position:
    """How far someone has come.

    Attributes:
        after: Key of the last file read in ``area``; empty before the first.
        files: Read so far.
        faults: Found so far.
    """

    area: Area = Area.INSTANCES
    after: tuple[str, ...] = ()
    files: int = 0
    faults: int = 0


@dataclass(frozen=True)
class Kept:
    """A file as its row states it.

    Attributes:
        key: Of the row, in its area.
        path: Relative to the folder of its area.
        digest: SHA-256 of the data set in the spool, of the whole file of a result (hex).
        study_uid: Empty for what is set aside.
    """

    key: tuple[str, ...]
    path: str
    digest: str
    study_uid: str


_KEYS: dict[Area, tuple[ColumnElement[str], ...]] = {
    # One series after the other, as an index has them.
    Area.INSTANCES: (instance.c.study_uid, instance.c.series_uid, instance.c.sop_instance_uid),
    Area.CONFLICTS: (conflict.c.sop_instance_uid, conflict.c.digest),
    Area.RESULTS: (artifact.c.sop_instance_uid,),
}
_TABLES = {Area.INSTANCES: instance, Area.CONFLICTS: conflict, Area.RESULTS: artifact}


def files_after(db: Connection, area: Area, after: tuple[str, ...], limit: int) -> tuple[Kept, ...]:
    """Return the next files of an area, page by page. An empty page is the end."""
    table, keys = _TABLES[area], _KEYS[area]
    query = select(table.c.path, table.c.digest, *keys).order_by(*keys).limit(limit)
    if area is Area.RESULTS:
        query = query.where(table.c.released_at.is_(None))
    if after:
        query = query.where(tuple_(*keys) > tuple_(*after))
    known = area is Area.INSTANCES
    return tuple(
        Kept(tuple(row[2:]), row[0], row[1], row[2] if known else "") for row in db.execute(query)
    )


def is_there(db: Connection, area: Area, key: tuple[str, ...]) -> bool:
    """Whether the row of a file still stands for it."""
    keys = _KEYS[area]
    query = select(*keys).where(*(column == one for column, one in zip(keys, key, strict=True)))
    if area is Area.RESULTS:
        query = query.where(artifact.c.released_at.is_(None))
    return db.execute(query).one_or_none() is not None


def number_of_files(db: Connection) -> int:
    """Return how many files there are to read."""
    kept = select(func.count()).where(artifact.c.released_at.is_(None))
    spooled = (select(func.count()).select_from(table) for table in (instance, conflict))
    return sum(int(db.execute(query).scalar_one()) for query in (*spooled, kept))


def jobs_among(db: Connection, ids: list[str]) -> frozenset[str]:
    """Return those of these ids that are of a job."""
    return frozenset(db.execute(select(job.c.id).where(job.c.id.in_(ids))).scalars())


# --- how far ---------------------------------------------------------------------------------


def position(db: Connection, name: str) -> Position:
    """Return where ``name`` goes on reading."""
    row: Any = db.execute(select(reading).where(reading.c.name == name)).one_or_none()
    if row is None:
        return Position()
    return Position(Area(row.area), tuple(json.loads(row.after)), row.files, row.faults)


def keep_position(db: Connection, name: str, at: Position) -> None:
    """Note where ``name`` goes on reading."""
    state = {
        "area": at.area.value,
        "after": json.dumps(at.after),
        "files": at.files,
        "faults": at.faults,
    }
    insert_or_update(db, reading, {"name": name, "begun_at": database_now(), **state}, state)


def forget_position(db: Connection, name: str) -> None:
    """Note that ``name`` has read everything."""
    db.execute(delete(reading).where(reading.c.name == name))
