"""The steps of a study's way through the ledger, as the node takes them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from node.domain import Artifact, Outcome, PlannedJob, Priority, ReceivedInstance
from node.store import bells, commitments, deliveries, jobs, plans, receiving, routing, studies
from tests.bench.ledger_history import DESTINATION, PIPELINE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node.domain import CompletedSeries, Lease
    from node.store.ledger import Ledger

AT_ONCE: tuple[float, dict[str, float]] = (0.0, {"MR": 0.0})
"""A quiet time that is always over."""


def uid() -> str:
    """Return a random UID."""
    return f"2.25.{random.randrange(10**37, 7 * 10**38)}"


def slices(number: int, study_uid: str, series_uid: str) -> list[ReceivedInstance]:
    """Return so many new slices of one series."""
    digests = [f"{random.getrandbits(256):064x}" for _ in range(number)]
    return [
        ReceivedInstance(
            sop_instance_uid=uid(),
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            series_uid=series_uid,
            study_uid=study_uid,
            modality="CT",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            digest=digest,
            path=f"{digest[:2]}/{digest}.dcm",
            size_bytes=526_000,
            calling_ae="CT1",
            association_id="gone",
        )
        for digest in digests
    ]


def look(ledger: Ledger) -> tuple[Any, Any, Any]:
    """Ask everything that the relay asks when nothing has happened."""
    complete(ledger)
    with ledger.read() as db:
        return routing.unrouted_series(db), routing.unrouted_studies(db), bells.unrung(db)


def complete(ledger: Ledger) -> None:
    """Close what is quiet, which is everything."""
    with ledger.read() as db:
        if not studies.anything_receiving(db):
            return
    with ledger.write() as db:
        studies.complete_series(db, *AT_ONCE)
    with ledger.write() as db:
        studies.complete_studies(db, *AT_ONCE)


def record(ledger: Ledger, slices: Sequence[ReceivedInstance]) -> None:
    """Record one batch."""
    with ledger.write() as db:
        receiving.record_instances(db, slices)


def record_all(ledger: Ledger, batches: Sequence[Sequence[ReceivedInstance]]) -> None:
    """Record one batch after the other."""
    for batch in batches:
        record(ledger, batch)


def settle(ledger: Ledger) -> None:
    """Leave nothing open of what was only recorded."""
    complete(ledger)
    with ledger.write() as db:
        for series in routing.unrouted_series(db):
            routing.mark_routed(db, series)
        for study in routing.unrouted_studies(db):
            routing.mark_study_routed(db, study)


def job(study_uid: str, series_uid: str) -> PlannedJob:
    """Return a new job on one series."""
    return PlannedJob(
        id=f"{random.getrandbits(128):032x}",
        study_uid=study_uid,
        series_uid=series_uid,
        sop_instance_uid="",
        revision=1,
        pipeline=PIPELINE,
        pipeline_version="1.0.0",
        model_sha256="0" * 64,
        parameters="{}",
        input_digest="1" * 64,
        priority=Priority.ROUTINE,
        deadline_s=60.0,
        send_to=(DESTINATION,),
    )


def plan(ledger: Ledger, series: CompletedSeries, job: PlannedJob) -> None:
    """Plan one job on a series."""
    with ledger.read() as db:
        studies.instances_of(db, series.study_uid, series.series_uid)
        studies.calling_aes_of(db, series.study_uid, series.series_uid)
    with ledger.write() as db:
        routing.mark_routed(db, series)
        plans.plan(db, job)


def ring(ledger: Ledger) -> None:
    """Mark every bell that waits as rung."""
    with ledger.read() as db:
        waiting = bells.unrung(db)
    with ledger.write() as db:
        bells.mark_rung(db, [sequence for sequence, _ in waiting])


def claim(ledger: Ledger) -> Lease:
    """Claim the next job."""
    with ledger.write() as db:
        lease = jobs.claim(db, "bench")
    if lease is None:
        raise SystemExit("No job is to be claimed.")
    return lease


def finish(ledger: Ledger, lease: Lease) -> None:
    """Finish a job with two objects for one destination."""
    made = [
        Artifact(
            sop_instance_uid=uid(),
            sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
            study_uid=lease.job.study_uid,
            job_id=lease.job.id,
            role=role,
            path=f"{lease.job.id}/{role}.dcm",
            digest="2" * 64,
            size_bytes=40_000,
        )
        for role in ("seg", "sr")
    ]
    with ledger.write() as db:
        for one in made:
            deliveries.write_artifact(db, one)
        deliveries.plan_deliveries(db, made, DESTINATION)
        jobs.finish(db, lease, Outcome.FOUND, "{}")


def deliver(ledger: Ledger) -> None:
    """Claim what is due, and note that it was sent."""
    with ledger.write() as db:
        due = deliveries.claim_due(db, DESTINATION)
    with ledger.write() as db:
        for one in due:
            deliveries.mark_sent(db, one.sop_instance_uid, DESTINATION, status=None)


def commit(ledger: Ledger) -> None:
    """Ask for commitment, and note that it was given."""
    with ledger.write() as db:
        asked = commitments.claim_uncommitted(db, DESTINATION, timeout_s=60.0)
    if asked is None:
        raise SystemExit("Nothing is to be committed to.")
    with ledger.write() as db:
        commitments.mark_committed(db, asked.transaction_uid, [uid for _, uid in asked.references])
