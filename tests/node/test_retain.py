"""What is final goes after its time, or when the disk is low; and nothing else, ever."""

from __future__ import annotations

import copy
import itertools
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import select

from node import plan, retain
from node.domain import DeliveryState, JobState
from node.reindex import Reindexed, reindex
from node.remove import put_back, remove
from node.settings import Route
from node.store import deliveries, removals, retention
from node.store.ledger import open_ledger
from node.store.migrate import migrate
from node.store.tables import artifact, conflict, instance, job, removal, series, study
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
    kept,
    with_destinations,
)
from tests.node.ledger_rows import complete, events, job_row, rows, uid
from tests.node.receiving import instances, listening, open_associations, stored
from tests.peers import REPOSITORY, bright_spot, scanner, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset

    from node.settings import Settings
    from node.store.ledger import Ledger

NEVER = threading.Event()
LOW_DISK = 1 << 60

once = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def keeping(settings: Settings, **terms: Any) -> Settings:
    """Return a node that keeps things for the default time, but for ``terms``."""
    return with_destinations(settings, retain=Retain(**{"keep_free_bytes": 0, **terms}))


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else writes."""
    monkeypatch.setattr(retain, "PAUSE_S", 0.0)


def done(state: DeliveryState = DeliveryState.COMMITTED, to: str = COMMITTING) -> Job:
    return Job(JobState.COMPLETED, (Sent(state, to),))


# --- what goes -------------------------------------------------------------------------------


def test_a_study_goes_when_it_is_final_and_old_and_its_results_later(
    settings: Settings, ledger: Ledger
) -> None:
    node = keeping(settings)
    happen(node, ledger, "new", History((done(),), age_days=29.0))
    old = happen(node, ledger, "old", History((done(),), age_days=31.0))
    oldest = happen(node, ledger, "oldest", History((done(),), age_days=400.0))
    assert retain.run_once(node, ledger, NEVER) == 3
    assert retain.run_once(node, ledger, NEVER) == 0
    assert [one.study_uid for one in events(ledger, "study_released")] == [oldest, old]
    (told,) = events(ledger, "results_released")
    assert told.study_uid == oldest
    assert told.detail == "1 files, 0.0 MB: nothing has happened to it for 365 days"

    # The ledger said so first; the files are still there, and nobody indexes them.
    assert kept(node, "old") == 4
    assert remove(node, ledger, grace_s=0.0)
    assert (kept(node, "old"), kept(node, "new")) == (0, 4)
    assert (node.artifact_folder / "oldestx0").exists()
    assert not remove(node, ledger, grace_s=-1.0)
    assert list((node.spool_folder / "released").iterdir()) == []
    assert {path.name for path in node.artifact_folder.iterdir()} == {"newx0", "oldx0"}
    assert rows(ledger, removal) == []

    # Rows stay, but for those of instances: what comes again is new.
    assert {row["study_uid"] for row in instances(ledger)} == {uid("study", "new")}
    assert len(rows(ledger, study)) == len(rows(ledger, artifact)) == len(rows(ledger, job)) == 3


@once
def test_what_is_delivered_to_whom_nobody_asks_to_commit_is_final(settings, ledger):
    node = keeping(settings, studies_days=0.0)
    sent = {to: done(DeliveryState.SENT, to) for to in (COMMITTING, PLAIN, FORGOTTEN)}
    for name, one in sent.items():
        happen(node, ledger, name, History((one,), age_days=1.0))
    assert retain.run_once(node, ledger, NEVER) == 1
    (told,) = events(ledger, "study_released")
    assert told.study_uid == uid("study", PLAIN)


_numbers = itertools.count()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the ledgers of many examples."""
    return tmp_path_factory.mktemp("histories")


@once
@hypothesis_settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(histories.ANY, min_size=3, max_size=10), st.booleans())
def test_no_history_whatever_releases_what_is_not_final(settings, many, happened, low):
    data = many / str(next(_numbers))
    data.mkdir()
    (data / "ledger.sqlite").write_bytes((settings.data / "ledger.sqlite").read_bytes())
    terms = {"keep_free_bytes": LOW_DISK if low else 0}
    node = keeping(settings.model_copy(update={"data": data}), **terms)
    with open_ledger(node) as ledger:
        named = {f"study {number}": one for number, one in enumerate(happened)}
        for name, one in named.items():
            happen(node, ledger, name, one)
        retain.run_once(node, ledger, NEVER)
        remove(node, ledger, grace_s=0.0)
        remove(node, ledger, grace_s=-1.0)
        for name, one in named.items():
            goes = one.is_final and (one.age_days > 30.0 or (low and one.is_analysed))
            assert kept(node, name) == (0 if goes else 4), one
            results_go = goes and (one.age_days > 365.0 or low)
            folders = [
                (node.artifact_folder / f"{name}x{number}").exists()
                for number, job in enumerate(one.jobs)
                if job.state is JobState.COMPLETED
            ]
            assert not any(folders) if results_go else all(folders), one


