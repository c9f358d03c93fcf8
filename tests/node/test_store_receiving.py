"""Many instances in one transaction: as if they had come one by one, whoever else writes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, example, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import select

from node.clock import database_now
from node.complete import run_once
from node.domain import Receipt, ReceivedInstance
from node.settings import Complete
from node.store import receiving
from node.store.tables import conflict, event, instance, series, study
from tests.node.ledger_rows import arrived, complete, let_time_pass, rows, uid
from tests.node.results import waiting_result

if TYPE_CHECKING:
    from node.settings import Settings
    from node.store.ledger import Ledger

LATELY_S = 30.0

Arrival = tuple[int, int]
"""(number of an instance, which of its contents)."""


def record(ledger: Ledger, *received: ReceivedInstance) -> tuple[Receipt, ...]:
    with ledger.write() as db:
        return receiving.record_instances(db, received)


# --- in one transaction or in many -----------------------------------------------------------


def instance_of(patient: str, arrival: Arrival, way: int) -> ReceivedInstance:
    """Return one of five instances: two series of one study, a result of it, and another study."""
    number, content = arrival
    owner = 1 if number == 4 else 0
    return arrived(
        number,
        sop_instance_uid=uid(patient, number),
        study_uid=uid(patient, "study", owner),
        series_uid=uid(patient, "series", owner, number % 2),
        modality=("CT", "MR", "PT", "SR", "US")[number],
        digest=f"{content}" * 64,
        path=f"ab/{number}-{content}.dcm",
        calling_ae=f"A{way}",
        association_id=f"{way}",
        own_result=number == 3,
    )


def left_of(ledger: Ledger, patient: str) -> dict[str, list[Any]]:
    """Return every row about one patient, with how lately instead of when."""
    names = {
        uid(patient, *name): name
        for name in (
            *((number,) for number in range(5)),
            *(("study", number) for number in range(2)),
            *(("series", owner, number) for owner in range(2) for number in range(2)),
        )
    }
    with ledger.read() as db:
        now = db.execute(select(database_now())).scalar_one()

    def plain(row: Any) -> dict[str, Any]:
        values = {
            column: now - value < LATELY_S if column.endswith("_at") and value else value
            for column, value in row._mapping.items()
            if column not in {"sequence", "at"}
        }
        return {column: names.get(value, value) for column, value in values.items()}

    found = {
        table.name: [plain(row) for row in rows(ledger, table) if names.keys() & set(row)]
        for table in (instance, conflict, study, series, event)
    }
    for table in (instance, conflict, study, series):
        found[table.name].sort(key=str)
    # What is told when they are complete comes in the order of their UIDs, which differ.
    when_complete = ("complete", "received")
    found["event"] = [one for one in found["event"] if not one["kind"].endswith(when_complete)]
    return found


arrivals = st.tuples(st.integers(0, 4), st.integers(0, 1))
batches = st.lists(
    st.tuples(st.booleans(), st.lists(arrivals, min_size=1, max_size=7)), min_size=1, max_size=3
)
patients = count()


@examples(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches)
@example([(False, [(0, 0), (0, 0), (0, 1), (0, 1), (1, 0)])])
@example([(False, [(0, 0), (1, 0)]), (True, [(0, 0), (4, 0), (2, 0), (2, 0), (1, 1)])])
@example([(False, [(3, 0), (3, 0), (3, 1)]), (True, [(0, 0)]), (False, [(3, 0), (4, 0), (0, 0)])])
def test_a_batch_leaves_what_the_same_instances_leave_one_by_one(
    ledger: Ledger, sent: list[tuple[bool, list[Arrival]]]
) -> None:
    alone, together = (f"{how} {next(patients)}" for how in ("alone", "together"))
    for completed, batch in sent:
        if completed:
            complete(ledger)
        with ledger.write() as db:
            let_time_pass(db, 2.0 * LATELY_S)
        ways = list(enumerate(batch))
        one_by_one = [record(ledger, instance_of(alone, one, way))[0] for way, one in ways]
        at_once = record(ledger, *(instance_of(together, one, way) for way, one in ways))
        assert list(at_once) == one_by_one
        assert left_of(ledger, together) == left_of(ledger, alone)


def test_nothing_received_is_nothing_recorded(ledger: Ledger) -> None:
    assert record(ledger) == ()
    assert rows(ledger, instance) == rows(ledger, study) == []


# --- results of ours -------------------------------------------------------------------------


def test_a_result_of_ours_that_says_nothing_of_it_is_known_by_its_uid(
    settings: Settings, ledger: Ledger
) -> None:
    ours = waiting_result(settings, ledger, ["pacs"])[0].sop_instance_uid
    assert record(ledger, arrived(1), arrived(2, sop_instance_uid=ours)) == (Receipt.NEW,) * 2
    own = {row.sop_instance_uid: row.own_result for row in rows(ledger, instance)}
    assert own == {ours: True, arrived(1).sop_instance_uid: False}


# --- listeners at once -----------------------------------------------------------------------


def test_listeners_that_record_the_same_studies_at_once_wait_for_each_other_and_none_fails(
    ledger: Ledger,
) -> None:
    """Four listeners, each with all of it in an order of its own; the completer among them."""

    def send(listener: int) -> list[Receipt]:
        order = sorted(range(96), key=lambda number: hash((listener, number)))
        batches = [order[first : first + 16] for first in range(0, len(order), 16)]
        return [
            receipt
            for batch in batches
            for receipt in record(ledger, *(of_many(number) for number in batch))
        ]

    at_once = Complete(series_s=0.001, study_s=0.001)
    with ThreadPoolExecutor(5) as pool:
        sent = [pool.submit(send, listener) for listener in range(4)]
        completed = pool.submit(lambda: [run_once(at_once, ledger) for _ in range(10)])
        receipts = [receipt for one in sent for receipt in one.result()]
        completed.result()
    assert receipts.count(Receipt.NEW) == 96
    assert receipts.count(Receipt.RESENT) == 3 * 96
    assert sum(row.resends for row in rows(ledger, instance)) == 3 * 96
    assert (len(rows(ledger, study)), len(rows(ledger, series))) == (8, 16)


def of_many(number: int) -> ReceivedInstance:
    """Return one instance of eight studies with two series each."""
    return arrived(
        number,
        study_uid=uid("of many", number % 8),
        series_uid=uid("of many", number % 8, number % 16),
    )
