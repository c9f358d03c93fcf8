"""Time. Leases and timers are judged by the database's clock, never by a worker's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Float, or_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.sql.compiler import SQLCompiler

LONGEST_WAIT_S = 3700.0
"""Nothing is put off for longer; the hour after a rejection is the longest, with some to spare."""


class database_now(GenericFunction[float]):  # noqa: N801 - reads as the SQL function it is
    """Seconds since the epoch by the database's clock, with milliseconds."""

    type = Float()
    inherit_cache = True


@compiles(database_now, "sqlite")
def _sqlite(_element: database_now, _compiler: SQLCompiler, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_now, "postgresql")
def _postgresql(_element: database_now, _compiler: SQLCompiler, **_: Any) -> str:
    return "CAST(extract(epoch from clock_timestamp()) AS DOUBLE PRECISION)"


def is_due(
    at: ColumnElement[float], *, longest_wait_s: float = LONGEST_WAIT_S
) -> ColumnElement[bool]:
    """Whether the moment ``at`` has come, or lies further ahead than anyone ever waits.

    The latter says that the clock was set back since ``at`` was written: waiting for it would
    take as long as the step was wide, and nobody would be told.

    Args:
        at: Seconds since the epoch.
        longest_wait_s: More than is ever added to the present to make ``at``.
    """
    return or_(at <= database_now(), at > database_now() + longest_wait_s)
