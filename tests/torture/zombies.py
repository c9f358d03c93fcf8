"""Frozen workers that wake after their lease: what they bring is discarded.

Two workers take turns. One is frozen in the middle of a job, its lease is ended instead of waited
for, the other one does the job, and is frozen in the next; then the first wakes, result in hand.
"""

from __future__ import annotations

import json
import random
import signal
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from node.domain import JobState
from node.store.tables import event, job
from node.supervise import worker_name
from tests.peers import accepts, wait_until
from tests.torture import harm, oracle
from tests.torture.harm import Harm
from tests.torture.node_under_test import node_under_test
from tests.torture.stream import Stream
from tests.torture.subject import Figure, Size

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.torture.node_under_test import NodeUnderTest

EARLIEST_S, LATEST_S = 0.1, 0.45
"""After a job has started, its worker is frozen: while the model works, for half a second. Its
answer waits in the pipe. Not in a transaction: on SQLite all would wait for it to wake."""
LAST_WORD_S = 20.0
"""In which the last that woke says what became of its result."""


@dataclass(frozen=True)
class _Worker:
    name: str
    process: subprocess.Popen[bytes]


def measure(seed: int, size: Size, folder: Path) -> list[Figure]:
    """Let every job but the last be done by a worker while another one sleeps on it."""
    chances = random.Random(seed)
    rounds = size.choose(quick=4, submission=50, long=1000)
    with node_under_test(folder, start=False) as tested:
        tested.revive(("listen", "relay", "deliver"))
        wait_until(lambda: accepts(tested.port), timeout_s=60.0, what="The start of the listener")
        stream = Stream(tested.port)
        for number in range(rounds + 1):
            stream.scan(harm.study(f"zombies {seed} {number}", Harm.SLOW))
        wait_until(lambda: len(tested.jobs()) == rounds + 1, what="The planning")
        with ExitStack() as stack:
            frozen = _take_turns(tested, stack, rounds, chances)
            tested.wait_finished("The last job")
            end = time.monotonic() + LAST_WORD_S
            while (discarded := _discarded(tested, frozen)) < rounds and time.monotonic() < end:
                time.sleep(0.2)
        verdict = oracle.verify_ledger(
            tested.settings, tested.ledger, stream.acknowledged, tested.pacs
        )
        with tested.ledger.read() as db:
            completed = [*db.execute(select(event.c.job_id).where(event.c.kind == "job_completed"))]
    return [
        Figure("workers that woke after their lease", rounds),
        Figure("results of theirs that were discarded", discarded, rounds, at_least=rounds),
        Figure("jobs completed twice", len(completed) - len(set(completed)), rounds, at_most=0),
        Figure("lost instances or results", verdict.lost, rounds, at_most=0, note=verdict.note),
        Figure("doubled results", verdict.doubled, rounds, at_most=0),
    ]


def _take_turns(
    tested: NodeUnderTest, stack: ExitStack, rounds: int, chances: random.Random
) -> list[tuple[str, str]]:
    """Freeze one worker and wake the other, again and again; both are awake in the end.

    Returns:
        Each job that a worker was frozen in, and the name of that worker.
    """
    awake, asleep = _start(tested, stack, 1), None
    frozen: list[tuple[str, str]] = []
    job_id = ""
    for _ in range(rounds):
        job_id = _freeze(tested, awake, chances, but=job_id)
        frozen.append((job_id, awake.name))
        with tested.ledger.write() as db:
            db.execute(update(job).where(job.c.id == job_id).values(lease_until=0.0))
        awake, asleep = asleep or _start(tested, stack, 2), awake
        awake.process.send_signal(signal.SIGCONT)
    if asleep is not None:
        asleep.process.send_signal(signal.SIGCONT)
    return frozen


def _discarded(tested: NodeUnderTest, frozen: list[tuple[str, str]]) -> int:
    """Return how many of these workers have woken, and said that their job was not theirs.

    Who slept for longer than the model may take says first that this was late.
    """
    said: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for line in tested.log().splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            said[entry.get("job", ""), entry.get("role", "")].add(entry["event"])
    return sum(
        bool(said[one] & {"lease_lost", "job_failed"}) and "job_completed" not in said[one]
        for one in frozen
    )


def _start(tested: NodeUnderTest, stack: ExitStack, number: int) -> _Worker:
    process = tested.node.start("work", "--number", str(number))
    del tested.node.processes["work"]  # each has this name
    stack.callback(process.wait, 30)
    stack.callback(process.terminate)
    stack.callback(process.send_signal, signal.SIGCONT)
    return _Worker(worker_name(number), process)


def _freeze(tested: NodeUnderTest, worker: _Worker, chances: random.Random, *, but: str) -> str:
    """Freeze a worker in the middle of a job, but not of the one that it took over; its id."""
    while True:
        wait_until(
            lambda: _held(tested, worker) not in {"", but}, timeout_s=60.0, what="The next job"
        )
        time.sleep(chances.uniform(EARLIEST_S, LATEST_S))
        worker.process.send_signal(signal.SIGSTOP)
        held = _held(tested, worker)
        if held not in {"", but}:
            return held
        worker.process.send_signal(signal.SIGCONT)  # it was quicker than we


def _held(tested: NodeUnderTest, worker: _Worker) -> str:
    """Return the job that a worker works on; empty if there is none."""
    working = (job.c.worker == worker.name, job.c.state == JobState.IN_PROGRESS)
    with tested.ledger.read() as db:
        return db.execute(select(job.c.id).where(*working)).scalar_one_or_none() or ""
