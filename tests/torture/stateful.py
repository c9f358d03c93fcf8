"""Arrivals in any order: new, again, under a taken UID, late; beside planning and working.

Hypothesis invents histories of 50 steps. A real listener takes the instances; completion, planning
and the leases of workers are called here, so that a history decides when each happens. A model of
a few lines says what the ledger and the spool must hold.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from sqlalchemy import select, update

from node import complete, plan, route
from node.derive import digest_of
from node.domain import JobState, Lease, Outcome, StudyState
from node.errors import LeaseLost
from node.store import jobs, studies
from node.store.tables import association, conflict, instance, job, series, study
from node.uids import derived_uid
from tests.peers import accepts, scanner, wait_until
from tests.torture import oracle
from tests.torture.node_under_test import node_under_test
from tests.torture.subject import Figure, Size

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset

    from tests.peers.scanner import Scanner
    from tests.torture.node_under_test import NodeUnderTest

STEPS = 50
TAKEN = 0xC010
"""Our status for another content under a UID that is taken."""


@dataclass
class World:
    """What all histories share: a node with a listener, and two scanners that hold associations."""

    tested: NodeUnderTest
    scanners: tuple[Scanner, Scanner]
    name: str
    histories: itertools.count[int] = field(default_factory=itertools.count)
    steps: Counter[str] = field(default_factory=Counter)


def measure(seed: int, size: Size, folder: Path) -> list[Figure]:
    """Let Hypothesis look for a history that breaks the model."""
    examples = size.choose(quick=20, submission=300, long=5000)
    with node_under_test(folder, start=False) as tested:
        sys.path.insert(0, str(folder / "site"))
        route.registry._installed.cache_clear()
        try:
            steps, broken = explore(tested, seed, examples)
        finally:
            sys.path.remove(str(folder / "site"))
            route.registry._installed.cache_clear()
    return [
        Figure("histories", examples, at_least=examples),
        Figure("steps", sum(steps.values()), at_least=int(0.95 * examples * STEPS)),
        *(Figure(f"of them: {what}", count) for what, count in sorted(steps.items())),
        Figure("violations", bool(broken), examples, at_most=0, note=broken),
    ]


def explore(tested: NodeUnderTest, seed: int, examples: int) -> tuple[Counter[str], str]:
    """Try histories until one breaks the model.

    Returns:
        How often each step was taken, and which statement was broken; empty: none was.
    """
    tested.revive(("listen",))
    wait_until(lambda: accepts(tested.port), timeout_s=60.0, what="The start of the listener")
    with (
        scanner.associate(tested.port, calling_ae="CT1") as first,
        scanner.associate(tested.port, calling_ae="CT2") as second,
    ):
        world = World(tested, (first, second), f"stateful {seed}")
        machine = hypothesis.seed(seed)(type("Arrivals", (_Arrivals,), {"world": world}))
        try:
            run_state_machine_as_test(
                machine,
                settings=hypothesis.settings(
                    max_examples=examples,
                    stateful_step_count=STEPS,
                    deadline=None,
                    database=None,
                    phases=(Phase.generate,),
                    suppress_health_check=[*HealthCheck],
                    print_blob=False,
                    report_multiple_bugs=False,
                ),
            )
        except (AssertionError, ExceptionGroup) as error:  # a group, if it did not fail twice
            return world.steps, repr(error)
    return world.steps, ""


class _Arrivals(RuleBasedStateMachine):
    """One study of two series.

    Attributes:
        accepted: Series -> SOP Instance UID -> digest of what came first under it.
        aside: (SOP Instance UID, digest) of what came later under a taken one.
        planned: Series -> digest of each set of instances that was complete once, in order.
        closed: Those of ``planned`` whose job is completed, or was overtaken before it began.
        lease: Of the job being worked on.
    """

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.root = f"{self.world.name} {next(self.world.histories)}"
        self.study = derived_uid(self.root, "study")
        self.accepted: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self.again: Counter[str] = Counter()
        self.aside: set[tuple[str, str]] = set()
        self.planned: defaultdict[str, list[str]] = defaultdict(list)
        self.closed: set[str] = set()
        self.lease: Lease | None = None

    # --- steps ---------------------------------------------------------------------------------

    @rule(
        of_series=st.integers(0, 1),
        number=st.integers(1, 12),
        content=st.sampled_from([0, 0, 0, 0, 1, 2]),
        by=st.integers(0, 1),
    )
    def send(self, of_series: int, number: int, content: int, by: int) -> None:
        image = self._image(of_series, number, content)
        uid, series_uid = str(image.SOPInstanceUID), str(image.SeriesInstanceUID)
        encoded = scanner.encode(image)
        digest = hashlib.sha256(encoded).hexdigest()
        first = self.accepted[series_uid].setdefault(uid, digest)
        answer = self.world.scanners[by].store_bytes(
            encoded, sop_class_uid=str(image.SOPClassUID), sop_instance_uid=uid
        )
        status = answer.status
        if uid not in self.again:
            self.again[uid] = 0
            self.world.steps["late" if self.planned[series_uid] else "new"] += 1
            assert status == 0x0000, "a new instance is refused"
        elif first == digest:
            self.again[uid] += 1
            self.world.steps["again"] += 1
            assert status == 0x0000, "an instance that came again is refused"
        else:
            self.aside.add((uid, digest))
            self.world.steps["conflicting"] += 1
            assert status == TAKEN, "another content under a taken UID is not refused"

    @precondition(lambda self: self._has_grown())
    @rule()
    def time_passes(self) -> None:
        self.world.steps["completed and planned"] += 1
        # The listener may say in between that its associations are open.
        wait_until(self._let_time_pass, what="The completion of every series")
        for series_uid, instances in self.accepted.items():
            digest = _digest_of(instances)
            if digest not in self.planned[series_uid]:
                self.planned[series_uid].append(digest)
            found = [row.input_digest for row in self._jobs(series_uid)]
            assert sorted(found) == sorted(self.planned[series_uid]), "jobs are not one a revision"
        self._put_in_order()

    @precondition(lambda self: self._waits())
    @rule()
    def work_begins(self) -> None:
        self.world.steps["work begun"] += 1
        ledger = self.world.tested.ledger
        with ledger.write() as db:
            lease = jobs.claim(db, "worker-1")
        assert lease is not None, "a job that waits cannot be had"
        assert lease.job.study_uid == self.study, "a job of another history was left"
        with ledger.read() as db:
            is_now = digest_of(studies.instances_by_input(db, lease.job))
        assert is_now == _digest_of(self.accepted[lease.job.series_uid]), "an instance is missing"
        if is_now == lease.job.input_digest:
            self.lease = lease
            return
        with ledger.write() as db:
            jobs.overtake(db, lease)
        self.closed.add(lease.job.input_digest)

    @precondition(lambda self: self.lease is not None)
    @rule()
    def work_ends(self) -> None:
        self.world.steps["work ended"] += 1
        lease, self.lease = self.lease, None
        assert lease is not None
        superseded = self.planned[lease.job.series_uid][-1] != lease.job.input_digest
        try:
            with self.world.tested.ledger.write() as db:
                jobs.finish(db, lease, Outcome.NOTHING_FOUND, "{}")
        except LeaseLost:
            assert superseded, "a result was discarded for no reason"
        else:
            assert not superseded, "a result of a superseded job was taken"
            self.closed.add(lease.job.input_digest)

    def teardown(self) -> None:
        """All is quiet at last: every job is done, and everything is where the model says."""
        self.time_passes()
        if self.lease is not None:
            self.work_ends()
        while self._waits():
            self.work_begins()
            self.work_ends()
        assert not self._open(), "a job is open that nobody waits for"
        self._verify_instances()
        for series_uid, digests in self.planned.items():
            states = {row.input_digest: row.state for row in self._jobs(series_uid)}
            assert states[digests[-1]] == JobState.COMPLETED, "the whole series has no result"
            earlier = {states[digest] for digest in digests[:-1]}
            assert earlier <= {JobState.COMPLETED, JobState.CANCELED}, "a job was left behind"

    # --- the model and the node ----------------------------------------------------------------

    def _let_time_pass(self) -> bool:
        """Complete and plan as if a minute had passed; whether nothing is left to."""
        ledger, settings = self.world.tested.ledger, self.world.tested.settings
        with ledger.write() as db:
            for table in (series, study):
                earlier = table.c.last_instance_at - 60.0
                receiving = table.c.state == StudyState.RECEIVING
                db.execute(update(table).where(receiving).values(last_instance_at=earlier))
            db.execute(update(association).values(seen_at=0.0))
        complete.run_once(settings.complete, ledger)
        plan.run_once(settings, ledger)
        left = (series.c.state == StudyState.RECEIVING) | (
            series.c.routed_revision < series.c.revision
        )
        with ledger.read() as db:
            return db.execute(select(series.c.series_uid).where(left)).first() is None

    def _put_in_order(self) -> None:
        """Let jobs of one moment be due by series.

        Else their ids decide, which no two histories share: one that is tried again would go
        another way, and Hypothesis gives up.
        """
        with self.world.tested.ledger.write() as db:
            for rank, series_uid in enumerate(self.accepted):
                of_series = job.c.series_uid == series_uid
                db.execute(update(job).where(of_series).values(next_attempt_at=float(rank)))

    def _image(self, of_series: int, number: int, content: int) -> Dataset:
        image = scanner.ct_slice(
            number, study=self.study, series=derived_uid(self.root, "series", str(of_series))
        )
        image.SOPInstanceUID = derived_uid(self.root, "instance", f"{of_series} {number}")
        image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.ImageComments = f"content {content}"
        return image

    def _has_grown(self) -> bool:
        """Whether an instance came that no job knows."""
        return any(
            _digest_of(instances) not in self.planned[series_uid]
            for series_uid, instances in self.accepted.items()
        )

    def _waits(self) -> bool:
        """Whether a job is there to be claimed: of each series, the last that was planned."""
        last = {digests[-1] for digests in self.planned.values() if digests}
        return self.lease is None and not last <= self.closed

    def _jobs(self, series_uid: str) -> list[Any]:
        with self.world.tested.ledger.read() as db:
            return [*db.execute(select(job).where(job.c.series_uid == series_uid))]

    def _open(self) -> bool:
        is_open = job.c.state.in_((JobState.SCHEDULED, JobState.IN_PROGRESS))
        with self.world.tested.ledger.read() as db:
            return bool(db.execute(select(job.c.id).where(is_open)).first())

    def _verify_instances(self) -> None:
        with self.world.tested.ledger.read() as db:
            rows = [*db.execute(select(instance).where(instance.c.study_uid == self.study))]
            taken = [row.sop_instance_uid for row in rows]
            beside = [*db.execute(select(conflict).where(conflict.c.sop_instance_uid.in_(taken)))]
        expected = {uid: digest for of in self.accepted.values() for uid, digest in of.items()}
        assert {row.sop_instance_uid: row.digest for row in rows} == expected, "instances differ"
        resends = {row.sop_instance_uid: row.resends for row in rows}
        assert resends == dict(self.again), "instances that came again were not counted"
        aside = {(row.sop_instance_uid, row.digest) for row in beside}
        assert aside == self.aside, "contents set aside differ"
        for row in (*rows, *beside):
            path = self.world.tested.settings.spool_folder / row.path
            assert oracle.data_set_digest(path) == row.digest, "a file differs"


def _digest_of(instances: dict[str, str]) -> str:
    return oracle.input_digest(
        oracle.Sent(uid, study_uid="", digest=digest) for uid, digest in instances.items()
    )
