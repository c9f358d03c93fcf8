"""Statements that SQLite and PostgreSQL share but SQLAlchemy spells once per dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Table


def _insert(db: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if db.dialect.name == "postgresql" else sqlite.insert(table)


def insert_if_new(db: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert a row; False if its primary key is there already."""
    statement = _insert(db, table).values(values).on_conflict_do_nothing()
    # RETURNING, since the row count of an INSERT is not to be had from every driver.
    return db.execute(statement.returning(*table.primary_key)).one_or_none() is not None


def insert_or_update(
    db: Connection, table: Table, values: Mapping[str, Any], update: Mapping[str, Any]
) -> None:
    """Insert a row, or apply ``update`` to the one that has its primary key."""
    statement = _insert(db, table).values(values)
    db.execute(statement.on_conflict_do_update(index_elements=table.primary_key, set_=update))
