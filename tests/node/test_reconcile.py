"""All that was received is accounted for, or a person is told what is not."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select

from node import reconcile, reread, retain
from node.domain import DeliveryState, JobState
from node.reindex import reindex
from node.remove import remove
from node.settings import Route
from node.store import reading
from node.store.ledger import open_ledger
from node.store.reconciling import Fate, Line
from node.store.tables import artifact, delivery, event, instance, job, series, study
from node.terms import Retain
from tests.node import histories
from tests.node.command import Command, scan
from tests.node.histories import (
    COMMITTING,
    FORGOTTEN,
    PLAIN,
    History,
    Job,
    Sent,
    happen,
    planned_row,
    with_destinations,
)
from tests.node.ledger_rows import events, rows, uid
from tests.node.receiving import instances
from tests.node.test_reindex import leave
from tests.peers import scanner

if TYPE_CHECKING:
    from pathlib import Path

    from node.settings import Settings
    from node.store.ledger import Ledger

NEVER = threading.Event()
once = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


# --- what is true of a history ---------------------------------------------------------------


def of_delivery(one: Sent) -> Fate:
    if one.state is DeliveryState.SENT:
        return Fate.DELIVERED if one.destination == PLAIN else Fate.IN_FLIGHT
    return {
        DeliveryState.PENDING: Fate.IN_FLIGHT,
        DeliveryState.COMMITTED: Fate.COMMITTED,
        DeliveryState.REFUSED: Fate.REFUSED,
        DeliveryState.CANCELED: Fate.HELD,
    }[one.state]


def of_job(one: Job) -> Fate:
    if one.state is JobState.COMPLETED:
        return max(map(of_delivery, one.sent), default=Fate.HELD)
    return {
        JobState.SCHEDULED: Fate.IN_FLIGHT,
        JobState.IN_PROGRESS: Fate.IN_FLIGHT,
        JobState.QUARANTINED: Fate.QUARANTINED,
        JobState.CANCELED: Fate.HELD,
    }[one.state]


def truth(happened: list[History]) -> dict[Line, Counter[Fate]]:
    """Count as a person would who knows what happened; every study has two series of two."""
    counts: dict[Line, Counter[Fate]] = {line: Counter() for line in Line}
    for one in happened:
        first = max(map(of_job, one.jobs), default=Fate.HELD)
        second = Fate.IN_FLIGHT if one.series_receiving or one.series_unrouted else Fate.HELD
        if one.receiving or one.unrouted:
            first = second = Fate.IN_FLIGHT
        counts[Line.SERIES].update([first, second])
        counts[Line.STUDIES].update([max(first, second)])
        aside = [Fate.HELD] if one.set_aside else []
        counts[Line.INSTANCES].update([first, first, second, second, *aside])
        counts[Line.JOBS].update(map(of_job, one.jobs))
        for planned in one.jobs:
            if planned.state is JobState.COMPLETED:
                counts[Line.RESULTS].update(
                    map(of_delivery, planned.sent) if planned.sent else [Fate.HELD]
                )
    return counts


def counted(found: reconcile.Balance) -> dict[Line, Counter[Fate]]:
    return {line: +Counter(numbers) for line, numbers in found.fates.items()}


ONE_OF_EACH = [
    *(
        History((Job(JobState.COMPLETED, (Sent(state, to),)),))
        for state in DeliveryState
        for to in (COMMITTING, PLAIN, FORGOTTEN)
    ),
    *(History((Job(state),)) for state in JobState),
    History(),
    History(receiving=True),
    History(series_receiving=True),
    History(unrouted=True),
    History(series_unrouted=True),
    History((Job(JobState.QUARANTINED), Job(JobState.SCHEDULED)), set_aside=True),
]


def test_one_of_each_is_counted_as_what_it_is(settings: Settings, ledger: Ledger) -> None:
    node = with_destinations(settings)
    for number, one in enumerate(ONE_OF_EACH):
        happen(node, ledger, f"study {number}", one)
    found = reconcile.balance(node, ledger)
    assert counted(found) == truth(ONE_OF_EACH)
    assert found.balances
    assert found.problems == ()
    assert {line: sum(numbers.values()) for line, numbers in truth(ONE_OF_EACH).items()} == (
        found.received
    )
    assert found.held["contents set aside, since another has their UID"] == 1


_numbers = itertools.count()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the ledgers of many examples."""
    return tmp_path_factory.mktemp("histories")


@once
@hypothesis_settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(histories.ANY, max_size=8))
def test_any_histories_balance_before_and_after_retention(settings, many, monkeypatch, happened):
    monkeypatch.setattr(retain, "PAUSE_S", 0.0)
    data = many / str(next(_numbers))
    data.mkdir()
    (data / "ledger.sqlite").write_bytes((settings.data / "ledger.sqlite").read_bytes())
    node = with_destinations(settings, data=data, retain=Retain(keep_free_bytes=1 << 60))
    with open_ledger(node) as ledger:
        for number, one in enumerate(happened):
            happen(node, ledger, f"study {number}", one)
        before = reconcile.balance(node, ledger)
        assert counted(before) == truth(happened)
        assert before.balances
        retain.run_once(node, ledger, NEVER)
        after = reconcile.balance(node, ledger)
        assert (after.received, after.fates) == (before.received, before.fates)


