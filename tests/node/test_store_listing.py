"""What people see of the ledger: the newest of each, and how many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import update

from node.clock import database_now
from node.domain import Artifact, JobState, Outcome
from node.store import deliveries, jobs, listing
from node.store.tables import delivery, job, study
from tests.node.ledger_rows import arrived, claimed, complete, plan, planned, receive, uid

if TYPE_CHECKING:
    from sqlalchemy import Table

    from node.store.ledger import Ledger


def let_days_pass(ledger: Ledger, table: Table, at: str, days: float) -> None:
    with ledger.write() as db:
        db.execute(update(table).values({at: table.c[at] - 86_400.0 * days}))


def in_the_order_of(ledger: Ledger, table: Table, at: str, keys: list[str]) -> None:
    """Make rows so new that the first of ``keys`` is the oldest."""
    (key,) = list(table.primary_key)[:1]
    with ledger.write() as db:
        for number, one in enumerate(keys):
            newer = database_now() - 1000.0 + number
            db.execute(update(table).where(key == one).values({at: newer}))


def delivered(ledger: Ledger, name: str) -> str:
    """Finish a job with one object on its way; return the object's UID."""
    plan(ledger, planned(name))
    lease = claimed(ledger)
    made = Artifact(
        sop_instance_uid=uid("made by", name),
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
        study_uid=lease.job.study_uid,
        job_id=lease.job.id,
        role="sr",
        path=f"{lease.job.id}/sr.dcm",
        digest="2" * 64,
        size_bytes=1,
    )
    with ledger.write() as db:
        deliveries.write_artifact(db, made)
        deliveries.plan_deliveries(db, [made], "pacs")
        jobs.finish(db, lease, Outcome.FOUND, "{}")
    return made.sop_instance_uid


def test_of_all_states_the_newest_come_first(ledger: Ledger) -> None:
    names = [f"job {number}" for number in range(6)]
    plan(ledger, *(planned(name) for name in names))
    with ledger.write() as db:
        for name in names[::2]:
            jobs.cancel(db, planned(name).id)
    in_the_order_of(ledger, job, "planned_at", [planned(name).id for name in names])
    with ledger.read() as db:
        newest = [row["id"] for row in listing.jobs(db, 3)]
        canceled = [row["id"] for row in listing.jobs(db, 2, JobState.CANCELED.value)]
    assert newest == [planned(name).id for name in ("job 5", "job 4", "job 3")]
    assert canceled == [planned(name).id for name in ("job 4", "job 2")]


def test_studies_and_deliveries_too(ledger: Ledger) -> None:
    uids = [uid("study", number) for number in range(4)]
    for number, study_uid in enumerate(uids):
        receive(ledger, arrived(number, study_uid=study_uid))
        if number == 1:
            complete(ledger)
    in_the_order_of(ledger, study, "last_instance_at", uids)
    sent = [delivered(ledger, f"job {number}") for number in range(3)]
    with ledger.write() as db:
        deliveries.mark_sent(db, sent[1], "pacs", status=None)
    in_the_order_of(ledger, delivery, "planned_at", sent)
    with ledger.read() as db:
        shown = listing.studies(db, 3)
        assert [row["study_uid"] for row in shown] == uids[:0:-1]
        assert [(row["state"], row["instances"], row["series"]) for row in shown] == [
            ("receiving", 1, 1),
            ("receiving", 1, 1),
            ("complete", 1, 1),
        ]
        rows = listing.deliveries(db, 2)
        assert [(row["sop_instance_uid"], row["role"]) for row in rows] == [
            (sent[2], "sr"),
            (sent[1], "sr"),
        ]
        (row,) = listing.deliveries(db, 2, "sent")
        assert row["sop_instance_uid"] == sent[1]


def test_what_is_over_is_counted_for_a_day_and_what_waits_for_ever(ledger: Ledger) -> None:
    receive(ledger, arrived(1))
    complete(ledger)
    receive(ledger, arrived(2, study_uid=uid("another study")))
    for name in ("sent", "pending"):
        delivered(ledger, name)
    with ledger.write() as db:
        deliveries.mark_sent(db, uid("made by", "sent"), "pacs", status=None)
    plan(ledger, planned("quarantined"))
    lease = claimed(ledger)
    with ledger.write() as db:
        jobs.quarantine(db, lease, what="It failed.", do="Look at it.")
    with ledger.read() as db:
        assert listing.counts(db) == {
            "studies": {"receiving": 1, "complete": 1},
            "jobs": {"completed": 2, "quarantined": 1},
            "deliveries": {"pending": 1, "sent": 1},
            "associations": {"open": 0},
        }
    times = ((study, "last_instance_at"), (job, "planned_at"), (delivery, "planned_at"))
    for table, at in times:
        let_days_pass(ledger, table, at, 1.1)
    with ledger.read() as db:
        assert listing.counts(db) == {
            "studies": {"receiving": 1},
            "jobs": {"quarantined": 1},
            "deliveries": {"pending": 1},
            "associations": {"open": 0},
        }
