"""The embedded broker: a real server on a socket in the data folder, and on no network."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import pytest

from node import bell, embedded, supervise
from node.embedded import socket_path
from node.settings import Settings
from tests.peers import running, wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from node.store.ledger import Ledger


@contextmanager
def server(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    with running(
        embedded.command(settings),
        ready=lambda: embedded.is_alive(settings),
        log=settings.data / "broker.log",
    ) as process:
        yield process


@pytest.fixture(params=["short", "a folder whose name is " + "very " * 30 + "long"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    data = tmp_path / request.param
    data.mkdir()
    return Settings(data=data)


def test_it_serves_bells_and_listens_on_no_network(node: Settings) -> None:
    assert not embedded.is_alive(node)
    with server(node) as process:
        assert psutil.Process(process.pid).net_connections("inet") == []
        app = bell.make_app(node)
        bell.ring(app, "job")
        assert bell.unheard(app) == 1
    assert not embedded.is_alive(node)


def test_only_its_own_user_reaches_it(node: Settings) -> None:
    with server(node):
        assert socket_path(node).stat().st_mode & 0o077 == 0


def test_a_socket_is_short_enough_for_every_kernel_and_differs_by_folder(tmp_path: Path) -> None:
    paths = [socket_path(Settings(data=tmp_path / (letter * 200))) for letter in "ab"]
    assert all(len(str(path)) <= embedded.LONGEST_SOCKET_PATH for path in paths)
    assert paths[0] != paths[1]


def test_it_keeps_its_bells_over_a_restart(tmp_path: Path) -> None:
    node = Settings(data=tmp_path)
    with server(node):
        bell.ring(bell.make_app(node), "job")
    with server(node):
        assert bell.unheard(bell.make_app(node)) == 1


def test_a_socket_that_a_crash_left_behind_is_in_nobodys_way(tmp_path: Path) -> None:
    node = Settings(data=tmp_path)
    with server(node) as process:
        process.kill()
        process.wait()
        assert socket_path(node).exists()
        assert not embedded.is_alive(node)
    with server(node):
        assert embedded.is_alive(node)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_one_that_is_alive_is_adopted_and_ends_with_its_new_supervisor(
    settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor that was killed leaves its broker behind; the next one takes it over."""
    only_a_broker = [supervise.Role("broker", [])]
    monkeypatch.setattr(supervise, "roles", lambda _: only_a_broker)
    stop = threading.Event()
    with server(settings) as process:
        thread = threading.Thread(target=supervise.up, args=(settings, ledger, stop))
        thread.start()
        wait_until(thread.is_alive)
        assert only_a_broker[0].process is None
        stop.set()
        thread.join(30)
        assert process.wait(30) == 0
