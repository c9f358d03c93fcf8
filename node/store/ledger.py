"""The ledger: one database, transactions that mean it, and reads that block nobody."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.settings import Settings

BUSY_TIMEOUT_S = 30.0
"""How long a statement waits for what another transaction holds."""

POSTGRESQL = {
    "connect_timeout": 5,
    # A server that vanished without a word: the kernel gives up after 30 s, not after hours.
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "options": f"-c lock_timeout={BUSY_TIMEOUT_S:.0f}s",
}
"""libpq's parameters of every connection; the address may state others."""

KEPT_CONNECTIONS = 5
"""Stay open; more come, and go, while many threads use the ledger at once."""
MOST_CONNECTIONS = 100
"""More associations than these wait for each other: PostgreSQL's own default is 100 in all."""


SQLITE_CACHE_KIB = 16_384
"""Of each connection. The indices of a few million instances, upper levels, are in it."""
SQLITE_CHECKPOINT_PAGES = 8_000
"""32 MB. Whoever commits at this size waits for two syncs; pages changed often are written once."""


class Ledger:
    """Connections to the database. Safe to share between threads, not to carry over a fork."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")

    @classmethod
    def open(cls, url: str, *, connections: int = 3 * KEPT_CONNECTIONS) -> Ledger:
        """Connect to ``url``. The schema must be there already (``store.migrate``).

        Args:
            url: As SQLAlchemy writes it.
            connections: At most, all threads together. Who wants one more waits, and gets a
                ``sqlalchemy.exc.TimeoutError``, which is no ``DBAPIError``.
        """
        address = make_url(url)
        sqlite = address.get_backend_name() == "sqlite"
        stated = {"timeout": BUSY_TIMEOUT_S} if sqlite else POSTGRESQL
        engine = create_engine(
            address,
            connect_args={key: stated[key] for key in stated.keys() - address.query.keys()},
            # Errors must not quote the values of a statement: they identify studies.
            hide_parameters=True,
            pool_size=KEPT_CONNECTIONS,
            max_overflow=connections - KEPT_CONNECTIONS,
            pool_pre_ping=not sqlite,
            # The connection used last has the pages in its memory that come next.
            pool_use_lifo=True,
        )
        if sqlite:
            event.listen(engine, "connect", _configure_sqlite)
            event.listen(engine, "begin", _begin_immediate)
        return cls(engine)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Run one transaction; committed at the end, rolled back on any exception."""
        with self._engine.begin() as db:
            yield db

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Read without a transaction: no lock is held, each statement sees the latest."""
        with self._autocommit.connect() as db:
            yield db

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Read as of one moment: what others write meanwhile is not seen, and nobody waits."""
        if self._engine.dialect.name == "sqlite":
            with self._autocommit.connect() as db:
                db.exec_driver_sql("BEGIN")
                try:
                    yield db
                finally:
                    db.exec_driver_sql("ROLLBACK")
            return
        as_one = self._engine.execution_options(isolation_level="REPEATABLE READ")
        with as_one.begin() as db:
            yield db

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def open_ledger(settings: Settings) -> Ledger:
    """Open the ledger that ``settings`` name: a connection for each association, and more."""
    settings.data.mkdir(parents=True, exist_ok=True)
    connections = min(settings.listen.maximum_associations, MOST_CONNECTIONS) + KEPT_CONNECTIONS
    return Ledger.open(settings.database_url, connections=connections)


def _configure_sqlite(connection: Any, _record: object) -> None:
    # The driver must not open transactions by itself: BEGIN IMMEDIATE below does.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    # The spooled file is the receipt: a commit lost in a power cut is found again at start-up.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA cache_size = -{SQLITE_CACHE_KIB}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {SQLITE_CHECKPOINT_PAGES}")


def _begin_immediate(db: Connection) -> None:
    if db.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        db.exec_driver_sql("BEGIN IMMEDIATE")
