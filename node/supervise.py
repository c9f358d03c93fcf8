"""Supervise: start every role of the node on this host, and start again what dies.

broker   Valkey, when embedded; one that is alive already is adopted
listen   C-STORE, one or more processes on one port
relay    complete, route, plan, ring
work     one process per device
deliver  send, and ask for commitment
retain   remove what is final and old, and reconcile
audit    take events over into the audit trail, and tell a syslog server
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from node import embedded
from node.errors import ConfigError
from node.log import get_logger
from node.store import lifetimes, workers

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from node.settings import Settings
    from node.store.ledger import Ledger

log = get_logger(__name__)

SUPERVISED = "RADNODE_SUPERVISED"
"""Set for child roles: they end when their standard input does, that is, with us."""

POLL_S = 0.5
LOOK_S = 5.0
"""How often the ledger is asked whether workers have spoken."""
STOP_S = 20.0
SILENT_S = 30.0
LOOK_AGAIN_S = 15.0
"""Silent at a second look, too. At the first, the clock may have been set, or the host slept."""
SETTLED_S = 60.0
"""A process that has run for this long starts again at once, and may be judged silent."""
LONGEST_DELAY_S = 30.0
RELEASE_S = 10.0
"""In which listeners whose supervisor was killed give back their port."""


@dataclass
class Role:
    """One process that shall run, and does or does not.

    Attributes:
        starts: How often it was started since it last ran for ``SETTLED_S``.
        due_at: When it may start again (monotonic).
        silent_since: When it was first found silent (monotonic); None once it has spoken.
    """

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    starts: int = 0
    due_at: float = field(default=0.0)
    silent_since: float | None = None

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self.process is not None and self.process.poll() is None

    @property
    def age_s(self) -> float:
        """How long ago it was started."""
        return time.monotonic() - self.started_at

    def start(self) -> None:
        """Start its process, with a pipe that ends when we do.

        Raises:
            OSError: It cannot be started now.
        """
        self.started_at, self.silent_since = time.monotonic(), None
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            env={**os.environ, SUPERVISED: "1"},
        )
        log.info("role_started", process=self.name, pid=self.process.pid)

    def put_off(self) -> None:
        """Let it start again only after a while, longer each time."""
        # The exponent is capped because a role may die for ever.
        delay_s = 0.5 * 2.0 ** min(self.starts - 1, 10)
        self.due_at = time.monotonic() + min(LONGEST_DELAY_S, delay_s)


def worker_name(number: int) -> str:
    """Return the name of the ``number``-th worker of this host."""
    return f"worker-{os.uname().nodename}-{number}"


def roles(settings: Settings) -> list[Role]:
    """Return every process of a node with these settings."""
    verb = [sys.executable, "-m", "node.cli"]
    broker = [Role("broker", [])] if settings.broker == "embedded" else []
    listeners = [
        Role(f"listen-{n}", [*verb, "listen", "--number", str(n)])
        for n in range(1, settings.listen.process_count + 1)
    ]
    workers = [
        Role(worker_name(n), [*verb, "work", "--number", str(n)])
        for n in range(1, settings.work.processes + 1)
    ]
    rest = [Role(name, [*verb, name]) for name in ("relay", "deliver", "retain")]
    audit = Role("audit", [*verb, "audit", "run"])
    return [*broker, audit, *listeners, *rest, *workers]


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Hold the lock of the one node that may run on a data folder; the kernel frees it.

    Two would share a broker, log files, and the names by which the ledger knows processes.

    Raises:
        ConfigError: Another node holds it.
    """
    settings.run_folder.mkdir(parents=True, exist_ok=True)
    with (settings.run_folder / "up.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ConfigError(
                f"A node runs on {settings.data} already: {file.read()}.",
                do="Stop it first, or give this one another 'data' in radnode.toml.",
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}")
        file.flush()
        yield


