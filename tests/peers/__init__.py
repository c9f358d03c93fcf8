"""Real peers for the tests: servers and tools of other makers, started on loopback."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

REPOSITORY = Path(__file__).parents[2]
DATA = REPOSITORY.parent / "shared" / "data"

_PORTS = itertools.count()
_PORTS_A_PROCESS = 2_000

# Where packages put programs that are not on an ordinary user's PATH; first, our own .venv.
_MORE_FOLDERS = (
    str(Path(sys.executable).parent),
    "/usr/sbin",
    *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)),
    *map(str, sorted(Path("/opt/homebrew/opt").glob("postgresql*/bin"), reverse=True)),
    *map(str, sorted(Path("/usr/local/opt").glob("postgresql*/bin"), reverse=True)),
)


def absent(what: str) -> NoReturn:
    """Skip the test for want of ``what``; fail it where RADNODE_REQUIRE_PEERS is 1 (as in CI)."""
    if os.environ.get("RADNODE_REQUIRE_PEERS") == "1":
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


def require(program: str) -> str:
    """Return the path of ``program``, or skip (in CI: fail) the test."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_MORE_FOLDERS))
    return shutil.which(program, path=path) or absent(f"{program} is not installed")


def require_data(*parts: str) -> Path:
    """Return a file or folder of the shared test data, or skip the test.

    Where the data lie beside the repository at all, a missing piece is a failure in CI.
    """
    path = DATA.joinpath(*parts)
    if path.exists():
        return path
    what = f"{'/'.join(parts)} is not among the shared test data"
    if DATA.parent.exists():
        absent(what)
    pytest.skip(what)


def free_port() -> int:
    """Return a loopback TCP port that nobody uses now, and that this process never had before.

    Below those that systems give to outgoing connections (32768 of Linux), so that none takes
    it before a test does. Processes that share the tests have ranges of their own.
    """
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 10_000 + process % 10 * _PORTS_A_PROCESS
    for _ in range(_PORTS_A_PROCESS):
        port = first + (os.getpid() + next(_PORTS)) % _PORTS_A_PROCESS
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no port is free")


def accepts(port: int) -> bool:
    """Whether something listens on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(
    condition: Callable[[], object], *, timeout_s: float = 30.0, what: str = "It"
) -> None:
    """Return as soon as ``condition()`` is true; fail the test if it never becomes so."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"{what} did not happen within {timeout_s:g} s.")
        time.sleep(0.02)


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    ready: Callable[[], bool],
    log: Path,
    stop_signal: int = 15,
    timeout_s: float = 60.0,
    **options: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends.

    Args:
        command: Program and arguments.
        ready: Polled until true before the block starts.
        log: File that gets the server's output; quoted when it does not start.
        stop_signal: What ends it politely.
        timeout_s: For starting, and again for stopping before it is killed.
        options: For ``subprocess.Popen``.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, **options)
    try:
        wait_until(
            lambda: process.poll() is not None or ready(),
            timeout_s=timeout_s,
            what=f"The start of {Path(command[0]).name}",
        )
        if process.returncode is not None:
            pytest.fail(f"{Path(command[0]).name} did not start:\n{log.read_text()[-2000:]}")
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(stop_signal)
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
