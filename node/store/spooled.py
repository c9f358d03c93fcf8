"""The paths of what was received. Asked at start-up only, about all of it.

No index has them: it would cost each instance a page of its own, in the midst of receiving.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select, tuple_

from node.store.tables import conflict, instance

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Column, ColumnElement, Connection

Key = tuple[str, str, str]
"""Study, series and SOP Instance UID."""

FIRST: Key = ("", "", "")
"""Before every key."""

_KEY = (instance.c.study_uid, instance.c.series_uid, instance.c.sop_instance_uid)


def instances_after(
    db: Connection, key: Key, folders: Collection[str], limit: int
) -> tuple[tuple[Key, str], ...]:
    """Return key and path of the next instances whose files are in ``folders``, page by page.

    One series after the other, as they lie in the database.

    Args:
        db: Nothing is held open between pages.
        key: The last one of the page before; ``FIRST`` for the first page.
        folders: Of the spool: two characters each.
        limit: Instances of a page. An empty page is the end.
    """
    rows = db.execute(
        select(*_KEY, instance.c.path)
        .where(tuple_(*_KEY) > tuple_(*key), _is_in(instance.c.path, folders))
        .order_by(*_KEY)
        .limit(limit)
    )
    return tuple(((row[0], row[1], row[2]), row[3]) for row in rows)


def conflicts(db: Connection, folders: Collection[str]) -> frozenset[str]:
    """Return the paths of conflicting contents in ``folders``."""
    rows = db.execute(select(conflict.c.path).where(_is_in(conflict.c.path, folders)))
    return frozenset(rows.scalars())


def _is_in(path: Column[str], folders: Collection[str]) -> ColumnElement[bool]:
    return func.substr(path, 1, 2).in_(list(folders))


def path_of(db: Connection, study_uid: str) -> str | None:
    """Return the path of some instance of a study; None if there is none."""
    path: str | None = db.execute(
        select(instance.c.path).where(instance.c.study_uid == study_uid).limit(1)
    ).scalar_one_or_none()
    return path
