"""Supervise: every role runs, is started again when it dies, and ends with its supervisor."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from node import embedded, supervise
from node.cli.options import ready_ledger
from node.errors import ConfigError
from node.settings import Listen, Settings
from node.store import workers
from node.store.ledger import Ledger
from node.store.tables import worker
from node.supervise import Role, worker_name
from tests.peers import free_port, wait_until
from tests.peers.radnode import Node, write_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROLES = ("broker", "listen", "relay", "deliver", "retain", "work", "audit")

once = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture
def node(settings: Settings, tmp_path: Path) -> Iterator[Node]:
    running = Node(settings, write_config(settings, tmp_path / "radnode.toml"))
    yield running
    running.stop()
    embedded.stop(settings)


def roles_of(supervisor: int) -> dict[str, psutil.Process]:
    """Return the processes that ``up`` has started, by the verb they run."""
    found = {}
    for child in psutil.Process(supervisor).children():
        try:
            command = child.cmdline()
        except psutil.NoSuchProcess:
            continue
        verb = command[3] if "node.cli" in command else "broker"
        if child.status() != psutil.STATUS_ZOMBIE and command:
            found[verb] = child
    return found


def all_run(node: Node, supervisor: int) -> bool:
    if set(roles_of(supervisor)) != set(ROLES) or not embedded.is_alive(node.settings):
        return False
    log = node.settings.log_folder
    ready = {"listen-1": "listening", worker_name(1): "worker_ready"}
    return all(
        (log / f"{role}.log").exists() and word in (log / f"{role}.log").read_text()
        for role, word in ready.items()
    )


def has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def tree(supervisor: int) -> list[psutil.Process]:
    return psutil.Process(supervisor).children(recursive=True)


@pytest.mark.slow
def test_up_starts_every_role_heals_each_and_ends_them_all(node: Node) -> None:
    up = node.start("up")
    wait_until(lambda: all_run(node, up.pid), timeout_s=60.0, what="The start of every role")
    first = roles_of(up.pid)
    for process in (psutil.Process(up.pid), *first.values()):
        # A core dump would be patient data on disk; the broker has none, but inherits it.
        assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    second = node.ask("up")
    assert (second.returncode, len(second.stderr.splitlines())) == (1, 2)
    assert f"process {up.pid} on" in second.stderr
    assert {name: one.pid for name, one in roles_of(up.pid).items()} == {
        name: one.pid for name, one in first.items()
    }
    assert embedded.is_alive(node.settings)
    for process in first.values():
        process.kill()
    wait_until(
        lambda: (
            all_run(node, up.pid)
            and all(now.pid != first[name].pid for name, now in roles_of(up.pid).items())
        ),
        timeout_s=60.0,
        what="The restart of every role",
    )
    running = tree(up.pid)
    up.terminate()
    assert up.wait(30) == 0
    assert all(has_ended(process) for process in running)
    assert not embedded.is_alive(node.settings)
    assert "Traceback" not in (node.settings.data.parent / "node.log").read_text()


@once
@pytest.mark.slow
def test_the_roles_end_with_a_supervisor_that_is_killed_and_its_broker_is_adopted(
    node: Node,
) -> None:
    up = node.start("up")
    wait_until(lambda: all_run(node, up.pid), timeout_s=60.0, what="The start of every role")
    broker = roles_of(up.pid)["broker"]
    rest = [process for process in tree(up.pid) if process != broker]
    os.kill(up.pid, signal.SIGKILL)
    up.wait()
    wait_until(
        lambda: all(has_ended(process) for process in rest), what="The end of the orphaned roles"
    )
    assert embedded.is_alive(node.settings)
    again = node.start("up")
    wait_until(lambda: {*ROLES} - {"broker"} <= set(roles_of(again.pid)), what="A second start")
    assert "broker" not in roles_of(again.pid)
    node.stop("up")
    wait_until(lambda: has_ended(broker), what="The end of the adopted broker")


# --- one role --------------------------------------------------------------------------------


@pytest.fixture
def role() -> Iterator[Role]:
    """A worker that has settled, and says nothing."""
    silent = Role("worker-test-1", ["sleep", "600"])
    silent.start()
    silent.started_at -= supervise.SETTLED_S
    yield silent
    if silent.process is not None:
        silent.process.kill()
        silent.process.wait()


def say_something(ledger: Ledger, role: Role, age_s: float) -> None:
    with ledger.write() as db:
        workers.touch_worker(db, role.name, None)
        db.execute(worker.update().values(seen_at=worker.c.seen_at - age_s))


def look_twice(ledger: Ledger, role: Role) -> None:
    supervise._restart_silent_workers([role], ledger)
    assert role.running
    if role.silent_since is not None:
        role.silent_since -= supervise.LOOK_AGAIN_S
    supervise._restart_silent_workers([role], ledger)


def test_a_worker_that_has_gone_silent_is_killed(ledger: Ledger, role: Role) -> None:
    say_something(ledger, role, supervise.SILENT_S + 1.0)
    look_twice(ledger, role)
    assert not role.running


@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
def test_a_step_of_the_clock_kills_no_worker(ledger: Ledger, role: Role, step_s: float) -> None:
    """Nor does a host that slept: a worker that is alive says so before the second look."""
    say_something(ledger, role, step_s)
    supervise._restart_silent_workers([role], ledger)
    say_something(ledger, role, 0.0)
    look_twice(ledger, role)
    assert role.running


def test_a_worker_that_fell_silent_before_the_clock_was_set_back_is_killed(
    ledger: Ledger, role: Role
) -> None:
    say_something(ledger, role, -3600.0)
    look_twice(ledger, role)
    assert not role.running


@once
def test_a_worker_that_never_spoke_is_killed_once_it_has_settled(
    ledger: Ledger, role: Role
) -> None:
    role.started_at = time.monotonic()
    supervise._restart_silent_workers([role], ledger)
    assert role.running
    role.started_at -= supervise.SETTLED_S
    look_twice(ledger, role)
    assert not role.running


@once
def test_a_worker_that_speaks_is_left_alone(ledger: Ledger, role: Role) -> None:
    say_something(ledger, role, 0.0)
    look_twice(ledger, role)
    assert role.running


def test_a_ledger_that_is_away_ends_nobody(role: Role) -> None:
    away = Ledger.open(f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nothing")
    role.silent_since = time.monotonic() - supervise.LOOK_AGAIN_S
    supervise._restart_silent_workers([role], away)
    assert role.running
    assert role.silent_since is None


def test_a_role_that_dies_for_ever_is_started_ever_later_but_always_again(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    failing = Role("relay", ["false"])
    waits_s = []
    for starts in (1, 2, 3, 10, 5_000):
        failing.start()
        assert failing.process is not None
        failing.process.wait()
        failing.starts = starts
        supervise._keep(failing, settings)
        waits_s.append(round(failing.due_at - time.monotonic(), 1))
        assert failing.process is None
    assert waits_s == [0.5, 1.0, 2.0, supervise.LONGEST_DELAY_S, supervise.LONGEST_DELAY_S]


def test_a_role_that_cannot_be_started_is_tried_again_as_if_it_had_died_young(
    tmp_path: Path,
) -> None:
    """No process, no memory, no open file left: that passes, and the other roles still run."""
    settings = Settings(data=tmp_path)
    role = Role("relay", [str(tmp_path)])
    waits_s = []
    for _ in range(3):
        role.due_at = 0.0
        supervise._keep(role, settings)
        waits_s.append(round(role.due_at - time.monotonic(), 1))
        assert not role.running
    assert waits_s == [0.5, 1.0, 2.0]
    role.command, role.due_at = ["sleep", "600"], 0.0
    supervise._keep(role, settings)
    assert role.process is not None
    assert role.running
    role.process.kill()
    role.process.wait()


def test_a_broker_that_has_no_room_for_its_files_is_tried_again(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    (tmp_path / "broker").write_text("no folder can be made here")
    role = Role("broker", [])
    supervise._keep(role, settings)
    assert not role.running
    assert role.due_at > time.monotonic()


def test_a_new_data_folder_is_its_owners_alone(tmp_path: Path) -> None:
    away = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    settings = Settings(data=tmp_path / "data", database=away)
    assert Node(settings, write_config(settings, tmp_path / "radnode.toml")).ask("relay").returncode
    assert settings.data.stat().st_mode & 0o777 == 0o700


def test_a_data_folder_has_one_node_and_says_which(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data")
    for _ in range(2):
        with (
            supervise.alone(settings),
            pytest.raises(ConfigError, match=f"process {os.getpid()} on"),
            supervise.alone(settings),
        ):
            pass
    with supervise.alone(settings), supervise.alone(Settings(data=tmp_path / "another")):
        pass


def test_a_role_that_ran_for_long_starts_again_at_once(tmp_path: Path, role: Role) -> None:
    role.starts = 10
    role.started_at -= 1.0
    supervise._keep(role, Settings(data=tmp_path))
    assert role.starts == 0


def test_a_node_has_as_many_listeners_and_workers_as_its_settings_say(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    more = settings.model_copy(
        update={
            "broker": "redis://elsewhere",
            "listen": settings.listen.model_copy(update={"processes": 2}),
            "work": settings.work.model_copy(update={"processes": 3}),
        }
    )
    names = [role.name for role in supervise.roles(more)]
    assert names == [
        *("audit", "listen-1", "listen-2", "relay", "deliver", "retain"),
        *(worker_name(number) for number in (1, 2, 3)),
    ]
    assert supervise.roles(settings)[0].name == "broker"


def test_a_node_does_not_start_where_something_else_listens(tmp_path, monkeypatch):
    monkeypatch.setattr(supervise, "RELEASE_S", 0.0)
    with socket.socket() as other:
        # The kernel would let both have it.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        listen = Listen(host="127.0.0.1", port=other.getsockname()[1], processes=2)
        settings = Settings(data=tmp_path, listen=listen)
        with pytest.raises(ConfigError, match="Nothing can listen"):
            supervise.up(settings, ready_ledger(settings), threading.Event())


def test_an_address_that_is_not_there_yet_is_left_to_the_listeners():
    supervise._require_port("192.0.2.1", 11112, threading.Event())  # of no host (RFC 5737)
