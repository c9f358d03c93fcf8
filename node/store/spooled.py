"""Which files of the spool have a row. Asked at start-up only, about all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from node.store.tables import conflict, instance

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection


def with_row(db: Connection, paths: Collection[str]) -> frozenset[str]:
    """Return those of ``paths``, at most 10 000, that have a row, as instance or as conflict."""
    found = (select(table.c.path).where(table.c.path.in_(paths)) for table in (instance, conflict))
    return frozenset(path for query in found for path in db.execute(query).scalars())


def paths_after(
    db: Connection, sop_instance_uid: str, limit: int
) -> tuple[tuple[str, str, str], ...]:
    """Return SOP Instance UID, path and study UID of the next instances, page by page.

    Args:
        db: Nothing is held open between pages.
        sop_instance_uid: The last one of the page before; empty for the first page.
        limit: Instances of a page. An empty page is the end.
    """
    rows = db.execute(
        select(instance.c.sop_instance_uid, instance.c.path, instance.c.study_uid)
        .where(instance.c.sop_instance_uid > sop_instance_uid)
        .order_by(instance.c.sop_instance_uid)
        .limit(limit)
    )
    return tuple((row[0], row[1], row[2]) for row in rows)