# --- what is not accounted for ---------------------------------------------------------------


def committed() -> History:
    return History((Job(JobState.COMPLETED, (Sent(DeliveryState.COMMITTED, COMMITTING),)),))


def lose_series(db: Any) -> None:
    db.execute(delete(series).where(series.c.series_uid == uid("study", 2)))


def lose_event(db: Any) -> None:
    db.execute(delete(event).where(event.c.kind == "no_route"))


def lose_deliveries(db: Any) -> None:
    db.execute(delete(delivery))


def lose_results(db: Any) -> None:
    db.execute(delete(delivery))
    db.execute(delete(artifact))


def complete_nothing(db: Any) -> None:
    row = planned_row("nothing", uid("study", "study"), uid("study", 2))
    db.execute(insert(job).values(**row, send_to=PLAIN, state="completed", planned_at=0.0))


@pytest.mark.parametrize(
    ("lose", "line", "what"),
    [
        (lose_series, Line.INSTANCES, "Instances of series that the ledger does not know"),
        (lose_series, Line.SERIES, "Instances of series that the ledger does not know"),
        (lose_event, Line.SERIES, "Series that were routed, and nothing says what for"),
        (lose_event, Line.INSTANCES, "Series that were routed, and nothing says what for"),
        (lose_deliveries, Line.JOBS, "Completed jobs without a result, or with one that goes"),
        (lose_results, Line.JOBS, "Completed jobs without a result, or with one that goes"),
        (complete_nothing, Line.JOBS, "Completed jobs without a result, or with one that goes"),
    ],
)
def test_what_nothing_accounts_for_is_named(settings, ledger, lose, line, what):
    node = with_destinations(settings)
    happen(node, ledger, "study", committed())
    with ledger.write() as db:
        lose(db)
    found = reconcile.balance(node, ledger)
    assert not found.balances
    assert found.difference(line) > 0
    (problem,) = found.problems
    assert problem.what.startswith(what)
    assert problem.do


def test_while_others_write_it_balances(settings: Settings, ledger: Ledger) -> None:
    node = with_destinations(settings)
    stop = threading.Event()

    def write() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            happen(node, ledger, f"study {number}", ONE_OF_EACH[number % len(ONE_OF_EACH)])

    writing = threading.Thread(target=write)
    writing.start()
    try:
        found = [reconcile.balance(node, ledger) for _ in range(15)]
    finally:
        stop.set()
        writing.join()
    assert all(one.balances for one in found)
    assert found[-1].received[Line.STUDIES] > found[0].received[Line.STUDIES]


@once
def test_a_real_study_is_in_flight_until_its_job_is_done(node, ledger):
    scan(node, ledger)
    found = reconcile.balance(node, ledger)
    assert found.balances
    assert found.fates[Line.JOBS][Fate.IN_FLIGHT] == 1


# --- once a day ------------------------------------------------------------------------------


@once
def test_once_a_day_a_person_is_told_whether_it_balances(settings, ledger, monkeypatch, capfd):
    monkeypatch.setattr(reconcile, "CONFIRM_S", 0.0)
    node = with_destinations(settings)
    happen(node, ledger, "study", committed())
    assert reconcile.run_once(node, ledger, NEVER).balances
    (told,) = events(ledger, "reconciled")
    assert told.detail == "4 instances = 2 committed + 2 held"
    with ledger.write() as db:
        lose_event(db)
    assert not reconcile.run_once(node, ledger, NEVER).balances
    (told,) = events(ledger, "not_reconciled")
    assert "radnode reanalyse" in told.detail
    assert "not_reconciled" in "".join(capfd.readouterr())


@once
def test_in_a_month_of_days_every_file_is_read_again(settings, ledger, monkeypatch):
    monkeypatch.setattr(reconcile, "SHARE", 3)
    monkeypatch.setattr(reread, "BYTES_PER_S", 1e12)
    spool_of(settings, ledger, 8)
    damaged = settings.spool_folder / instances(ledger)[5]["path"]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\0")
    for _ in range(4):
        reconcile.run_once(settings, ledger, NEVER)
    assert len(events(ledger, "spool_file_damaged")) >= 1


# --- reading again ---------------------------------------------------------------------------

FAULTS = (
    *("spool_file_damaged", "spool_file_missing", "spool_file_unknown"),
    *("result_file_damaged", "result_file_missing", "result_folder_unknown"),
)


def spool_of(settings: Settings, ledger: Ledger, number: int) -> None:
    """Receive so many instances, as real files."""
    for one in range(1, number + 1):
        leave(settings, scanner.ct_slice(one))
    reindex(settings, ledger)


