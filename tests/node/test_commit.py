"""Commit: the answer comes here, there, early, late, twice, in part or never. D24."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)
from sqlalchemy import select

from node import commit, deliver
from node.errors import DeliveryError, PeerRefused, PeerUnreachable
from node.settings import DimseDestination, FolderDestination, Settings
from node.store import commitments
from node.store.tables import commitment as transactions
from node.store.tables import delivery
from node.wake import Alarm
from tests.node.receiving import listening
from tests.node.results import happened, make_due, rows, states, waiting_result
from tests.peers import wait_until
from tests.peers.pacs import Pacs, Script, pacs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from node.store.ledger import Ledger
    from tests.peers.orthanc import Orthanc

HOLD_S = 0.4


@pytest.fixture
def listener(settings: Settings, ledger: Ledger) -> Iterator[int]:
    """The node's own listener, which takes commitment reports with the roles reversed."""
    with listening(settings, ledger) as port:
        yield port


@pytest.fixture
def archive(tmp_path: Path, listener: int) -> Iterator[Pacs]:
    with pacs(tmp_path / "pacs", answer_to=("RADNODE", "127.0.0.1", listener)) as running:
        yield running


@pytest.fixture
def sent(settings: Settings, ledger: Ledger, archive: Pacs) -> Settings:
    """One study's result was sent to a PACS which shall commit to it."""
    destination = DimseDestination(
        kind="dimse", ae_title="PACS", host="127.0.0.1", port=archive.port, timeout_s=5.0
    )
    settings = settings.model_copy(update={"destinations": {"pacs": destination}})
    waiting_result(settings, ledger, ["pacs"])
    deliver.run_once(settings, ledger)
    assert states(ledger) == ["sent", "sent"]
    return settings


def ask(settings: Settings, ledger: Ledger) -> int:
    return commit.run_once(settings, ledger, hold_s=HOLD_S)


@contextmanager
def committing(settings: Settings, ledger: Ledger) -> Iterator[Alarm]:
    alarm, stop = Alarm(), threading.Event()
    thread = threading.Thread(target=commit.run, args=(settings, ledger, alarm, stop))
    thread.start()
    try:
        yield alarm
    finally:
        stop.set()
        alarm.ring()
        thread.join(60.0)
    assert not thread.is_alive()


@pytest.mark.parametrize("step", ["same", "early", "twice", "wrong", "new", "early_new"])
def test_an_answer_is_taken_wherever_and_whenever_it_comes(
    sent: Settings, ledger: Ledger, archive: Pacs, step: str
) -> None:
    archive.script = Script(commit=(step,))
    assert commit.run_once(sent, ledger) == 1
    assert states(ledger) == ["committed", "committed"]
    assert len(happened(ledger, "committed")) == 2
    assert ask(sent, ledger) == 0
    wait_until(lambda: len(archive.journal("report")) == (2 if step in {"twice", "wrong"} else 1))
    statuses = sorted(entry["status"] for entry in archive.journal("report"))
    assert statuses == {"twice": [0, 0], "wrong": [0, 0x0115]}.get(step, [0])


def test_a_late_answer_is_taken_after_the_association_is_gone(
    sent: Settings, ledger: Ledger, archive: Pacs
) -> None:
    archive.script = Script(commit=("late",))
    ask(sent, ledger)
    assert states(ledger) == ["sent", "sent"]
    assert ask(sent, ledger) == 0  # not before the time-out
    archive.release()
    wait_until(lambda: states(ledger) == ["committed", "committed"])


def test_an_answer_to_a_question_that_was_asked_again_counts(
    sent: Settings, ledger: Ledger, archive: Pacs
) -> None:
    archive.script = Script(commit=("late", "never"))
    ask(sent, ledger)
    make_due(ledger)
    ask(sent, ledger)
    first, second = archive.journal("commit")
    assert first["transaction_uid"] != second["transaction_uid"]
    archive.release()
    wait_until(lambda: states(ledger) == ["committed", "committed"])


def test_without_an_answer_it_is_asked_again_under_another_transaction(
    sent: Settings, ledger: Ledger, archive: Pacs
) -> None:
    archive.script = Script(commit=("never",))
    ask(sent, ledger)
    assert states(ledger) == ["sent", "sent"]
    make_due(ledger)
    commit.run_once(sent, ledger)
    assert states(ledger) == ["committed", "committed"]
    assert len({entry["transaction_uid"] for entry in archive.journal("commit")}) == 2
    assert len(archive.journal("store")) == 2


