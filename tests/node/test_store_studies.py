"""Instances, series, studies: what has arrived, and when nothing more is expected."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from node.domain import Receipt
from node.store import receiving, routing, spooled, studies
from node.store.tables import conflict, instance, series, study
from tests.node.ledger_rows import (
    STUDY,
    arrived,
    complete,
    events,
    let_time_pass,
    receive,
    rows,
    uid,
)

if TYPE_CHECKING:
    from node.store.ledger import Ledger
    from tests.node.ledger_rows import QuietTimes

A_MINUTE: QuietTimes = (60.0, {})


def record(ledger: Ledger, number: object = 1, **other: Any) -> Receipt:
    with ledger.write() as db:
        (receipt,) = receiving.record_instances(db, [arrived(number, **other)])
    return receipt


def state_of_series(ledger: Ledger) -> tuple[str, int]:
    (row,) = rows(ledger, series)
    return row.state, row.revision


def state_of_study(ledger: Ledger) -> tuple[str, int]:
    (row,) = rows(ledger, study)
    return row.state, row.revision


# --- receiving -------------------------------------------------------------------------------


def test_a_first_instance_opens_its_series_and_study(ledger: Ledger) -> None:
    assert record(ledger) is Receipt.NEW
    assert state_of_series(ledger) == ("receiving", 0)
    assert state_of_study(ledger) == ("receiving", 0)


def test_a_resend_is_counted_and_moves_no_timer(ledger: Ledger) -> None:
    record(ledger)
    complete(ledger)
    before = rows(ledger, series), rows(ledger, study)
    assert record(ledger, association_id="another") is Receipt.RESENT
    assert (rows(ledger, series), rows(ledger, study)) == before
    (row,) = rows(ledger, instance)
    assert row.resends == 1


def test_other_content_under_the_same_uid_is_kept_aside_and_told_once(ledger: Ledger) -> None:
    record(ledger)
    complete(ledger)
    for _ in range(2):
        other = record(ledger, digest="f" * 64, path="ff/other.dcm")
        assert other is Receipt.CONFLICT
    (first,) = rows(ledger, instance)
    assert first.digest == arrived().digest
    assert [row.path for row in rows(ledger, conflict)] == ["ff/other.dcm"]
    assert len(events(ledger, "instance_conflict")) == 1
    assert state_of_series(ledger) == ("complete", 1)


def test_a_spool_file_has_a_row_as_instance_or_as_conflict(ledger: Ledger) -> None:
    record(ledger)
    record(ledger, digest="f" * 64, path="ff/other.dcm")
    with ledger.read() as db:
        known = spooled.instances_after(db, spooled.FIRST, ["ab", "ff"], 10)
        assert [path for _, path in known] == ["ab/1.dcm"]
        assert spooled.instances_after(db, spooled.FIRST, ["ff"], 10) == ()
        assert spooled.conflicts(db, ["ab", "ff"]) == {"ff/other.dcm"}
        assert spooled.conflicts(db, ["ab"]) == set()


def test_every_instance_is_on_one_page_however_long_a_page_is(ledger: Ledger) -> None:
    for number in range(12):
        record(ledger, number, study_uid=uid("study", number % 2), series_uid=uid(number % 3))
    for limit in (1, 2, 5, 12):
        found: list[str] = []
        key = spooled.FIRST
        with ledger.read() as db:
            while page := spooled.instances_after(db, key, ["ab"], limit):
                found += [path for _, path in page]
                key = page[-1][0]
        assert sorted(found) == sorted(f"ab/{number}.dcm" for number in range(12))


def test_our_own_result_opens_no_study(ledger: Ledger) -> None:
    assert record(ledger, own_result=True) is Receipt.NEW
    assert rows(ledger, study) == rows(ledger, series) == []
    assert len(events(ledger, "own_result_returned")) == 1


def test_our_own_result_neither_reopens_a_study_nor_becomes_its_input(ledger: Ledger) -> None:
    record(ledger)
    complete(ledger)
    record(ledger, 2, own_result=True, calling_ae="PACS")
    assert state_of_series(ledger) == ("complete", 1)
    assert state_of_study(ledger) == ("complete", 1)
    with ledger.read() as db:
        found = studies.instances_of(db, STUDY, uid("series", 1))
        assert [one.sop_instance_uid for one in found] == [uid("instance", 1)]
        assert studies.calling_aes_of(db, STUDY, uid("series", 1)) == ("CT1",)


def test_the_same_series_uid_in_two_studies_is_two_series(ledger: Ledger) -> None:
    record(ledger)
    record(ledger, 2, study_uid=uid("another study"))
    assert len(rows(ledger, series)) == 2


def test_instances_come_in_an_order_that_is_not_that_of_arrival(ledger: Ledger) -> None:
    receive(ledger, *(arrived(number) for number in (3, 1, 2)))
    with ledger.read() as db:
        found = [one.sop_instance_uid for one in studies.instances_of(db, STUDY, uid("series", 1))]
    assert found == sorted(found)
    assert len(found) == 3


def test_listeners_that_record_at_once_lose_nothing_and_count_nothing_twice(
    ledger: Ledger,
) -> None:
    """Four associations send the same forty instances of two series."""

    def send(association: int) -> list[Receipt]:
        order = sorted(range(40), key=lambda number: hash((association, number)))
        return [
            record(
                ledger, number, series_uid=uid("series", number % 2), calling_ae=f"A{association}"
            )
            for number in order
        ]

    with ThreadPoolExecutor(4) as pool:
        receipts = [receipt for each in pool.map(send, range(4)) for receipt in each]
    assert receipts.count(Receipt.NEW) == 40
    assert receipts.count(Receipt.RESENT) == 120
    assert sum(row.resends for row in rows(ledger, instance)) == 120
    assert len(rows(ledger, series)) == 2
    assert len(rows(ledger, study)) == 1


def test_completing_while_instances_arrive_neither_fails_nor_forgets_one(ledger: Ledger) -> None:
    """The completer locks series before studies, a listener the study before its series."""

    def send(first: int) -> None:
        for number in range(first, first + 40):
            record(ledger, number, series_uid=uid("series", number % 3))

    from node import complete as completer
    from node.settings import Complete

    with ThreadPoolExecutor(3) as pool:
        sending = [pool.submit(send, first) for first in (0, 100)]
        while not all(one.done() for one in sending):
            completer.run_once(Complete(series_s=0.0, study_s=0.0), ledger)
        for one in sending:
            one.result()
    completer.run_once(Complete(series_s=0.0, study_s=0.0), ledger)
    assert {row.state for row in rows(ledger, series)} == {"complete"}
    assert state_of_study(ledger)[0] == "complete"


# --- completing ------------------------------------------------------------------------------


def test_a_series_is_complete_after_its_quiet_time_and_not_before(ledger: Ledger) -> None:
    record(ledger)
    assert complete(ledger, A_MINUTE) == ((), ())
    with ledger.write() as db:
        let_time_pass(db, 59.0)
    assert complete(ledger, A_MINUTE) == ((), ())
    with ledger.write() as db:
        let_time_pass(db, 2.0)
    done, whole = complete(ledger, A_MINUTE)
    assert [(one.modality, one.revision) for one in done] == [("CT", 1)]
    assert whole == (STUDY,)


def test_each_instance_starts_the_quiet_time_again(ledger: Ledger) -> None:
    record(ledger)
    with ledger.write() as db:
        let_time_pass(db, 59.0)
    record(ledger, 2)
    with ledger.write() as db:
        let_time_pass(db, 59.0)
    assert complete(ledger, A_MINUTE) == ((), ())


def test_a_modality_may_have_its_own_quiet_time(ledger: Ledger) -> None:
    record(ledger, 1, modality="CT", series_uid=uid("series", "ct"))
    record(ledger, 2, modality="MR", series_uid=uid("series", "mr"))
    with ledger.write() as db:
        let_time_pass(db, 30.0)
    done, whole = complete(ledger, (60.0, {"CT": 10.0}))
    assert [one.modality for one in done] == ["CT"]
    assert whole == ()


def test_a_study_waits_as_long_as_its_slowest_modality_asks(ledger: Ledger) -> None:
    record(ledger, 1, modality="CT", series_uid=uid("series", "ct"))
    record(ledger, 2, modality="MR", series_uid=uid("series", "mr"))
    with ledger.write() as db:
        let_time_pass(db, 30.0)
    assert complete(ledger, study_s=(10.0, {"MR": 60.0}))[1] == ()
    assert complete(ledger, study_s=(10.0, {"MR": 20.0}))[1] == (STUDY,)


def test_a_study_is_not_complete_while_one_of_its_series_is_open(ledger: Ledger) -> None:
    record(ledger, 1, modality="CT", series_uid=uid("series", "ct"))
    record(ledger, 2, modality="MR", series_uid=uid("series", "mr"))
    done, whole = complete(ledger, (0.0, {"MR": 60.0}))
    assert [one.modality for one in done] == ["CT"]
    assert whole == ()


def test_completing_twice_is_completing_once(ledger: Ledger) -> None:
    record(ledger)
    complete(ledger)
    assert complete(ledger) == ((), ())
    with ledger.read() as db:
        assert not studies.anything_receiving(db)
    assert [len(events(ledger, kind)) for kind in ("series_complete", "study_complete")] == [1, 1]


def test_a_late_instance_makes_the_next_revision(ledger: Ledger) -> None:
    record(ledger)
    complete(ledger)
    record(ledger, 2)
    assert state_of_series(ledger) == ("receiving", 1)
    assert state_of_study(ledger) == ("receiving", 1)
    done, _ = complete(ledger)
    assert [one.revision for one in done] == [2]
    assert state_of_study(ledger) == ("complete", 2)


def test_a_late_series_reopens_the_study_but_no_other_series(ledger: Ledger) -> None:
    record(ledger)
    complete(ledger)
    record(ledger, 2, series_uid=uid("series", 2))
    states = {row.series_uid: row.state for row in rows(ledger, series)}
    assert states == {uid("series", 1): "complete", uid("series", 2): "receiving"}
    assert state_of_study(ledger) == ("receiving", 1)


# --- associations ----------------------------------------------------------------------------


def open_association(ledger: Ledger, name: str = "open", listener: str = "listen-1") -> None:
    with ledger.write() as db:
        studies.open_association(db, name, listener=listener, calling_ae="CT1")


def test_a_series_that_an_open_association_feeds_stays_open(ledger: Ledger) -> None:
    open_association(ledger)
    record(ledger, association_id="open")
    assert complete(ledger) == ((), ())
    with ledger.write() as db:
        studies.close_association(db, "open")
    assert len(complete(ledger)[0]) == 1


def test_an_open_association_keeps_no_other_series_open(ledger: Ledger) -> None:
    open_association(ledger)
    record(ledger)
    record(ledger, 2, series_uid=uid("series", 2), association_id="open")
    done, whole = complete(ledger)
    assert [one.series_uid for one in done] == [uid("series", 1)]
    assert whole == ()


def test_an_association_of_a_silent_listener_keeps_nothing_open(ledger: Ledger) -> None:
    open_association(ledger)
    record(ledger, association_id="open")
    with ledger.write() as db:
        let_time_pass(db, studies.ASSOCIATION_SILENCE_S + 1.0)
    assert len(complete(ledger)[0]) == 1


def test_a_heartbeat_keeps_only_its_own_listeners_associations_alive(ledger: Ledger) -> None:
    for listener in ("listen-1", "listen-2"):
        open_association(ledger, listener, listener)
        record(ledger, listener, series_uid=uid(listener), association_id=listener)
    with ledger.write() as db:
        let_time_pass(db, studies.ASSOCIATION_SILENCE_S + 1.0)
        studies.touch_associations(db, "listen-1")
    assert [one.series_uid for one in complete(ledger)[0]] == [uid("listen-2")]


def test_a_listener_that_starts_again_forgets_its_own_associations_only(ledger: Ledger) -> None:
    for listener in ("listen-1", "listen-2"):
        open_association(ledger, listener, listener)
        record(ledger, listener, series_uid=uid(listener), association_id=listener)
    with ledger.write() as db:
        studies.close_associations_of(db, "listen-1")
    assert [one.series_uid for one in complete(ledger)[0]] == [uid("listen-1")]


def test_what_a_dead_listener_was_taking_has_its_whole_quiet_time_again(ledger: Ledger) -> None:
    """Or a scanner that comes back after the restart finds its series closed without the rest."""
    open_association(ledger)
    record(ledger, association_id="open")
    record(ledger, 2, series_uid=uid("series", 2), study_uid=uid("study", 2))
    with ledger.write() as db:
        let_time_pass(db, 120.0)
        studies.close_associations_of(db, "listen-1")
    done, whole = complete(ledger, A_MINUTE, A_MINUTE)
    assert [one.series_uid for one in done] == [uid("series", 2)]
    assert whole == (uid("study", 2),)


# --- a clock that is set back ----------------------------------------------------------------


def set_clock_back(ledger: Ledger, seconds: float = 86_400.0) -> None:
    """Move what is written ahead, as a step of the clock does."""
    with ledger.write() as db:
        let_time_pass(db, -seconds)
        db.execute(series.update().values(route_at=series.c.route_at + seconds))


def test_the_quiet_time_begins_anew_when_the_clock_was_set_back(ledger: Ledger) -> None:
    record(ledger)
    set_clock_back(ledger)
    assert complete(ledger, A_MINUTE, A_MINUTE) == ((), ())
    with ledger.write() as db:
        let_time_pass(db, 61.0)
    done, whole = complete(ledger, A_MINUTE, A_MINUTE)
    assert (len(done), whole) == (1, (STUDY,))


def test_a_dead_listeners_association_holds_nothing_open_when_the_clock_was_set_back(
    ledger: Ledger,
) -> None:
    open_association(ledger)
    record(ledger, association_id="open")
    set_clock_back(ledger)
    assert complete(ledger) == ((), ())  # its listener may be alive
    with ledger.write() as db:
        let_time_pass(db, studies.ASSOCIATION_SILENCE_S + 1.0)
    assert len(complete(ledger)[0]) == 1


def test_a_series_that_routing_put_off_is_routed_although_the_clock_was_set_back(
    ledger: Ledger,
) -> None:
    record(ledger)
    (done,), _ = complete(ledger)
    with ledger.write() as db:
        routing.put_off(db, done, 300.0)
        assert routing.unrouted_series(db) == ()
    set_clock_back(ledger)
    with ledger.read() as db:
        assert routing.unrouted_series(db) == (done,)


# --- routing ---------------------------------------------------------------------------------


def test_a_completed_series_is_to_be_routed_once_per_revision(ledger: Ledger) -> None:
    record(ledger)
    (done,), _ = complete(ledger)
    with ledger.write() as db:
        assert routing.unrouted_series(db) == (done,)
        assert routing.mark_routed(db, done)
        assert not routing.mark_routed(db, done)
        assert routing.unrouted_series(db) == ()
    record(ledger, 2)
    complete(ledger)
    with ledger.read() as db:
        assert [one.revision for one in routing.unrouted_series(db)] == [2]


def test_an_instance_between_completion_and_routing_leaves_it_to_the_next_revision(
    ledger: Ledger,
) -> None:
    record(ledger)
    (done,), _ = complete(ledger)
    record(ledger, 2)
    with ledger.write() as db:
        assert not routing.mark_routed(db, done)
    complete(ledger)
    with ledger.write() as db:
        assert not routing.mark_routed(db, done)
        (again,) = routing.unrouted_series(db)
        assert again.revision == 2
        assert routing.mark_routed(db, again)


@pytest.mark.parametrize("study_s", [0.0, 60.0])
def test_a_completed_series_is_routed_before_its_study_is_complete(
    ledger: Ledger, study_s: float
) -> None:
    record(ledger)
    complete(ledger, study_s=(study_s, {}))
    with ledger.read() as db:
        assert len(routing.unrouted_series(db)) == 1
