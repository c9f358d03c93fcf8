"""A PostgreSQL server of our own, from the machine's binaries, for one test session."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from node.store.migrate import migrate
from node.store.tables import metadata
from tests.peers import free_port, require, running

if TYPE_CHECKING:
    from collections.abc import Iterator

USER = "radnode"


@dataclass(frozen=True)
class Postgres:
    """A running server. ``template`` is a database with the ledger's schema."""

    port: int
    template: str

    def url(self, database: str) -> str:
        """Return the address as ``radnode.toml`` spells it."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def database(self) -> Iterator[str]:
        """Lend a fresh, migrated, empty database; yields its address."""
        name = f"test_{uuid.uuid4().hex}"
        self._administer("CREATE DATABASE {} TEMPLATE {}", name, self.template)
        try:
            yield self.url(name)
        finally:
            self._administer("DROP DATABASE {} WITH (FORCE)", name)

    def empty(self, url: str) -> None:
        """Delete every row of a lent database; faster by far than another database.

        Whoever is still connected, perhaps a process that was killed, is cut off first: the
        locks end with the connection.
        """
        tables = sql.SQL(", ").join(sql.Identifier(table.name) for table in metadata.sorted_tables)
        with psycopg.connect(url) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(tables))

    def _administer(self, statement: str, *names: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@contextmanager
def postgresql() -> Iterator[Postgres]:
    """Run PostgreSQL with a template database that is migrated once."""
    initdb, server = require("initdb"), require("postgres")
    # Not pytest's folder: the server's own user must be able to enter it.
    folder = Path(tempfile.mkdtemp(prefix="radnode-postgres-"))
    owner = _owner()
    if owner:
        shutil.chown(folder, owner["user"], owner["group"])
    try:
        subprocess.run(
            [initdb, "-D", folder / "data", "-U", USER, "-A", "trust", "-E", "UTF8", "--no-locale"],
            check=True,
            capture_output=True,
            cwd=folder,
            **owner,
        )
        port = free_port()
        postgres = Postgres(port, "radnode")
        command: list[str | Path] = [server, "-D", folder / "data", "-p", str(port)]
        # What dies in the tests is the node, never this server: it need not be durable.
        for setting in (
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "full_page_writes=off",
            "synchronous_commit=off",
            "max_connections=200",
        ):
            command += ["-c", setting]
        with running(
            command,
            ready=lambda: _answers(postgres.url("postgres")),
            log=folder / "log",
            stop_signal=signal.SIGINT,  # "fast": do not wait for clients
            cwd=folder,
            **owner,
        ):
            postgres._administer("CREATE DATABASE {}", postgres.template)
            migrate(postgres.url(postgres.template).replace("postgresql:", "postgresql+psycopg:"))
            yield postgres
    finally:
        shutil.rmtree(folder)


def _owner() -> dict[str, Any]:
    """Return the options that run a program as another user: PostgreSQL refuses root."""
    if os.getuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    account = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