def test_the_transaction_is_in_the_ledger_before_the_question_leaves(
    sent: Settings, ledger: Ledger, archive: Pacs
) -> None:
    archive.script = Script(commit=("cut",))
    with pytest.raises(PeerUnreachable):
        ask(sent, ledger)
    (asked,) = archive.journal("commit")
    with ledger.read() as db:
        assert db.scalars(select(transactions.c.transaction_uid)).all() == [
            asked["transaction_uid"]
        ]
    assert states(ledger) == ["sent", "sent"]
    make_due(ledger)
    commit.run_once(sent, ledger)
    assert states(ledger) == ["committed", "committed"]


def test_an_object_that_the_pacs_lost_is_sent_again_and_then_committed(
    sent: Settings, ledger: Ledger, archive: Pacs
) -> None:
    lost, kept = archive.files()
    lost.unlink()
    commit.run_once(sent, ledger)
    assert sorted(states(ledger)) == ["committed", "pending"]
    (told,) = happened(ledger, "not_committed")
    assert "0x0112" in told.detail
    make_due(ledger)
    deliver.run_once(sent, ledger)
    commit.run_once(sent, ledger)
    assert states(ledger) == ["committed", "committed"]
    assert archive.files() == (lost, kept)


def test_a_partial_commitment_sends_only_what_failed(
    sent: Settings, ledger: Ledger, archive: Pacs
) -> None:
    archive.script = Script(commit=("partial",))
    commit.run_once(sent, ledger)
    assert sorted(states(ledger)) == ["committed", "pending"]
    make_due(ledger)
    assert deliver.run_once(sent, ledger) == 1


@pytest.mark.parametrize("step", ["refuse", "cut"])
def test_a_question_that_is_not_taken_is_asked_again(
    sent: Settings, ledger: Ledger, archive: Pacs, step: str
) -> None:
    archive.script = Script(commit=(step,))
    with pytest.raises(DeliveryError):
        ask(sent, ledger)
    assert all(row.what for row in rows(ledger))
    assert ask(sent, ledger) == 0  # backing off
    make_due(ledger)
    commit.run_once(sent, ledger)
    assert states(ledger) == ["committed", "committed"]


def test_a_pacs_without_storage_commitment_is_told_to_a_person(
    sent: Settings, ledger: Ledger, archive: Pacs
) -> None:
    archive.script = Script(commits=False)
    with pytest.raises(PeerRefused):
        ask(sent, ledger)
    (told,) = happened(ledger, "not_asked")
    assert told.subject == "pacs"
    assert "commit = false" in told.detail
    assert states(ledger) == ["sent", "sent"]


def test_all_that_is_due_is_asked_for_study_by_study(
    sent: Settings, ledger: Ledger, archive: Pacs
) -> None:
    for number in range(3):
        waiting_result(sent, ledger, ["pacs"], name=f"study {number}")
        deliver.run_once(sent, ledger)
    assert commit.run_once(sent, ledger) == 4
    assert states(ledger) == ["committed"] * 8
    assert [len(entry["references"]) for entry in archive.journal("commit")] == [2] * 4