@once
def test_a_low_disk_takes_the_oldest_that_are_final_and_no_more_than_it_needs(
    settings, ledger, monkeypatch
):
    node = keeping(settings, keep_free_bytes=10_000)
    for days in (3.0, 1.0, 2.0):
        happen(node, ledger, f"{days:g}", History((done(),), age_days=days))
    happen(node, ledger, "quarantined", History((Job(JobState.QUARANTINED),), age_days=9.0))
    happen(node, ledger, "no route", History(age_days=9.0))
    monkeypatch.setattr(retain, "free_bytes", lambda _: 10_000 - 5_000)  # 4 files of 1000 bytes
    assert retain.run_once(node, ledger, NEVER) == 2
    released = [one.study_uid for one in events(ledger, "study_released")]
    assert released == [uid("study", "3"), uid("study", "2")]
    assert retain.run_once(node, ledger, NEVER) == 0  # what is on its way out counts as free


@once
def test_a_person_is_told_once_a_day_that_nothing_may_go(settings, ledger, capfd):
    node = keeping(settings, keep_free_bytes=LOW_DISK)
    happen(node, ledger, "open", History((done(DeliveryState.PENDING),), age_days=99.0))
    stop = threading.Event()
    running = threading.Thread(target=retain.run, args=(node, ledger, stop))
    running.start()
    while not events(ledger, "disk_low"):
        assert running.is_alive()
    stop.set()
    running.join(10.0)
    (told,) = events(ledger, "disk_low")
    assert "nothing more on it may be removed" in told.detail
    assert "radnode reconcile" in told.detail
    assert "disk_low" in "".join(capfd.readouterr())
    assert kept(node, "open") == 4


@once
def test_own_results_that_came_back_go_by_themselves(settings, ledger):
    node = keeping(settings)
    happen(node, ledger, "open", History((Job(JobState.SCHEDULED),), age_days=31.0))
    with ledger.write() as db:
        mine = instance.c.sop_instance_uid == uid("open", 1, 1)
        db.execute(instance.update().where(mine).values(own_result=True))
    retain.run_once(node, ledger, NEVER)
    remove(node, ledger, grace_s=0.0)
    assert kept(node, "open") == 3
    assert len(instances(ledger)) == 3
    (told,) = events(ledger, "own_results_released")
    assert told.detail.startswith("1 results")


# --- crashes ---------------------------------------------------------------------------------

RUN = """
import sys, threading
from node import retain
from node.remove import remove
from node.settings import Settings
from node.store.ledger import open_ledger
settings = Settings.model_validate_json(sys.argv[1])
ledger = open_ledger(settings)
retain.run_once(settings, ledger, threading.Event())
remove(settings, ledger, grace_s=0.0)
remove(settings, ledger, grace_s=-1.0)
"""


