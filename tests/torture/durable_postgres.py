"""PostgreSQL as a site runs it: durable, as it comes; killed and started again.

The one of ``tests.peers.postgres`` is told not to write to the disk, since nothing there kills it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psycopg

from node.store.migrate import migrate
from tests.peers import free_port, require, wait_until
from tests.peers.postgres import USER, Postgres, _answers, _owner

if TYPE_CHECKING:
    from types import TracebackType


class DurablePostgres:
    """One server with one migrated database; usable in a ``with`` statement, which starts it.

    Args:
        host: Another address at which it can be reached, from its /24.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        # Not below the subject's folder: the server's own user must be able to enter it.
        self._folder = Path(tempfile.mkdtemp(prefix="radnode-torture-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._server = Postgres(free_port(), "radnode")

    @property
    def url(self) -> str:
        """Address as ``radnode.toml`` spells it."""
        return self._server.url("radnode")

    def __enter__(self) -> Self:
        owner = _owner()
        if owner:
            shutil.chown(self._folder, owner["user"], owner["group"])
        data = self._folder / "data"
        subprocess.run(
            [require("initdb"), "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--no-locale"],
            check=True,
            capture_output=True,
            cwd=self._folder,
            **owner,
        )
        with (data / "pg_hba.conf").open("a") as access:
            access.write(f"host all all {self._host}/24 trust\n")
        self.start()
        with psycopg.connect(self._server.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE radnode")
        migrate(self.url.replace("postgresql:", "postgresql+psycopg:"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start, and recover what the last end left; returns when it answers."""
        wait_until(self._started, timeout_s=60.0, what="The start of PostgreSQL")

    def kill(self) -> None:
        """End every process of it as a power cut would."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _started(self) -> bool:
        """Whether it answers. Started anew where it gave up: its shared memory was still in use."""
        if self._process is None or self._process.poll() is not None:
            command = [require("postgres"), "-D", str(self._folder / "data")]
            for setting in (
                f"port={self._server.port}",
                f"listen_addresses=127.0.0.1,{self._host}",
                "unix_socket_directories=",
                "max_connections=100",
            ):
                command += ["-c", setting]
            with (self._folder / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    command,
                    cwd=self._folder,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    **_owner(),
                )
        return _answers(self._server.url("postgres"))
