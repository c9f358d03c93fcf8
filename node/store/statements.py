"""Statements that SQLite and PostgreSQL share but SQLAlchemy spells once per dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import literal
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement, Connection, Table


def insert_for(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT that can be told what to do about a row that is there already."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def spelled(value: str) -> ColumnElement[str]:
    """Return a value that stands in the statement itself, and not among its parameters.

    Only then does a partial index whose condition names it come into question.
    """
    return literal(value, literal_execute=True)


def insert_if_new(db: Connection, table: Table, values: Mapping[str, Any]) -> bool:
    """Insert a row; False if its primary key is there already."""
    statement = insert_for(db.dialect.name, table).values(values).on_conflict_do_nothing()
    # RETURNING, since the row count of an INSERT is not to be had from every driver.
    return db.execute(statement.returning(*table.primary_key)).one_or_none() is not None


def insert_or_update(
    db: Connection, table: Table, values: Mapping[str, Any], update: Mapping[str, Any]
) -> None:
    """Insert a row, or apply ``update`` to the one that has its primary key."""
    statement = insert_for(db.dialect.name, table).values(values)
    db.execute(statement.on_conflict_do_update(index_elements=table.primary_key, set_=update))