@pytest.mark.parametrize(
    ("database", "point"),
    [
        ("sqlite", "retain.released"),
        ("postgresql", "remove.moved"),
        ("sqlite", "remove.moved:2"),
    ],
    indirect=["database"],
)
def test_a_process_that_is_killed_goes_on_where_it_was(settings, ledger, point):
    node = keeping(settings)
    for name in ("a", "b"):
        happen(node, ledger, name, History((done(),), age_days=400.0))
    happen(node, ledger, "open", History((Job(JobState.IN_PROGRESS),), age_days=400.0))
    run = [sys.executable, "-c", RUN, node.model_dump_json()]
    crashing = os.environ | {"RADNODE_CRASH_AT": point}
    killed = subprocess.run(run, env=crashing, cwd=REPOSITORY, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert reindex(node, ledger) == Reindexed(0, 0, 0, 0)  # nothing comes back, nothing is missed
    retain.run_once(node, ledger, NEVER)
    remove(node, ledger, grace_s=0.0)
    remove(node, ledger, grace_s=-1.0)
    assert [kept(node, name) for name in ("a", "b", "open")] == [0, 0, 4]
    assert rows(ledger, removal) == []
    assert list((node.spool_folder / "released").iterdir()) == []
    assert list(node.artifact_folder.iterdir()) == []
    assert len(events(ledger, "study_released")) == 2


@once
def test_a_file_that_a_power_cut_left_aside_goes_back(settings, ledger):
    """The disk kept the move, and the database forgot who wanted it."""
    node = keeping(settings)
    happen(node, ledger, "study", History((done(),), age_days=1.0))
    aside = node.spool_folder / "released"
    aside.mkdir()
    for row in instances(ledger):
        (node.spool_folder / row["path"]).rename(aside / row["path"][3:])
    assert put_back(node, ledger) == 4
    assert kept(node, "study") == 4


# --- coming again ----------------------------------------------------------------------------

SLICES = bright_spot.ct_series("retained")[:3]
STUDY = str(SLICES[0].StudyInstanceUID)


def another() -> Dataset:
    """Return one more slice of the series."""
    more = copy.deepcopy(SLICES[0])
    more.SOPInstanceUID += ".9"
    more.InstanceNumber = 9
    return more


def received(node: Settings, ledger: Ledger, port: int, slices: list[Any]) -> list[int | None]:
    answers = [answer.status for answer in scanner.send(port, slices)]
    wait_until(lambda: not open_associations(ledger))
    with ledger.write() as db:
        db.execute(study.update().values(last_instance_at=0.0))
        db.execute(series.update().values(last_instance_at=0.0))
    complete(ledger)
    plan.run_once(node, ledger)  # the series ...
    plan.run_once(node, ledger)  # ... then the study
    return answers


def released(node: Settings, ledger: Ledger) -> None:
    """Let the jobs of every study be done, and let it go."""
    with ledger.write() as db:
        db.execute(job.update().values(state="canceled"))
        for study_uid in db.execute(select(study.c.study_uid)).scalars().all():
            assert retention.release_study(db, study_uid, (), why="test") is not None
    remove(node, ledger)
    remove(node, ledger, grace_s=-1.0)


@pytest.fixture
def routed(radnode: Command, settings: Settings) -> Settings:
    """A node that looks at every CT."""
    del radnode
    routes = (Route(match={"Modality": "CT"}, run=(bright_spot.NAME,), send_to=(PLAIN,)),)
    return with_destinations(settings, routes=routes)


def test_a_released_study_that_comes_again_is_a_new_revision_with_files(routed, ledger):
    with listening(routed, ledger) as port:
        assert received(routed, ledger, port, SLICES) == [0, 0, 0]
        released(routed, ledger)
        assert instances(ledger) == []
        assert stored(routed) == {}
        assert received(routed, ledger, port, SLICES) == [0, 0, 0]
    assert len(instances(ledger)) == len(stored(routed)) == 3
    (row,) = rows(ledger, study)
    assert (row.revision, row.released_revision) == (2, 1)
    assert reindex(routed, ledger).missing == 0
    # The same model has spoken of the same images: no second job, and no second result.
    assert len(rows(ledger, job)) == 1


def test_a_part_of_a_released_series_is_not_taken_for_the_whole(routed, ledger):
    with listening(routed, ledger) as port:
        received(routed, ledger, port, SLICES)
        released(routed, ledger)
        received(routed, ledger, port, [SLICES[0], another()])
        assert len(rows(ledger, job)) == 1
        (told,) = events(ledger, "not_planned")
        assert "sent again" in told.detail
        received(routed, ledger, port, [*SLICES, another()])
    assert len(rows(ledger, job)) == 2  # on all four


def test_a_file_whose_instance_comes_again_before_it_is_gone_is_put_back(routed, ledger):
    with listening(routed, ledger) as port:
        received(routed, ledger, port, SLICES)
        with ledger.write() as db:
            db.execute(job.update().values(state="canceled"))
            assert retention.release_study(db, STUDY, (), why="test")
        scanner.send(port, SLICES[:1])  # before it is moved
        assert remove(routed, ledger)
        assert len(stored(routed)) == 1
        scanner.send(port, SLICES[1:2])  # when it is aside: received anew
        place = {row["sop_instance_uid"]: row["path"] for row in instances(ledger)}
        (routed.spool_folder / place[SLICES[1].SOPInstanceUID]).unlink()
        assert remove(routed, ledger)  # ... and as if the listener had found it in its place
        assert stored(routed).keys() == {one.SOPInstanceUID for one in SLICES[:2]}
        remove(routed, ledger, grace_s=-1.0)
    assert stored(routed).keys() == {row["sop_instance_uid"] for row in instances(ledger)}
    assert list((routed.spool_folder / "released").iterdir()) == []


def test_whatever_comes_while_studies_go_has_a_file_for_every_row(routed, ledger):
    """One scanner sends the same study again and again, while it is given up again and again."""
    stop = threading.Event()
    went = itertools.count()

    def give_up() -> None:
        while not stop.is_set():
            with ledger.write() as db:
                db.execute(study.update().values(state="complete", revision=study.c.revision + 1))
                db.execute(study.update().values(routed_revision=study.c.revision))
                db.execute(series.update().values(state="complete", routed_revision=99))
            with ledger.write() as db:
                if retention.release_study(db, STUDY, (), why="test"):
                    next(went)
            remove(routed, ledger, grace_s=2.0)

    with listening(routed, ledger) as port:
        thread = threading.Thread(target=give_up)
        thread.start()
        try:
            with scanner.associate(port) as ct1:
                for _ in range(25):
                    assert {ct1.store(one).status for one in SLICES} == {0}
        finally:
            stop.set()
            thread.join()
    while remove(routed, ledger, grace_s=-1.0):
        pass
    assert next(went) > 5
    assert {row["sop_instance_uid"] for row in instances(ledger)} == stored(routed).keys()


@once
def test_the_result_that_a_later_one_replaces_is_named_only_while_its_file_is_there(
    settings, ledger
):
    node = keeping(settings, studies_days=0.0, results_days=0.0)
    happen(node, ledger, "study", History((done(),), age_days=1.0))
    with ledger.read() as db:
        assert len(deliveries.artifacts_of(db, "studyx0")) == 1
    assert retain.run_once(node, ledger, NEVER) == 2
    with ledger.read() as db:
        assert deliveries.artifacts_of(db, "studyx0") == ()
        assert removals.waiting_bytes(db) == 5000


# --- by a person -----------------------------------------------------------------------------


@once
def test_a_person_releases_what_is_final_and_nothing_else(
    radnode: Command, settings: Settings, ledger: Ledger
) -> None:
    node = keeping(settings)
    radnode.configure(node)
    final = happen(node, ledger, "final", History((done(),)))
    open_ = happen(node, ledger, "open", History((done(DeliveryState.REFUSED),)))
    said = radnode("release", final, "--reason", "The teaching file has it.")
    assert said.status == 0
    assert "received: 4 files" in said.out
    assert "made: 1 files" in said.out
    (told,) = events(ledger, "study_released")
    assert "The teaching file has it." in told.detail
    assert "still to happen" in radnode("release", open_, "--reason", "x").error
    assert "still to happen" in radnode("release", final, "--reason", "x").error
    assert "are released" in radnode("retry", "finalx0").error


@once
def test_a_person_discards_a_study_as_it_is(node: Settings, radnode: Command, ledger: Ledger):
    study_uid = scan(node, ledger)
    happen(node, ledger, "aside", History((done(DeliveryState.SENT),), set_aside=True))
    assert radnode("discard", study_uid, "--reason", "Sent by mistake.").status == 0
    assert radnode("discard", uid("study", "aside"), "--reason", "Test.").status == 0
    states = {row.id: row.state for row in rows(ledger, job)}
    assert sorted(states.values()) == ["canceled", "completed"]
    assert instances(ledger) == rows(ledger, conflict) == []
    remove(node, ledger)
    remove(node, ledger, grace_s=-1.0)
    assert not list(node.spool_folder.rglob("*.dcm"))
    (first, _) = events(ledger, "study_discarded")
    assert first.detail == "Sent by mistake."
    assert first.subject
    (canceled,) = [one for one in states if states[one] == "canceled"]
    assert job_row(ledger, canceled).what == "Canceled by a person."
    assert radnode("why", study_uid).status == 0
    assert radnode("reanalyse", study_uid).status == 0
    assert plan.run_once(node, ledger) == 0
    (told,) = events(ledger, "not_planned")
    assert "were released" in told.detail
    assert "are released" in radnode("retry", canceled).error


@once
def test_a_study_that_arrives_cannot_be_discarded(
    radnode: Command, settings: Settings, ledger: Ledger
) -> None:
    radnode.configure(settings)
    arriving = happen(settings, ledger, "study", History(series_receiving=True))
    assert "may still be arriving" in radnode("discard", arriving, "--reason", "x").error
    assert kept(settings, "study") == 4


def test_a_ledger_of_before_is_kept_as_it_is(settings: Settings, ledger: Ledger) -> None:
    """The columns that are new say: nothing was ever released."""
    happen(settings, ledger, "study", History((done(),), age_days=400.0))
    migrate(settings.database_url)
    (row,) = rows(ledger, study)
    assert row.released_revision == 0
