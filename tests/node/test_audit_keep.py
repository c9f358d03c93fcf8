"""Keep: every event of the ledger stands in the trail once, in its order, whatever dies."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest
from lxml import etree
from pydicom import examples
from sqlalchemy import delete, insert, select

from node import supervise
from node.audit import keep, outbox
from node.audit.records import read_head, segments
from node.audit.trail import LEDGER_WENT_BACK, new_events
from node.errors import AuditBroken
from node.settings import Audit, DimseDestination, Settings, Syslog
from node.store import events, transfers
from node.store.tables import event, instance
from node.supervise import Role
from tests.node.ledger_rows import arrived, complete, receive, uid
from tests.node.trails import STUDY, bodies_of, happen, taken_over
from tests.peers import syslog as peer
from tests.peers import wait_until
from tests.peers.certificates import Authority
from tests.peers.radnode import Node, write_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from node.store.ledger import Ledger

once = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def kinds(settings: Settings) -> list[str]:
    return [body["kind"] for body in bodies_of(keep.places(settings))]


# --- from the ledger into the trail ----------------------------------------------------------


def test_every_event_is_taken_over_once_over_any_number_of_lives(
    settings: Settings, ledger: Ledger
) -> None:
    for life in range(1, 4):
        happen(ledger, *("one", "two", "three"), study_uid=STUDY, subject="pacs")
        said = taken_over(settings, ledger)
        assert [body["kind"] for body in said] == ["one", "two", "three"] * life
    with ledger.read() as db:
        there = events.after(db, 0, 100)
    assert [body["sequence"] for body in said] == [one.sequence for one in there]
    assert [body["at"] for body in said] == [one.at for one in there]


def test_a_record_names_the_peer_as_it_was_configured_then(
    settings: Settings, ledger: Ledger
) -> None:
    pacs = DimseDestination(kind="dimse", ae_title="MAINPACS", host="10.0.1.10", port=104)
    happen(ledger, "sent", study_uid=STUDY, subject="pacs")
    (body,) = taken_over(settings.model_copy(update={"destinations": {"pacs": pacs}}), ledger)
    assert body["peer"] == {"ae_title": "MAINPACS", "host": "10.0.1.10"}


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_an_event_that_is_committed_after_a_later_one_is_not_missed(ledger: Ledger) -> None:
    """PostgreSQL numbers events when they are written, and commits them in any order."""
    written, waits = threading.Event(), threading.Event()

    def slow() -> None:
        with ledger.write() as db:
            events.record(db, "early")
            written.set()
            waits.wait(30)

    thread = threading.Thread(target=slow)
    thread.start()
    assert written.wait(30)
    happen(ledger, "late")
    found: list[str] = []
    reading = threading.Thread(
        target=lambda: found.extend(one.kind for one in new_events(ledger, 0))
    )
    reading.start()
    wait_until(lambda: _waits_for_a_lock(ledger), what="The reader")
    assert found == []
    waits.set()
    thread.join()
    reading.join()
    assert found == ["early", "late"]


def _waits_for_a_lock(ledger: Ledger) -> bool:
    with ledger.read() as db:
        waiting = db.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(waiting.scalar_one())


def test_a_number_that_was_rolled_back_holds_nothing_up(settings: Settings, ledger: Ledger) -> None:
    happen(ledger, "one")

    def fail() -> None:
        with ledger.write() as db:
            events.record(db, "never")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    happen(ledger, "two")
    assert [body["kind"] for body in taken_over(settings, ledger)] == ["one", "two"]


def test_a_ledger_that_lost_its_last_events_is_told_of_and_followed(
    settings: Settings, ledger: Ledger
) -> None:
    """As after a power cut, or when a backup was put back; then numbers are given out again."""
    happen(ledger, *("one", "two", "three", "four"))
    taken_over(settings, ledger)
    with ledger.write() as db:
        (last, *_) = db.execute(select(event.c.sequence).order_by(event.c.sequence)).scalars()
        db.execute(delete(event).where(event.c.sequence > last + 1))
        values = {"at": 5.0, "kind": "another", "detail": ""}
        db.execute(insert(event).values(sequence=last + 2, **values))
    said = taken_over(settings, ledger)
    expected = ["one", "two", "three", "four", LEDGER_WENT_BACK, "another"]
    assert [body["kind"] for body in said] == expected
    assert f"Events {last + 2} to {last + 3}" in said[4]["detail"]
    assert [body["kind"] for body in taken_over(settings, ledger)] == expected


# --- what the ledger says of transfers -------------------------------------------------------


def received(ledger: Ledger) -> list[tuple[str, str]]:
    with ledger.read() as db:
        rows = db.execute(select(event).where(event.c.kind == "received")).all()
    return [(row.subject, row.detail) for row in rows]


def test_a_complete_study_says_who_sent_how_much_of_it_and_later_what_is_new(
    ledger: Ledger,
) -> None:
    ct, sr = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.67"
    for number in range(3):
        receive(ledger, arrived(number, calling_ae="CT1", sop_class_uid=ct))
    receive(ledger, arrived(3, calling_ae="CT1", sop_class_uid=sr))
    receive(ledger, arrived(4, calling_ae="ROUTER", sop_class_uid=ct))
    assert received(ledger) == []
    complete(ledger)
    first = [("CT1", f"3 of {ct}, 1 of {sr}"), ("ROUTER", f"1 of {ct}")]
    assert received(ledger) == first
    assert transfers.from_words(first[0][1]) == {ct: 3, sr: 1}
    receive(ledger, arrived(5, calling_ae="ROUTER", sop_class_uid=ct))
    complete(ledger)
    assert received(ledger) == [*first, ("ROUTER", f"1 of {ct}")]


def test_what_was_released_and_comes_again_is_told_again(ledger: Ledger) -> None:
    receive(ledger, *(arrived(number) for number in range(3)))
    complete(ledger)
    with ledger.write() as db:
        db.execute(delete(instance))
        events.record(db, "study_released", study_uid=arrived().study_uid)
    receive(ledger, arrived(1))
    complete(ledger)
    assert [detail.split()[0] for _, detail in received(ledger)] == ["3", "1"]


# --- the patient -----------------------------------------------------------------------------


@once
@pytest.mark.parametrize(("asked_for", "patient_id"), [(False, None), (True, "1CT1")])
def test_a_patient_id_stands_in_the_trail_only_where_the_site_asks_for_it(
    settings: Settings, ledger: Ledger, asked_for: bool, patient_id: str | None
) -> None:
    settings.spool_folder.mkdir()
    examples.ct.save_as(settings.spool_folder / "one.dcm")
    receive(ledger, arrived(path="one.dcm"))
    happen(ledger, "sent", study_uid=arrived().study_uid, subject="pacs")
    happen(ledger, "sent", study_uid=uid("a study without files"), subject="pacs")
    happen(ledger, "job_planned", study_uid=arrived().study_uid)
    named = settings.model_copy(update={"audit": Audit(patient_id=asked_for)})
    said = taken_over(named, ledger)
    assert [body.get("patient_id") for body in said] == [patient_id, None, None]


# --- as a process ----------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def server(authority: Authority) -> Iterator[peer.Syslog]:
    with peer.syslog(authority.issue("127.0.0.1"), str(authority.certificate)) as server:
        yield server


@pytest.fixture
def node(
    settings: Settings, authority: Authority, server: peer.Syslog, tmp_path: Path
) -> Iterator[Node]:
    identity = authority.issue("node.hospital.lan")
    told = Syslog(
        host="127.0.0.1",
        port=server.port,
        certificate=identity.certificate,
        key=identity.key,
        trusted=authority.certificate,
    )
    audit = Audit(syslog=told, segment_bytes=2_000, head=tmp_path / "elsewhere" / "head")
    configured = settings.model_copy(update={"audit": audit})
    running = Node(configured, write_config(configured, tmp_path / "radnode.toml"))
    yield running
    running.stop()


def told(server: peer.Syslog) -> list[int]:
    return list(dict.fromkeys(one.sequence_id for one in server.told if one.sequence_id))


@once
@pytest.mark.parametrize("crash_at", ["audit.appended:1", "audit.appended:2", "audit.sent:1"])
def test_a_keeper_that_is_killed_in_the_middle_loses_and_doubles_nothing(
    node: Node, ledger: Ledger, server: peer.Syslog, crash_at: str
) -> None:
    happen(ledger, *["sent"] * 30, study_uid=STUDY, subject="pacs")
    node.start("audit", "run", crash_at=crash_at)
    if crash_at.endswith(":2"):
        wait_until(lambda: len(told(server)) >= 31, timeout_s=60.0, what="The first messages")
        happen(ledger, "sent", study_uid=STUDY, subject="pacs")
    node.crashed("audit")
    happen(ledger, *["sent"] * 5, study_uid=STUDY, subject="pacs")
    node.start("audit", "run")
    with ledger.read() as db:
        last = events.after(db, 0, 100)[-1]
    wait_until(lambda: len(told(server)) >= last.sequence, timeout_s=60.0, what="Every message")
    node.stop("audit")
    said = bodies_of(keep.places(node.settings))
    with ledger.read() as db:
        there = events.after(db, 0, 100)
    # The end of the keeper itself is an event that its next life takes over.
    assert [body["sequence"] for body in said] == [one.sequence for one in there][: len(said)]
    assert len(there) - len(said) <= 1
    assert told(server) == list(range(1, len(said) + 1))
    texts = [etree.fromstring(one.text) for one in server.told if one.sequence_id]
    assert {text.tag for text in texts} == {"AuditMessage"}
    assert len(segments(keep.places(node.settings).folder)) > 1


@once
def test_a_trail_that_was_tampered_with_is_told_and_the_events_wait(
    settings: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    happen(ledger, "one", "two")
    taken_over(settings, ledger)
    where = keep.places(settings)
    (path,) = segments(where.folder)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"two", b"too"))
    happen(ledger, "three")
    monkeypatch.setattr(keep, "BROKEN_PAUSE_S", 0.05)
    stop = threading.Event()
    thread = threading.Thread(target=keep.run, args=(settings, ledger, stop))
    thread.start()
    with pytest.raises(AuditBroken, match="Record 2"):
        bodies_of(where)
    path.write_bytes(whole)
    wait_until(lambda: read_head(where.heads[0]).number == 3, what="The third record")
    stop.set()
    thread.join()
    assert kinds(settings) == ["one", "two", "three"]


@once
def test_without_a_syslog_server_the_trail_is_kept_all_the_same(
    settings: Settings, ledger: Ledger
) -> None:
    happen(ledger, *["sent"] * (2 * outbox.BATCH))
    assert len(taken_over(settings, ledger)) == 2 * outbox.BATCH
    assert json.loads((settings.audit_folder / "head").read_text().split()[0]) == 400


def test_the_keeper_is_asked_to_end_when_the_others_have_and_the_broker_last(
    tmp_path: Path,
) -> None:
    told = tmp_path / "told"
    script = "trap 'sleep $2; echo $0 >>$1; exit' TERM; touch $1.$0; while :; do sleep 0.02; done"
    running = [
        Role(name, ["sh", "-c", script, name, str(told), delay_s])
        for name, delay_s in (("broker", "0"), ("audit", "0"), ("relay", "0.2"), ("work", "0.1"))
    ]
    for role in running:
        role.start()
    wait_until(lambda: all((tmp_path / f"told.{role.name}").exists() for role in running))
    supervise._stop_all(running)
    assert told.read_text().split() == ["work", "relay", "audit", "broker"]