def test_a_destination_without_commitment_and_a_folder_end_at_sent(
    settings: Settings, ledger: Ledger, archive: Pacs, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    uncommitted = DimseDestination(
        kind="dimse", ae_title="PACS", host="127.0.0.1", port=archive.port, commit=False
    )
    folder = FolderDestination(kind="folder", path=tmp_path / "out")
    settings = settings.model_copy(update={"destinations": {"pacs": uncommitted, "out": folder}})
    waiting_result(settings, ledger, ["pacs", "out"])
    deliver.run_once(settings, ledger)
    assert ask(settings, ledger) == 0
    assert states(ledger) == ["sent"] * 4
    assert archive.journal("commit") == []


def report(port: int, event_type: int = 1, **attributes: Any) -> int:
    """Send a commitment report to the listener as an archive does; the status of its answer."""
    information = Dataset()
    for keyword, value in attributes.items():
        setattr(information, keyword, value)
    association = AE(ae_title="PACS").associate(
        "127.0.0.1",
        port,
        contexts=[build_context(StorageCommitmentPushModel)],
        ae_title="RADNODE",
        ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],
    )
    assert association.is_established
    status, _ = association.send_n_event_report(
        information, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    association.release()
    return int(status.Status)


def _item(sop_class_uid: str, sop_instance_uid: str, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class_uid
    item.ReferencedSOPInstanceUID = sop_instance_uid
    if reason is not None:
        item.FailureReason = reason
    return item


def test_a_report_that_is_not_ours_or_makes_no_sense_changes_nothing(
    sent: Settings, ledger: Ledger, listener: int
) -> None:
    (first, _) = rows(ledger)
    item = _item("1.2.840.10008.5.1.4.1.1.88.33", first.sop_instance_uid)
    before = rows(ledger)
    other = generate_uid()
    assert report(listener, TransactionUID=other, ReferencedSOPSequence=[item]) == 0x0115
    assert report(listener, ReferencedSOPSequence=[item]) == 0x0120
    assert report(listener, 7, TransactionUID=generate_uid()) == 0x0113
    assert rows(ledger) == before


def test_a_failure_after_a_success_does_not_take_the_success_back(
    sent: Settings, ledger: Ledger, archive: Pacs, listener: int
) -> None:
    commit.run_once(sent, ledger)
    (asked,) = archive.journal("commit")
    failed = [_item(sop_class, uid, 0x0110) for sop_class, uid in asked["references"]]
    transaction = asked["transaction_uid"]
    assert report(listener, 2, TransactionUID=transaction, FailedSOPSequence=failed) == 0
    assert states(ledger) == ["committed", "committed"]


def test_an_object_the_transaction_did_not_ask_for_is_no_error(
    sent: Settings, ledger: Ledger, listener: int
) -> None:
    with ledger.write() as db:
        asked = commitments.claim_uncommitted(db, "pacs", timeout_s=600.0)
    assert asked is not None
    items = [_item(*asked.references[0]), _item("1.2.3", generate_uid())]
    assert report(listener, TransactionUID=asked.transaction_uid, ReferencedSOPSequence=items) == 0
    assert sorted(states(ledger)) == ["committed", "sent"]


def test_an_answer_that_does_not_come_for_long_is_told(
    sent: Settings, ledger: Ledger, archive: Pacs
) -> None:
    archive.script = Script(then_commit="never")
    with ledger.write() as db:
        db.execute(delivery.update().values(sent_at=delivery.c.sent_at - 1000.0))
    with committing(sent, ledger):
        wait_until(lambda: happened(ledger, "commitment_waits"))
    (told,) = happened(ledger, "commitment_waits")
    assert (told.subject, told.detail) == ("pacs", "2 objects have waited for 17 min.")


def test_the_loop_commits_what_the_deliverer_sends(
    sent: Settings, ledger: Ledger, archive: Pacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "FIRST_PAUSE_S", 0.2)
    archive.script = Script(commit=("cut", "new", "same"))
    stop = threading.Event()
    with committing(sent, ledger) as alarm:
        thread = threading.Thread(target=deliver.run, args=(sent, ledger, alarm, stop))
        thread.start()
        wait_until(lambda: len(archive.journal("commit")) == 1)
        make_due(ledger)
        wait_until(lambda: states(ledger) == ["committed", "committed"])
        waiting_result(sent, ledger, ["pacs"], name="another study")
        alarm.ring()
        wait_until(lambda: states(ledger) == ["committed"] * 4)
        stop.set()
    thread.join(30.0)


def test_orthanc_commits_to_what_it_holds_and_fails_what_it_does_not(
    settings: Settings, ledger: Ledger, listener: int, orthanc: Orthanc
) -> None:
    destination = DimseDestination(
        kind="dimse", ae_title=orthanc.ae_title, host="127.0.0.1", port=orthanc.port
    )
    settings = settings.model_copy(update={"destinations": {"pacs": destination}})
    waiting_result(settings, ledger, ["pacs"])
    deliver.run_once(settings, ledger)
    assert commit.run_once(settings, ledger, hold_s=20.0) == 1
    assert states(ledger) == ["committed", "committed"]
    waiting_result(settings, ledger, ["pacs"], name="lost study")
    deliver.run_once(settings, ledger)
    orthanc.clear()
    commit.run_once(settings, ledger, hold_s=20.0)
    assert sorted(states(ledger)) == ["committed", "committed", "pending", "pending"]
    assert all("0x0112" in told.detail for told in happened(ledger, "not_committed"))
