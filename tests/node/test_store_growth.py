"""What the ledger has finished costs nothing: counted in steps of SQLite's machine, not in time."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from node.domain import Artifact, DeliveryState, Outcome
from node.store import (
    bells,
    commitments,
    deliveries,
    jobs,
    listing,
    outages,
    plans,
    receiving,
    rejections,
    routing,
    studies,
    timers,
    workers,
)
from node.store.ledger import Ledger
from tests.bench.ledger_history import DESTINATION, build
from tests.node.ledger_rows import arrived, plan, planned, uid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

    Step = Callable[[Connection], Any]

A_MINUTE = (60.0, {"CT": 30.0})

NUMBERS = itertools.count()
"""Of what is new."""


def receive(db: Connection) -> None:
    """Twenty new instances."""
    receiving.record_instances(db, [arrived(next(NUMBERS)) for _ in range(20)])


def finish(db: Connection) -> None:
    """A job, planned and done."""
    plans.plan(db, planned(f"job {next(NUMBERS)}"))
    lease = jobs.claim(db, "worker")
    assert lease is not None
    row: dict[str, Any] = dict.fromkeys(Artifact.__dataclass_fields__, "")
    row |= {"study_uid": lease.job.study_uid, "job_id": lease.job.id, "size_bytes": 1}
    made = Artifact(**row | {"sop_instance_uid": uid("made", lease.job.id)})
    deliveries.write_artifact(db, made)
    deliveries.plan_deliveries(db, [made], DESTINATION)
    jobs.finish(db, lease, Outcome.FOUND, "{}")


def deliver(db: Connection) -> None:
    """The result of a job, sent, and committed to at the second asking."""
    finish(db)
    for due in deliveries.claim_due(db, DESTINATION):
        deliveries.mark_sent(db, due.sop_instance_uid, DESTINATION, status=None)
    for _ in range(2):
        asked = commitments.claim_uncommitted(db, DESTINATION, timeout_s=60.0)
        assert asked is not None
        commitments.abandon_commitment(db, asked.transaction_uid, what="", retry_in_s=0.0)
    uids = [sop_instance_uid for _, sop_instance_uid in asked.references]
    commitments.mark_committed(db, asked.transaction_uid, uids)


STEPS: dict[str, Step] = {
    "is anything receiving": studies.anything_receiving,
    "complete series": lambda db: studies.complete_series(db, *A_MINUTE),
    "complete studies": lambda db: studies.complete_studies(db, *A_MINUTE),
    "quiet ends": lambda db: timers.quiet_ends_in_s(db, A_MINUTE, A_MINUTE, held_s=1.0),
    "unrouted series": routing.unrouted_series,
    "unrouted studies": routing.unrouted_studies,
    "bells": bells.unrung,
    "forgotten": bells.forgotten,
    "claim": lambda db: jobs.claim(db, "worker"),
    "held": lambda db: workers.holds_lease(db, "token"),
    "due": lambda db: timers.delivery_due_in_s(db, DESTINATION, DeliveryState.PENDING),
    "deliver": lambda db: deliveries.claim_due(db, DESTINATION),
    "nowhere": lambda db: deliveries.without_destination(db, [DESTINATION]),
    "unsent": lambda db: outages.unsent(db, [DESTINATION]),
    "uncommitted": lambda db: commitments.claim_uncommitted(db, DESTINATION, timeout_s=60.0),
    "reject": lambda db: rejections.plan_due(db, DESTINATION, commits=True),
    "a listener starts": lambda db: studies.close_associations_of(db, "listen-1"),
    "receive": receive,
    "plan, claim and finish": finish,
    "send and commit": deliver,
    "radnode studies": lambda db: listing.studies(db, 5),
    "radnode jobs": lambda db: listing.jobs(db, 5),
    "radnode deliveries": lambda db: listing.deliveries(db, 5),
    "radnode watch": listing.counts,
}


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ledger, Ledger]]:
    """A ledger of 10 finished studies and one of 200, with a job that waits in each."""
    folder = tmp_path_factory.mktemp("grown")
    ledgers = []
    for instances in (1_000, 20_000):
        path = folder / f"{instances}.sqlite"
        build(path, instances)
        ledgers.append(Ledger.open(f"sqlite:///{path}"))
        plan(ledgers[-1], planned())
    yield ledgers[0], ledgers[1]
    for ledger in ledgers:
        ledger.close()


def machine_steps(ledger: Ledger, step: Step) -> int:
    """Return how many instructions SQLite executes for a step."""
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 0

    with ledger.write() as db:
        connection: Any = db.connection.driver_connection
        connection.set_progress_handler(count, 1)
        step(db)
        connection.set_progress_handler(None, 1)
    return counted


@pytest.mark.parametrize("step", STEPS)
def test_a_step_costs_no_more_after_twenty_times_as_many_studies(
    grown: tuple[Ledger, Ledger], step: str
) -> None:
    young, old = (machine_steps(ledger, STEPS[step]) for ledger in grown)
    assert young > 0
    assert old <= 1.5 * young
