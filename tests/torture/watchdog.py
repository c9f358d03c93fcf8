"""What is alive and does nothing: found and started again, while the whole node runs.

A worker that is frozen; a broker that is frozen, so that no bell is heard; an inference process
that is frozen. Each time a study comes, and its result must come, too.
"""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil

from node.domain import JobState
from node.supervise import SETTLED_S
from tests.peers import accepts, wait_until
from tests.torture import harm, oracle
from tests.torture.harm import Harm
from tests.torture.node_under_test import node_under_test
from tests.torture.stream import Stream
from tests.torture.subject import Figure, Size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.torture.node_under_test import NodeUnderTest

LONGEST_S = 60.0
WORK, INFERENCE = "node.cli work", "node.inference_child"
"""What tells a process among those of the node."""


def measure(seed: int, size: Size, folder: Path) -> list[Figure]:
    """Freeze one after the other; how long until it is replaced, or passed by."""
    times = size.choose(quick=0, submission=1, long=30)
    found_s: list[float] = []
    child_s: list[float] = []
    deaf_s: list[float] = []
    with node_under_test(folder, start=False) as tested:
        up = tested.node.start("up")
        wait_until(lambda: accepts(tested.port), timeout_s=60.0, what="The start of the listener")
        stream = Stream(tested.port)
        for number in range(max(1, times)):
            name = f"watchdog {seed} {number}"
            child_s.append(_hung_child(tested, stream, f"{name} child"))
            deaf_s.append(_deaf_worker(tested, stream, f"{name} deaf"))
            if times:
                _settled(tested, up.pid)
                found_s.append(_silent_worker(tested, stream, f"{name} worker", up.pid))
        tested.wait_finished("The work of all that was frozen")
        verdict = oracle.verify_ledger(
            tested.settings, tested.ledger, stream.acknowledged, tested.pacs
        )
    longest_s = {"found": found_s, "child": child_s, "deaf": deaf_s}
    return [
        *(
            Figure(what, max(longest_s[which]), len(longest_s[which]), at_most=LONGEST_S)
            for which, what in (
                ("found", "silent worker: until another one runs (s)"),
                ("child", "hung inference process: until another one has done its job (s)"),
                ("deaf", "dead consumer: until a job starts without its bell (s)"),
            )
            if longest_s[which]
        ),
        Figure(
            "lost instances or results", verdict.lost, verdict.studies, at_most=0, note=verdict.note
        ),
        Figure("doubled results", verdict.doubled, verdict.studies, at_most=0),
    ]


def _settled(tested: NodeUnderTest, up_pid: int) -> None:
    """Wait until the supervisor judges its worker: it lets the young one be."""
    wait_until(
        lambda: time.time() - _process(up_pid, WORK).create_time() > SETTLED_S + 1.0,
        timeout_s=2 * SETTLED_S,
        what="The settling of the worker",
    )


def _silent_worker(tested: NodeUnderTest, stream: Stream, name: str, up_pid: int) -> float:
    """Freeze the worker while it works; how long until there is another (s)."""
    stream.scan(harm.study(name, Harm.SLOW))
    _wait_working(tested)
    frozen = _process(up_pid, WORK)
    frozen.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    stream.scan(harm.study(f"{name} next"))
    wait_until(
        lambda: not _alive(frozen) and _find(up_pid, WORK) is not None,
        timeout_s=3 * LONGEST_S,
        what="Another worker",
    )
    took_s = time.monotonic() - begun
    tested.wait_finished("The work of the silent worker")
    return took_s


def _hung_child(tested: NodeUnderTest, stream: Stream, name: str) -> float:
    """Freeze the inference process while it works; how long until its job is done (s)."""
    stream.scan(harm.study(name, Harm.SLOW))
    _wait_working(tested)
    up_pid = tested.node.processes["up"].pid
    _process(up_pid, INFERENCE).send_signal(signal.SIGSTOP)
    return tested.wait_finished("The job of the hung process")


def _deaf_worker(tested: NodeUnderTest, stream: Stream, name: str) -> float:
    """Freeze the broker, so that its connections live and say nothing; how long a job waits (s)."""
    with _frozen(tested.broker.client().info("server")["process_id"]):
        stream.scan(harm.study(name))
        tested.wait_finished("The job whose bell nobody hears")
    (row,) = tested.jobs()[-1:]
    return float(row["started_at"] - row["planned_at"])


@contextmanager
def _frozen(process_id: int) -> Iterator[None]:
    process = psutil.Process(process_id)
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def _wait_working(tested: NodeUnderTest) -> None:
    wait_until(
        lambda: any(one["state"] == JobState.IN_PROGRESS for one in tested.jobs()),
        what="The start of the job",
    )


def _process(up_pid: int, words: str) -> psutil.Process:
    found: list[psutil.Process] = []

    def there() -> bool:
        process = _find(up_pid, words)
        found[:] = [] if process is None else [process]
        return bool(found)

    wait_until(there, what=f"The process '{words}'")
    return found[0]


def _find(up_pid: int, words: str) -> psutil.Process | None:
    """Return the process of the node whose command has these words."""
    for process in psutil.Process(up_pid).children(recursive=True):
        try:
            if words in " ".join(process.cmdline()):
                return process
        except psutil.NoSuchProcess:
            continue
    return None


def _alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
