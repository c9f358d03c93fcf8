"""What a process of the node cannot do, and what it leaves where: on a whole node at work."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import redis

from node import embedded
from node.settings import Complete, FolderDestination, Listen, Route, Settings
from tests.peers import REPOSITORY, bright_spot, free_port, scanner, wait_until
from tests.peers.radnode import Node, write_config

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Worked:
    """A node that runs, and has analysed and delivered one study.

    Attributes:
        processes: Of the node, also those that its processes have started.
        usual: Where temporary files would be, if nobody had said otherwise.
        out: The folder that results went to.
    """

    settings: Settings
    processes: list[psutil.Process]
    usual: Path
    out: Path


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worked]:
    folder = tmp_path_factory.mktemp("node")
    usual, out, packages = (folder / name for name in ("tmp", "out", "packages"))
    for each in (usual, out, packages):
        each.mkdir()
    out.chmod(0o750)
    settings = Settings(
        data=folder / "data",
        listen=Listen(host="127.0.0.1", port=free_port(), processes=1),
        complete=Complete(series_s=0.2),
        destinations={"out": FolderDestination(kind="folder", path=out)},
        routes=(Route(match={"Modality": "CT"}, run=(bright_spot.NAME,), send_to=("out",)),),
    )
    environment = {**bright_spot.install(packages), "TMPDIR": str(usual)}
    running = Node(settings, write_config(settings, folder / "radnode.toml"), environment)
    supervisor = psutil.Process(running.start("up").pid)
    try:
        running.listening(timeout_s=120)
        answers = scanner.send(settings.listen.port, bright_spot.ct_series("hardening"))
        assert {answer.status for answer in answers} == {0x0000}
        wait_until(lambda: list(out.rglob("*.dcm")), timeout_s=120, what="A delivery")
        processes = [supervisor, *supervisor.children(recursive=True)]
        yield Worked(settings, processes, usual, out)
    finally:
        running.stop()
        embedded.stop(settings)


def test_no_process_of_the_node_dumps_core(node: Worked) -> None:
    names = [" ".join(process.cmdline()) for process in node.processes]
    for verb in ("up", "listen", "relay", "work", "deliver", "inference_child", "broker.sock"):
        assert any(verb in name for name in names), f"{verb} is not among {names}"
    limits = {resource.prlimit(each.pid, resource.RLIMIT_CORE) for each in node.processes}
    assert limits == {(0, 0)}


def test_nothing_in_the_data_folder_is_for_others(node: Worked) -> None:
    everything = [node.settings.data, *node.settings.data.rglob("*")]
    assert any(path.suffix == ".dcm" for path in everything)
    readable = [path for path in everything if path.lstat().st_mode & 0o077]
    assert [path for path in readable if not path.is_symlink()] == []


def test_who_may_read_a_destination_may_read_what_comes_there(node: Worked) -> None:
    (study,) = node.out.iterdir()
    assert stat.S_IMODE(study.stat().st_mode) == 0o750
    assert {stat.S_IMODE(one.stat().st_mode) for one in study.iterdir()} == {0o640}


def test_temporary_files_lie_in_the_data_folder_only(node: Worked) -> None:
    assert list(node.usual.iterdir()) == []
    owned = [path for path in (node.settings.data / "tmp").iterdir() if path.is_dir()]
    assert len(owned) == len([one for one in node.processes if "node.cli" in one.cmdline()])


CONFINED = """
import sys, tempfile
from pathlib import Path
from node.confine import confine

confine(Path(sys.argv[1]))
with tempfile.NamedTemporaryFile(delete=False) as file:
    print(file.name, flush=True)
sys.stdin.read()
"""


def confined(data: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start a process of the node that leaves a temporary file; return it and the file."""
    process = subprocess.Popen(
        [sys.executable, "-c", CONFINED, data],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_process_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    killed, left = confined(tmp_path)
    living, kept = confined(tmp_path)
    assert left.is_relative_to(tmp_path)
    assert left.exists()
    killed.kill()
    killed.communicate()
    last, _ = confined(tmp_path)
    assert not left.parent.exists()
    assert kept.exists()
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    for process in (living, last):
        process.communicate()
        assert process.returncode == 0


def test_the_broker_does_for_the_node_what_it_needs_and_nothing_dangerous(node: Worked) -> None:
    """No command that the working node gave was denied; no dangerous one is granted."""
    with embedded.administrator(node.settings) as all_powerful:
        assert all_powerful.acl_log() == []
        path = str(embedded.socket_path(node.settings))
        with redis.Redis(unix_socket_path=path) as ordinary:
            for dangerous in (
                *("FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET dir", "CONFIG SET dir /"),
                *("DEBUG SLEEP 0", "MODULE LIST", "SHUTDOWN NOSAVE", "ACL LIST", "MONITOR"),
                *("REPLICAOF 127.0.0.1 1", "SAVE", "CLIENT KILL TYPE normal"),
                *("FUNCTION LIST", "SET other 1", "GET other", "PUBLISH other 1"),
            ):
                with pytest.raises(redis.ResponseError, match=r"[Nn]o permission|not allowed"):
                    ordinary.execute_command(*dangerous.split())
            assert ordinary.eval("return redis.call('LLEN', KEYS[1])", 1, "radnode:radnode") == 0
        assert all_powerful.config_get("dir")


def test_a_strange_password_makes_nobody_administrator(node: Worked) -> None:
    path = str(embedded.socket_path(node.settings))
    stranger = redis.Redis(unix_socket_path=path, username=embedded.ADMINISTRATOR, password="guess")
    with stranger, pytest.raises(redis.exceptions.AuthenticationError):
        stranger.ping()


def test_the_broker_holds_bells_and_no_results(node: Worked) -> None:
    with embedded.administrator(node.settings) as all_powerful:
        names = {name.decode() for name in all_powerful.keys("*")}
    assert all(name.startswith("radnode:") for name in names)
    assert not [name for name in names if "task-meta" in name]


def test_the_brokers_folder_in_a_place_for_everybody_must_be_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that is too long for a socket leads to /tmp, where another may have been first."""
    settings = Settings(data=tmp_path / ("long " * 30))
    monkeypatch.setattr(embedded, "_SHORT_PLACE", tmp_path)
    embedded.command(settings)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(OSError, match="belongs to another user"):
        embedded.command(settings)