def read_all(
    settings: Settings, ledger: Ledger, *, at_most: int | None = None
) -> tuple[reading.Position, bool]:
    return reread.reread(settings, ledger, NEVER, name="test", bytes_per_s=1e12, at_most=at_most)


def test_every_damage_of_the_disk_is_found_and_told_once(settings, ledger, monkeypatch):
    monkeypatch.setattr(reread, "YOUNG_S", -60.0)
    spool_of(settings, ledger, 6)
    node = with_destinations(settings)
    happen(node, ledger, "study", committed())
    with ledger.write() as db:  # its own instances are no DICOM files
        db.execute(delete(instance).where(instance.c.study_uid == uid("study", "study")))
    for path in node.spool_folder.glob("??/*.dcm"):
        if path.stat().st_size < 100:
            path.unlink()
    assert read_all(node, ledger)[0].faults == 0

    bit, cut, gone, junk = (node.spool_folder / row["path"] for row in instances(ledger)[:4])
    content = bit.read_bytes()
    bit.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    cut.write_bytes(cut.read_bytes()[:-300])
    gone.unlink()
    junk.write_bytes(b"junk")
    (node.artifact_folder / "studyx0" / "sr-0.dcm").write_bytes(b"junk")
    (node.artifact_folder / "of-nobody").mkdir()
    unknown = node.spool_folder / "ab" / f"{'ab' * 32}.dcm"
    unknown.parent.mkdir(exist_ok=True)
    unknown.write_bytes(b"junk")
    at, is_end = read_all(node, ledger)
    assert (at.files, at.faults, is_end) == (7, 7, True)
    kinds = Counter(row.kind for row in rows(ledger, event))
    assert [kinds[kind] for kind in FAULTS] == [3, 1, 1, 1, 0, 1]


def test_who_is_interrupted_goes_on_where_he_was(settings: Settings, ledger: Ledger) -> None:
    spool_of(settings, ledger, 5)
    for files in (2, 4):
        at, is_end = read_all(settings, ledger, at_most=2)
        assert (at.files, is_end) == (files, False)
    at, is_end = read_all(settings, ledger)
    assert (at.files, is_end) == (5, True)
    assert rows(ledger, reading.reading) == []
    assert read_all(settings, ledger)[0].files == 5  # from the beginning


@once
def test_it_reads_no_faster_than_it_is_told(settings, ledger):
    spool_of(settings, ledger, 3)
    size = (settings.spool_folder / instances(ledger)[0]["path"]).stat().st_size
    paused: list[float] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            paused.append(timeout or 0.0)
            return False

    reread.reread(settings, ledger, Stop(), name="test", bytes_per_s=size / 60.0)
    assert len(paused) == 3
    assert all(50.0 < seconds < 61.0 for seconds in paused)


@once
def test_what_is_released_while_it_is_read_is_no_fault(settings, ledger):
    node = with_destinations(settings, retain=Retain(studies_days=0.0, results_days=0.0))
    happen(node, ledger, "study", committed())
    retain.run_once(node, ledger, NEVER)
    remove(node, ledger, grace_s=0.0)
    assert read_all(node, ledger)[0].faults == 0


# --- the verb --------------------------------------------------------------------------------


@once
def test_the_verb_prints_a_table_and_ends_with_1_where_it_does_not_balance(
    radnode: Command, settings: Settings, ledger: Ledger
) -> None:
    node = with_destinations(settings, routes=(Route(run=("bright-spot-ct",)),))
    radnode.configure(node)
    happen(node, ledger, "study", committed())
    said = radnode("reconcile")
    assert said.status == 0
    assert "It balances." in said.out
    (line,) = [one for one in said.out.splitlines() if one.startswith("instances")]
    assert line.split() == ["instances", "4", "2", "0", "2", "0", "0", "0", "0"]
    found = radnode("reconcile", "--json").json
    assert found["lines"]["series"]["committed"] == 1
    with ledger.write() as db:
        lose_event(db)
    said = radnode("reconcile")
    assert said.status == 1
    assert "It does NOT balance." in said.out
    assert "radnode reanalyse STUDY" in said.out


@once
def test_the_verb_reads_every_file_again(radnode, settings, ledger):
    radnode.configure(settings)
    spool_of(settings, ledger, 2)
    with ledger.write() as db:
        db.execute(study.update().values(state="complete", routed_revision=0, revision=1))
    said = radnode("reconcile", "--rehash", "--speed", "1000")
    assert (said.status, "2 files read again, 0 faults" in said.out) == (0, True)
    with ledger.read() as db:
        path = db.execute(select(instance.c.path).limit(1)).scalar_one()
    (settings.spool_folder / path).write_bytes(b"junk")
    said = radnode("reconcile", "--rehash")
    assert (said.status, "2 files read again, 1 faults" in said.out) == (1, True)