def up(settings: Settings, ledger: Ledger, stop: threading.Event) -> None:
    """Run the whole node until ``stop``.

    Raises:
        ConfigError: Something else listens on the port.
    """
    for port in settings.listen.ports:
        _require_port(settings.listen.host, port, stop)
    running = roles(settings)
    looked_at = time.monotonic()
    try:
        with lifetimes.told(ledger, "radnode"):
            while not stop.is_set():
                for role in running:
                    _keep(role, settings)
                if time.monotonic() - looked_at >= LOOK_S:
                    looked_at = time.monotonic()
                    _restart_silent_workers(running, ledger)
                stop.wait(POLL_S)
    finally:
        _stop_all(running)
        if settings.broker == "embedded":
            embedded.stop(settings)  # if it was adopted, it is no process of ours


def _keep(role: Role, settings: Settings) -> None:
    """Start a role that does not run, later each time it dies young."""
    if role.running:
        if role.age_s > SETTLED_S:
            role.starts = 0
        return
    if role.name == "broker" and embedded.is_alive(settings):
        return  # started by an earlier supervisor that was killed
    if role.process is not None:
        log.error("role_died", process=role.name, status=role.process.returncode)
        role.process = None
        role.put_off()
    if time.monotonic() < role.due_at:
        return
    role.starts += 1
    try:
        if role.name == "broker":
            role.command = embedded.command(settings)
        role.start()
    except OSError as error:
        log.error("role_not_started", process=role.name, what=error.strerror)
        role.put_off()


def _restart_silent_workers(running: list[Role], ledger: Ledger) -> None:
    """Kill each worker that says nothing at two looks; it is started again like any dead one."""
    for role in running:
        if not role.name.startswith("worker-") or not role.running or role.age_s < SETTLED_S:
            continue
        try:
            with ledger.read() as db:
                silent_s = workers.silent_s(db, role.name)
        except SQLAlchemyError:
            # Nobody can tell now, and no look before counts; the roles wait for it themselves.
            for each in running:
                each.silent_since = None
            return
        # None: it has not said a word since it settled. Negative: the clock was set back.
        if silent_s is not None and abs(silent_s) <= SILENT_S:
            role.silent_since = None
        elif role.silent_since is None:
            role.silent_since = time.monotonic()
        elif time.monotonic() - role.silent_since >= LOOK_AGAIN_S and role.process is not None:
            log.error("worker_silent", process=role.name)
            role.process.kill()
            role.process.wait()


def _require_port(host: str, port: int, stop: threading.Event) -> None:
    """Make sure that nobody else takes the scanners' calls.

    The listeners share the port among themselves, and the kernel would let a stranger of the same
    user share it, too: some studies would go there. Those of a supervisor that was killed just
    now are still on their way out.
    """
    until = time.monotonic() + RELEASE_S
    while True:
        try:
            with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
                probe.listen()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return  # an address that is not there yet, say: the listeners try again, and tell
            if time.monotonic() < until and not stop.wait(POLL_S):
                continue
            raise ConfigError(
                f"Nothing can listen on {host}:{port}: {error.strerror}.",
                do="Change [listen] in radnode.toml, or stop what uses the port.",
            ) from error
        return


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


LAST = ("audit", "broker")
"""These end after the others, in this order: what the others still do is told, and heard."""
LAST_S = 5.0
"""Each of them has at least this long, however long the others took."""


def _stop_all(running: list[Role]) -> None:
    """Ask every process to end, ``LAST`` after the others; kill what does not within ``STOP_S``."""
    deadline = time.monotonic() + STOP_S
    first = [role for role in running if role.name not in LAST]
    after = [[role for role in running if role.name == name] for name in LAST]
    for together in (first, *after):
        for role in together:
            if role.process is not None and role.running:
                role.process.terminate()
        _wait(together, max(deadline, time.monotonic() + LAST_S))


def _wait(running: list[Role], deadline: float) -> None:
    for role in running:
        if role.process is None:
            continue
        try:
            role.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            role.process.kill()
            role.process.wait()
