"""Jobs, leases, bells: planned once, claimed by one, finished by whoever holds the token."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import chain, takewhile
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from node.domain import Outcome, Priority
from node.errors import LeaseLost
from node.store import bells, jobs, plans, workers
from node.store.ledger import open_ledger
from node.store.tables import job, outbox
from tests.node.ledger_rows import (
    claim,
    claimed,
    events,
    job_row,
    let_leases_expire,
    let_waiting_end,
    plan,
    planned,
    rows,
    uid,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

    from node.domain import Lease
    from node.settings import Settings
    from node.store.ledger import Ledger

WHAT = {"what": "It failed.", "do": "Look."}


def fail(ledger: Ledger, lease: Lease) -> None:
    with ledger.write() as db:
        jobs.fail(db, lease, **WHAT, retry_in_s=0.0)


def finish(ledger: Ledger, lease: Lease) -> None:
    with ledger.write() as db:
        jobs.finish(db, lease, Outcome.FOUND, "{}")


def retry(ledger: Ledger, job_id: str) -> bool:
    with ledger.write() as db:
        return jobs.retry(db, job_id)


def cancel(ledger: Ledger, job_id: str) -> bool:
    with ledger.write() as db:
        return jobs.cancel(db, job_id)


# --- planning --------------------------------------------------------------------------------


def test_planning_twice_is_planning_once(ledger: Ledger) -> None:
    assert plan(ledger, planned(), planned()) == [True, False]
    assert len(rows(ledger, job)) == len(rows(ledger, outbox)) == 1
    assert len(events(ledger, "job_scheduled")) == 1


def test_a_finished_job_is_not_planned_again(ledger: Ledger) -> None:
    plan(ledger, planned())
    finish(ledger, claimed(ledger))
    assert plan(ledger, planned()) == [False]
    assert claim(ledger) is None


def test_planners_that_race_plan_once(ledger: Ledger) -> None:
    with ThreadPoolExecutor(4) as pool:
        new = list(pool.map(lambda _: plan(ledger, planned())[0], range(12)))
    assert new.count(True) == 1
    assert len(rows(ledger, outbox)) == 1


def test_a_bell_is_written_only_with_its_job(ledger: Ledger) -> None:
    class PowerCut(Exception):
        pass

    def plan_and_die() -> None:
        with ledger.write() as db:
            plans.plan(db, planned())
            raise PowerCut

    with pytest.raises(PowerCut):
        plan_and_die()
    assert rows(ledger, job) == rows(ledger, outbox) == []


def test_a_bell_for_no_job_is_refused(ledger: Ledger) -> None:
    with pytest.raises(IntegrityError), ledger.write() as db:
        db.execute(insert(outbox).values(job_id="nobody"))


def test_a_planned_job_comes_back_whole_with_its_lease(ledger: Ledger) -> None:
    wanted = planned(send_to=("pacs", "research"), priority=Priority.STAT, deadline_s=12.5)
    plan(ledger, wanted)
    lease = claimed(ledger)
    assert lease.job == wanted
    assert lease.attempt == 1
    assert lease.supersedes is None


def test_a_job_without_destinations_comes_back_without(ledger: Ledger) -> None:
    plan(ledger, planned(send_to=()))
    assert claimed(ledger).job.send_to == ()


# --- superseding -----------------------------------------------------------------------------


def revision(number: int, **other: Any) -> Any:
    return planned(f"revision {number}", series_uid=uid("one"), revision=number, **other)


def test_a_later_revision_cancels_a_job_that_waits(ledger: Ledger) -> None:
    plan(ledger, revision(1), revision(2))
    assert job_row(ledger, revision(1).id).state == "canceled"
    assert claimed(ledger).job == revision(2)
    assert claim(ledger) is None


def test_a_later_revision_takes_the_lease_of_a_job_at_work(ledger: Ledger) -> None:
    plan(ledger, revision(1))
    lease = claimed(ledger)
    plan(ledger, revision(2))
    with pytest.raises(LeaseLost):
        finish(ledger, lease)
    assert job_row(ledger, revision(1).id).state == "canceled"


def test_a_later_revision_names_the_finished_job_it_replaces(ledger: Ledger) -> None:
    plan(ledger, revision(1))
    finish(ledger, claimed(ledger))
    plan(ledger, revision(2))
    lease = claimed(ledger)
    assert lease.supersedes == revision(1).id
    assert job_row(ledger, revision(1).id).state == "completed"


def test_the_predecessor_is_the_last_finished_job(ledger: Ledger) -> None:
    for number in (1, 2):
        plan(ledger, revision(number))
        finish(ledger, claimed(ledger))
    plan(ledger, revision(3), revision(4))
    assert claimed(ledger).supersedes == revision(2).id


@pytest.mark.parametrize(
    "other", [{"pipeline": "another"}, {"series_uid": uid("two")}, {"study_uid": uid("other")}]
)
def test_nothing_else_is_superseded(ledger: Ledger, other: dict[str, str]) -> None:
    plan(ledger, revision(1), planned("other", **{"series_uid": uid("one"), "revision": 2} | other))
    assert {row.state for row in rows(ledger, job)} == {"scheduled"}


# --- claiming --------------------------------------------------------------------------------


def drain(ledger: Ledger, worker: str = "worker") -> Iterator[Lease]:
    return (lease for lease in takewhile(bool, iter(lambda: claim(ledger, worker), 0)) if lease)


def test_stat_goes_before_routine_and_the_oldest_first(ledger: Ledger) -> None:
    plan(ledger, planned("first"), planned("second"), planned("urgent", priority=Priority.STAT))
    order = [lease.job.id for lease in drain(ledger)]
    assert order == [planned(name).id for name in ("urgent", "first", "second")]


@pytest.mark.parametrize("hold", [False, True])
def test_a_job_is_claimed_although_the_clock_was_set_back_by_a_day(
    ledger: Ledger, hold: bool
) -> None:
    plan(ledger, planned())
    if hold:
        claimed(ledger, "dead")
    set_clock_back(ledger, 86_400.0)
    with ledger.read() as db:
        assert bells.forgotten(db) == (planned().id,)
    assert claimed(ledger).job == planned()


def test_a_clock_that_is_set_right_by_a_second_takes_no_job_from_its_worker(
    ledger: Ledger,
) -> None:
    plan(ledger, planned())
    claimed(ledger, "one")
    set_clock_back(ledger, 1.0)
    assert claim(ledger, "two") is None


def set_clock_back(ledger: Ledger, seconds: float) -> None:
    """Move what is written ahead, as a step of the clock does."""
    with ledger.write() as db:
        for at in (job.c.next_attempt_at, job.c.lease_until):
            db.execute(job.update().values({at: at + seconds}))


def test_a_job_that_a_worker_holds_cannot_be_claimed(ledger: Ledger) -> None:
    plan(ledger, planned())
    claimed(ledger, "one")
    assert claim(ledger, "two") is None


def test_a_dead_workers_job_is_claimed_again_after_its_lease(ledger: Ledger) -> None:
    plan(ledger, planned())
    first = claimed(ledger, "one")
    let_leases_expire(ledger)
    second = claimed(ledger, "two")
    assert second.job == first.job
    assert (second.attempt, second.token != first.token) == (2, True)


def test_a_renewed_lease_holds(ledger: Ledger) -> None:
    plan(ledger, planned())
    lease = claimed(ledger)
    let_leases_expire(ledger)
    with ledger.write() as db:
        jobs.renew(db, lease)
    assert claim(ledger) is None


def test_every_attempt_has_the_content_date_of_the_first(ledger: Ledger) -> None:
    plan(ledger, planned())
    first = claimed(ledger)
    let_leases_expire(ledger)
    second = claimed(ledger)
    assert second.first_started_at == first.first_started_at
    fail(ledger, second)
    assert claimed(ledger).first_started_at == first.first_started_at


def claim_all(ledger: Ledger, workers: int) -> list[str]:
    def work(number: int) -> list[str]:
        return [lease.job.id for lease in drain(ledger, f"worker-{number}")]

    with ThreadPoolExecutor(workers) as pool:
        return list(chain.from_iterable(pool.map(work, range(workers))))


def test_workers_that_race_never_get_the_same_job(ledger: Ledger) -> None:
    wanted = [planned(f"job {number}") for number in range(50)]
    with ledger.write() as db:
        for one in wanted:
            plans.plan(db, one)
    got = claim_all(ledger, workers=8)
    assert sorted(got) == sorted(one.id for one in wanted)


def test_processes_that_race_for_expired_leases_never_get_the_same_job(
    settings: Settings, ledger: Ledger
) -> None:
    """As above, but every ledger has connections of its own, as in separate processes."""
    with ledger.write() as db:
        for number in range(20):
            plans.plan(db, planned(f"job {number}"))
    assert len(list(drain(ledger, "dead"))) == 20
    let_leases_expire(ledger)
    ledgers = [open_ledger(settings) for _ in range(4)]
    try:
        with ThreadPoolExecutor(4) as pool:
            each = list(pool.map(lambda own: [one.job.id for one in drain(own)], ledgers))
    finally:
        for own in ledgers:
            own.close()
    got = list(chain.from_iterable(each))
    assert len(got) == len(set(got)) == 20


# --- the fence -------------------------------------------------------------------------------

WRITES: tuple[Callable[[Connection, Lease], None], ...] = (
    jobs.renew,
    lambda db, lease: jobs.finish(db, lease, Outcome.FOUND, "{}"),
    lambda db, lease: jobs.fail(db, lease, **WHAT, retry_in_s=0.0),
    lambda db, lease: jobs.quarantine(db, lease, **WHAT),
    jobs.overtake,
    jobs.release,
)


def taken_over(ledger: Ledger, _: Lease) -> None:
    let_leases_expire(ledger)
    claimed(ledger, "another")


def canceled(ledger: Ledger, lease: Lease) -> None:
    assert cancel(ledger, lease.job.id)


def released(ledger: Ledger, lease: Lease) -> None:
    with ledger.write() as db:
        jobs.release(db, lease)


@pytest.mark.parametrize("lose", [taken_over, canceled, released, finish])
def test_a_stale_token_changes_nothing(
    ledger: Ledger, lose: Callable[[Ledger, Lease], None]
) -> None:
    plan(ledger, planned())
    lease = claimed(ledger)
    lose(ledger, lease)
    before = rows(ledger, job), rows(ledger, outbox)
    for write in WRITES:
        with pytest.raises(LeaseLost), ledger.write() as db:
            write(db, lease)
    assert (rows(ledger, job), rows(ledger, outbox)) == before


def test_an_expired_lease_that_nobody_took_still_finishes(ledger: Ledger) -> None:
    plan(ledger, planned())
    lease = claimed(ledger)
    let_leases_expire(ledger)
    finish(ledger, lease)
    assert job_row(ledger, lease.job.id).state == "completed"


# --- failing ---------------------------------------------------------------------------------


def test_a_failed_job_waits_for_its_next_attempt_and_keeps_its_reason(ledger: Ledger) -> None:
    plan(ledger, planned())
    with ledger.write() as db:
        jobs.fail(db, claimed_in(db), **WHAT, retry_in_s=60.0)
    assert claim(ledger) is None
    row = job_row(ledger, planned().id)
    assert (row.state, row.what, row.do) == ("scheduled", "It failed.", "Look.")
    let_waiting_end(ledger)
    assert claimed(ledger).attempt == 2


def claimed_in(db: Connection) -> Lease:
    lease = jobs.claim(db, "worker")
    assert lease is not None
    return lease


def test_the_third_failure_quarantines_the_job_with_its_reason(ledger: Ledger) -> None:
    plan(ledger, planned())
    for _ in range(jobs.MAXIMUM_ATTEMPTS):
        fail(ledger, claimed(ledger))
    row = job_row(ledger, planned().id)
    assert (row.state, row.what, row.do) == ("quarantined", "It failed.", "Look.")
    assert claim(ledger) is None
    assert [one.detail for one in events(ledger, "job_quarantined")] == ["It failed."]


def test_a_job_that_kills_its_workers_is_quarantined_and_says_so(ledger: Ledger) -> None:
    plan(ledger, planned())
    for _ in range(jobs.MAXIMUM_ATTEMPTS):
        claimed(ledger)
        let_leases_expire(ledger)
    assert claim(ledger) is None
    row = job_row(ledger, planned().id)
    assert (row.state, "3 workers died" in row.what) == ("quarantined", True)


def test_a_job_that_kills_its_workers_does_not_hold_up_the_next(ledger: Ledger) -> None:
    plan(ledger, planned("deadly"), planned("harmless"))
    for _ in range(jobs.MAXIMUM_ATTEMPTS):
        assert claimed(ledger).job.id == planned("deadly").id
        let_leases_expire(ledger)
    assert claimed(ledger).job.id == planned("harmless").id


def test_a_released_job_counts_no_attempt_and_is_announced_again(ledger: Ledger) -> None:
    plan(ledger, planned())
    for _ in range(jobs.MAXIMUM_ATTEMPTS + 1):
        lease = claimed(ledger)
        assert lease.attempt == 1
        with ledger.write() as db:
            jobs.release(db, lease)
    assert len(rows(ledger, outbox)) == 1 + jobs.MAXIMUM_ATTEMPTS + 1


def test_a_job_whose_series_has_grown_is_canceled_for_the_next_revision(ledger: Ledger) -> None:
    plan(ledger, revision(1))
    lease = claimed(ledger)
    with ledger.write() as db:
        jobs.overtake(db, lease)
    assert claim(ledger) is None
    plan(ledger, revision(2))
    assert not retry(ledger, revision(1).id)
    assert claimed(ledger).supersedes is None


# --- by a person -----------------------------------------------------------------------------


def test_a_retry_gives_a_quarantined_job_all_its_attempts_again(ledger: Ledger) -> None:
    plan(ledger, planned())
    with ledger.write() as db:
        jobs.quarantine(db, claimed_in(db), **WHAT)
    assert retry(ledger, planned().id)
    assert claimed(ledger).attempt == 1
    assert len(rows(ledger, outbox)) == 2


@pytest.mark.parametrize("end", [lambda *_: None, finish])
def test_what_works_or_is_done_is_not_retried(
    ledger: Ledger, end: Callable[[Ledger, Lease], None]
) -> None:
    plan(ledger, planned())
    end(ledger, claimed(ledger))
    assert not retry(ledger, planned().id)


def test_a_job_that_a_later_revision_replaced_is_not_retried(ledger: Ledger) -> None:
    """It would be analysed with the later instances, under the name of the earlier ones."""
    plan(ledger, revision(1), revision(2))
    assert not retry(ledger, revision(1).id)
    assert claimed(ledger).job == revision(2)


def test_a_canceled_job_is_not_worked_on_until_it_is_retried(ledger: Ledger) -> None:
    plan(ledger, planned())
    assert cancel(ledger, planned().id)
    assert claim(ledger) is None
    assert not cancel(ledger, planned().id)
    assert retry(ledger, planned().id)
    assert claimed(ledger).job == planned()


def test_a_finished_job_is_not_canceled(ledger: Ledger) -> None:
    plan(ledger, planned())
    finish(ledger, claimed(ledger))
    assert not cancel(ledger, planned().id)
    assert job_row(ledger, planned().id).state == "completed"


def test_a_person_and_a_worker_who_end_a_job_at_once_do_not_both_succeed(ledger: Ledger) -> None:
    for number in range(10):
        plan(ledger, planned(f"job {number}"))
        lease = claimed(ledger)

        def finished(lease: Lease = lease) -> bool:
            try:
                finish(ledger, lease)
            except LeaseLost:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            one = pool.submit(finished)
            other = pool.submit(cancel, ledger, lease.job.id)
        assert one.result() is not other.result()
        wanted = "completed" if one.result() else "canceled"
        assert job_row(ledger, lease.job.id).state == wanted


# --- bells and workers -----------------------------------------------------------------------


def test_bells_are_rung_in_order_until_they_are_marked(ledger: Ledger) -> None:
    plan(ledger, planned("one"), planned("two"))
    with ledger.write() as db:
        (first, second) = bells.unrung(db)
        assert [job_id for _, job_id in (first, second)] == [planned("one").id, planned("two").id]
        bells.mark_rung(db, [first[0]])
        assert bells.unrung(db) == (second,)


def test_a_job_is_forgotten_when_it_waits_long_or_its_worker_is_gone(ledger: Ledger) -> None:
    def forgotten() -> tuple[str, ...]:
        with ledger.read() as db:
            return bells.forgotten(db)

    plan(ledger, planned())
    assert forgotten() == ()
    let_waiting_end(ledger)
    assert forgotten() == (planned().id,)
    lease = claimed(ledger)
    assert forgotten() == ()
    let_leases_expire(ledger)
    assert forgotten() == (planned().id,)
    finish(ledger, lease)
    assert forgotten() == ()


def test_a_worker_says_that_it_is_alive_and_what_it_does(ledger: Ledger) -> None:
    with ledger.write() as db:
        assert workers.silent_s(db, "worker-1") is None
        workers.touch_worker(db, "worker-1", None)
        workers.touch_worker(db, "worker-1", "a job")
        silent_s = workers.silent_s(db, "worker-1")
    assert silent_s is not None
    assert silent_s < 10.0
