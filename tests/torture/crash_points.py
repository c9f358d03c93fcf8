"""Every named point on the way of a study, two hits: the process that reaches it is killed.

Studies go through a node each of whose roles starts again, as soon as it has died at one point,
with the next one armed, until every point has had its turn: on SQLite, then on PostgreSQL. Nobody
waits for leases: they are ended, and the ``LEASE_S`` that they would have lasted are counted into
the recovery.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from contextlib import contextmanager
from itertools import zip_longest
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from node.domain import JobState
from node.store import jobs
from node.store.tables import delivery, job
from tests.peers import wait_until
from tests.torture import harm, oracle
from tests.torture.durable_postgres import DurablePostgres
from tests.torture.node_under_test import LEASE_S, ROLES, NodeUnderTest, node_under_test
from tests.torture.stream import Stream
from tests.torture.subject import Figure, Size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.torture.oracle import Verdict

POINTS = {
    "listen": (
        "receive.part_written",
        "receive.renamed",
        "receive.row_written",
        "receive.answered",
    ),
    "relay": ("complete.closed", "plan.committed", "relay.rung_unmarked"),
    "work": (
        "worker.claimed",
        "inference.running",
        "worker.inferred",
        "publish.gate_passed",
        "publish.files_moved",
        "publish.row_written",
        "publish.finished",
    ),
    "deliver": (
        "deliver.before_send",
        "deliver.sent_unmarked",
        "deliver.marked",
        "commit.row_written",
        "commit.requested",
        "commit.answered",
    ),
}
IN_A_CHILD = "inference.running"
"""Kills the inference process; its worker lives, and tells."""

PER_OBJECT, OBJECTS = "publish.row_written", 2
"""Reached once for each object of a result."""
CHILD_KILLED = "The inference process was killed by signal 9."

LONGEST_S = 90.0
POLL_S = 0.1


def armed(hits: int, chances: random.Random) -> dict[str, list[str]]:
    """Return what each role is armed with, one after the other: points and their hits.

    What kills the first job of a process, and what lets it pass, take turns: so few jobs die of
    three, and are set aside.
    """
    order = {}
    for role, points in POINTS.items():
        mixed = [*points]
        chances.shuffle(mixed)
        pairs = [(point, hit) for point in mixed for hit in range(1, hits + 1)]
        if PER_OBJECT in mixed:
            pairs.append((PER_OBJECT, hits + 1))
        first = [pair for pair in pairs if kills_the_first_job(*pair)]
        later = [pair for pair in pairs if pair not in first]
        padded = [*later, *later[: len(first) - len(later)]]
        turns = (pair for two in zip_longest(first, padded) for pair in two if pair)
        order[role] = [f"{point}:{hit}" for point, hit in turns]
    return order


def kills_the_first_job(point: str, hit: int) -> bool:
    """Whether a process dies in the first job that it has."""
    return hit <= (OBJECTS if point == PER_OBJECT else 1)


def measure(seed: int, size: Size, folder: Path) -> list[Figure]:
    """Kill at every point on both databases."""
    hits = size.choose(quick=2, submission=2, long=10)
    killings: list[_Killing] = []
    verdicts: list[Verdict] = []
    wanted = 0
    with DurablePostgres() as postgres:
        for database in ("sqlite", postgres.url):
            name = database.partition(":")[0]
            points = armed(hits, random.Random(f"{seed} {name}"))
            if size is Size.QUICK:
                points = {role: some[:2] for role, some in points.items()}
            wanted += sum(map(len, points.values()))
            with node_under_test(folder / name, database=database, start=False) as tested:
                killing = _Killing(tested, points)
                verdicts.append(killing.carry_out(f"{seed} {name}"))
                killings.append(killing)
    kills = sum(len(at) for one in killings for at in one.killed_at.values())
    lost, doubled = (sum(getattr(one, what) for one in verdicts) for what in ("lost", "doubled"))
    return [
        Figure("crash points on the way of a study", sum(map(len, POINTS.values()))),
        Figure("kills at named points", kills, wanted, at_least=wanted),
        Figure(
            "jobs set aside with their reason",
            sum(one.set_aside for one in killings),
            note="three kills met the same job; tried again as with radnode retry",
        ),
        Figure(
            "lost instances or results",
            lost,
            kills,
            at_most=0,
            note="; ".join(filter(None, (verdict.note for verdict in verdicts))),
        ),
        Figure("doubled results", doubled, kills, at_most=0),
        Figure(
            "recovery, longest (s)",
            LEASE_S + max(one.longest_recovery_s for one in killings),
            kills,
            at_most=LONGEST_S,
            note=f"{LEASE_S:.0f} s of it are a lease that was ended instead of waited for",
        ),
    ]


class _Killing:
    """One node that is killed at one point after the other.

    Attributes:
        killed_at: Role -> when (seconds since the epoch).
        set_aside: How often a job was, because three kills met it.
        longest_recovery_s: From the last kill of a role, while a study was on its way, until that
            was done.
    """

    def __init__(self, tested: NodeUnderTest, points: dict[str, list[str]]) -> None:
        self._tested = tested
        self._left = {role: [*some] for role, some in points.items()}
        self._armed: dict[str, str] = {}
        self._failures = 0
        self._stream = Stream(tested.port)
        self.killed_at: dict[str, list[float]] = {role: [] for role in ROLES}
        self.set_aside = 0
        self.longest_recovery_s = 0.0

    def carry_out(self, name: str) -> Verdict:
        """Kill everywhere while studies come, and judge what came of them."""
        tested, number = self._tested, 0
        tested.settings.data.mkdir(exist_ok=True)
        self._tend()
        with _repeatedly(self._tend):
            while any(self._left.values()) or self._armed:
                number += 1
                self._stream.scan(harm.study(f"{name} {number}"))
                wait_until(self._wants_more, timeout_s=LONGEST_S, what=f"One of {self._armed}")
            wait_until(
                lambda: not tested.unfinished(JobState.QUARANTINED),
                timeout_s=LONGEST_S,
                what="The last recovery",
            )
        self.longest_recovery_s = self._longest_recovery_s()
        return oracle.verify_ledger(
            tested.settings, tested.ledger, self._stream.acknowledged, tested.pacs
        )

    def _wants_more(self) -> bool:
        """Whether another study is needed: all points had their turn, or nearly all is done."""
        return not (any(self._left.values()) or self._armed) or self._tested.unfinished() <= 1

    def _longest_recovery_s(self) -> float:
        """Return how long a study took, at most, from the last kill of a role on its way."""
        with self._tested.ledger.read() as db:
            query = select(delivery.c.study_uid, func.max(delivery.c.committed_at))
            done_at = dict(db.execute(query.group_by(delivery.c.study_uid)).all())
        longest_s = 0.0
        for study_uid, sent_at in self._stream.sent_at.items():
            done = done_at.get(study_uid) or 0.0  # the verdict has what is lost
            for kills in self.killed_at.values():
                last = max((at for at in kills if sent_at <= at <= done), default=done)
                longest_s = max(longest_s, done - last)
        return longest_s

    def _tend(self) -> None:
        """Start what has died, or never ran, with its next point."""
        self._kill_the_worker_of_a_killed_child()
        self._retry_what_was_set_aside()
        for role in ROLES:
            if self._tested.runs(role):
                continue
            process = self._tested.node.processes.get(role)
            if process is not None:
                status = process.returncode
                assert status == -signal.SIGKILL, f"'{role}' ended with {status}"
                assert role in self._armed, f"'{role}' died at no point"
                del self._armed[role]
                self.killed_at[role].append(time.time())
                self._tested.let_leases_end()
            point = ""
            if self._left[role]:
                point = self._armed[role] = self._left[role].pop(0)
            self._tested.node.start(role, crash_at=point)

    def _retry_what_was_set_aside(self) -> None:
        """Do what a person does who was told."""
        with self._tested.ledger.write() as db:
            query = select(job.c.id).where(job.c.state == JobState.QUARANTINED)
            for job_id in [*db.execute(query).scalars()]:
                self.set_aside += jobs.retry(db, job_id)

    def _kill_the_worker_of_a_killed_child(self) -> None:
        """Or its next children would die there, too: they inherit its point."""
        if self._armed.get("work", "").startswith(IN_A_CHILD):
            failures = self._tested.log().count(CHILD_KILLED)
            if failures > self._failures:
                self._failures = failures
                self._tested.node.processes["work"].kill()
                self._tested.node.processes["work"].wait()


@contextmanager
def _repeatedly(do: Callable[[], None]) -> Iterator[None]:
    """Do something again and again beside the block; raises what it raised."""
    end = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        while not end.wait(POLL_S):
            try:
                do()
            except BaseException as error:
                failures.append(error)
                return

    thread = threading.Thread(target=run, name="killer")
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
        if failures:
            raise failures[0]
