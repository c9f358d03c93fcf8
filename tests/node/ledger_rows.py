"""Rows for the ledger's tests: instances that arrived, jobs that wait, time that passed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from node.domain import CompletedSeries, PlannedJob, Priority, ReceivedInstance
from node.store import jobs, plans, receiving, studies
from node.store.tables import association, event, instance, job, series, study
from node.uids import derived_uid

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

    from node.domain import Lease
    from node.store.ledger import Ledger

STUDY = derived_uid("a study of the tests")
QuietTimes = tuple[float, dict[str, float]]
AT_ONCE: QuietTimes = (0.0, {})
"""A quiet time that is always over."""


def uid(*names: object) -> str:
    return derived_uid(*(str(name) for name in names))


def arrived(number: object = 1, **other: Any) -> ReceivedInstance:
    """Return the ``number``-th instance of series 1 of ``STUDY``, with any field changed."""
    values: dict[str, Any] = {
        "sop_instance_uid": uid("instance", number),
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "study_uid": STUDY,
        "series_uid": uid("series", 1),
        "modality": "CT",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "digest": hashlib.sha256(f"instance {number}".encode()).hexdigest(),
        "path": f"ab/{number}.dcm",
        "size_bytes": 524_288,
        "calling_ae": "CT1",
        "association_id": "gone",
    }
    return ReceivedInstance(**values | other)


def receive(ledger: Ledger, *received: ReceivedInstance) -> None:
    for one in received:
        with ledger.write() as db:
            receiving.record_instances(db, [one])


def complete(
    ledger: Ledger,
    series_s: QuietTimes = AT_ONCE,
    study_s: QuietTimes = AT_ONCE,
) -> tuple[tuple[CompletedSeries, ...], tuple[str, ...]]:
    """Close what is complete; (series, study UIDs)."""
    with ledger.write() as db:
        return studies.complete_series(db, *series_s), studies.complete_studies(db, *study_s)


def planned(name: str = "job", **other: Any) -> PlannedJob:
    values: dict[str, Any] = {
        "id": hashlib.sha256(name.encode()).hexdigest()[:32],
        "study_uid": STUDY,
        "series_uid": uid("series of", name),
        "sop_instance_uid": "",
        "revision": 1,
        "pipeline": "bright-spot",
        "pipeline_version": "1.0.0",
        "model_sha256": "0" * 64,
        "parameters": "{}",
        "input_digest": "1" * 64,
        "priority": Priority.ROUTINE,
        "deadline_s": 60.0,
        "send_to": ("pacs",),
    }
    return PlannedJob(**values | other)


def plan(ledger: Ledger, *jobs_to_be: PlannedJob) -> list[bool]:
    new = []
    for one in jobs_to_be:
        with ledger.write() as db:
            new.append(plans.plan(db, one))
    return new


def claim(ledger: Ledger, worker: str = "worker") -> Lease | None:
    with ledger.write() as db:
        return jobs.claim(db, worker)


def claimed(ledger: Ledger, worker: str = "worker") -> Lease:
    lease = claim(ledger, worker)
    assert lease is not None
    return lease


def rows(ledger: Ledger, table: Table) -> list[Any]:
    with ledger.read() as db:
        return list(db.execute(select(table)))


def events(ledger: Ledger, kind: str) -> list[Any]:
    with ledger.read() as db:
        return list(db.execute(select(event).where(event.c.kind == kind)))


def job_row(ledger: Ledger, job_id: str) -> Any:
    with ledger.read() as db:
        return db.execute(select(job).where(job.c.id == job_id)).one()


def let_leases_expire(ledger: Ledger) -> None:
    with ledger.write() as db:
        db.execute(job.update().values(lease_until=job.c.lease_until - jobs.LEASE_S - 1.0))


def let_waiting_end(ledger: Ledger) -> None:
    """Make every job that waits for its next attempt, or for its bell, have waited for long."""
    with ledger.write() as db:
        db.execute(job.update().values(next_attempt_at=job.c.next_attempt_at - 3600.0))


def let_time_pass(db: Connection, seconds: float) -> None:
    """Set back every time stamp of what was received."""
    for table in (series, study):
        db.execute(table.update().values(last_instance_at=table.c.last_instance_at - seconds))
    db.execute(association.update().values(seen_at=association.c.seen_at - seconds))
    db.execute(instance.update().values(received_at=instance.c.received_at - seconds))
