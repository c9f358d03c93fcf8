"""Peers ask this node to answer for what they sent: it does so for what it has, and for no more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)
from sqlalchemy import update

from node import pledge
from node.settings import DimseDestination
from node.spool import Spool
from node.store import retention
from node.store.tables import pledge as pledge_table
from node.store.tables import series, study
from tests.node.receiving import event_rows, instances, listening, rows
from tests.peers import REPOSITORY, dcmtk, free_port, wait_until
from tests.peers.orthanc import orthanc
from tests.peers.scanner import associate

if TYPE_CHECKING:
    from collections.abc import Iterator

SLICE = Path(str(get_testdata_file("CT_small.dcm")))
ABSENT = "1.2.840.99999.1"


def received(port: int, ledger) -> tuple[str, str]:
    """Send one slice; return its class and UID."""
    assert dcmtk.storescu(port, [SLICE]).returncode == 0
    (row,) = instances(ledger)
    return row["sop_class_uid"], row["sop_instance_uid"]


class Scu:
    """A modality that asks, and takes the report on the association that it asked on."""

    def __init__(self, port: int) -> None:
        self.reports: list[tuple[int, Dataset]] = []
        entity = AE("CT1")
        entity.add_requested_context(StorageCommitmentPushModel)
        self.association = entity.associate(
            "127.0.0.1",
            port,
            ae_title="RADNODE",
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._take)],
        )
        assert self.association.is_established

    def _take(self, event) -> tuple[int, None]:
        self.reports.append((event.event_type, event.event_information))
        return 0x0000, None

    def ask(self, *references: tuple[str, str], uid: str | None = None, action: int = 1) -> int:
        information = Dataset()
        information.TransactionUID = generate_uid() if uid is None else uid
        information.ReferencedSOPSequence = []
        for sop_class, sop_instance in references:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_instance
            information.ReferencedSOPSequence.append(item)
        status, _ = self.association.send_n_action(
            information, action, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        return int(status.get("Status", -1))  # it may have aborted meanwhile

    def report(self) -> tuple[int, Dataset]:
        wait_until(lambda: self.reports, what="The report")
        return self.reports.pop(0)


@pytest.fixture
def port(settings, ledger) -> Iterator[int]:
    with listening(settings, ledger) as port:
        yield port


@pytest.fixture
def scu(port) -> Iterator[Scu]:
    scu = Scu(port)
    yield scu
    scu.association.release()


def failures(report: Dataset) -> dict[str, int]:
    return {
        str(item.ReferencedSOPInstanceUID): int(item.FailureReason)
        for item in report.get("FailedSOPSequence", ())
    }


def test_what_is_here_is_answered_for_on_the_same_association(port, ledger, scu):
    kept = received(port, ledger)
    assert scu.ask(kept) == 0x0000
    kind, report = scu.report()
    assert kind == 1
    assert [str(i.ReferencedSOPInstanceUID) for i in report.ReferencedSOPSequence] == [kept[1]]
    assert "FailedSOPSequence" not in report
    wait_until(lambda: rows(ledger, pledge_table)[0]["answered_at"], what="The end of it")


def test_what_is_not_is_named_with_the_reason(port, ledger, settings, scu):
    of_class, uid = received(port, ledger)
    assert scu.ask((of_class, uid), (of_class, ABSENT), (MRImageStorage, uid)) == 0x0000
    kind, report = scu.report()
    assert kind == 2
    assert failures(report) == {ABSENT: 0x0112, uid: 0x0119}
    # A file that is gone is not answered for, whatever the ledger says.
    spool = Spool(settings.spool_folder)
    spool.absolute(instances(ledger)[0]["path"]).unlink()
    assert scu.ask((of_class, uid)) == 0x0000
    assert failures(scu.report()[1]) == {uid: 0x0112}
    wait_until(lambda: len(event_rows(ledger, "pledge_refused")) == 2, what="The second event")


def test_one_may_ask_again_and_again_on_one_association(port, ledger, scu):
    kept = received(port, ledger)
    uid = generate_uid()
    for _ in range(3):
        assert scu.ask(kept, uid=uid) == 0x0000
        assert scu.report()[1].TransactionUID == uid
    assert len(rows(ledger, pledge_table)) == 1


@pytest.mark.parametrize(
    ("references", "uid", "action", "status"),
    [
        ((), None, 1, 0x0120),
        (((CTImageStorage, "1.2.3"),), "", 1, 0x0120),
        (((CTImageStorage, "../../evil"),), None, 1, 0x0115),
        (((CTImageStorage, "1.2.3"),), "not a uid", 1, 0x0115),
        (((CTImageStorage, "1.2.3"),), None, 2, 0x0123),
        (tuple((CTImageStorage, f"1.2.{n}") for n in range(9000)), None, 1, 0x0115),
    ],
    ids=["no objects", "no transaction", "no UID", "odd transaction", "odd action", "too many"],
)
def test_a_question_that_cannot_be_is_refused(ledger, scu, references, uid, action, status):
    assert scu.ask(*references, uid=uid, action=action) == status
    assert rows(ledger, pledge_table) == []
    assert scu.reports == []


def test_who_leaves_without_the_answer_is_told_of_to_a_person(port, ledger):
    kept = received(port, ledger)
    scu = Scu(port)
    scu.association.bind(evt.EVT_N_EVENT_REPORT, lambda _: scu.association.abort())
    scu.ask(kept)
    wait_until(lambda: event_rows(ledger, "pledge_untold"), what="The event")
    (event,) = event_rows(ledger, "pledge_untold")
    assert "[destinations]" in event["detail"]


def test_a_response_to_nothing_ends_the_association(port):
    with associate(port, [(StorageCommitmentPushModel, "1.2.840.10008.1.2")]) as ct1:
        ct1.send_pdv(ct1.accepted[StorageCommitmentPushModel, "1.2.840.10008.1.2"], 3, _RESPONSE)
        assert ct1.answer().status is None


_RESPONSE = (
    b"\0\0\0\0\4\0\0\0\x1e\0\0\0"
    b"\0\0\0\1\2\0\0\0\0\x81"
    b"\0\0\x20\1\2\0\0\0\1\0"
    b"\0\0\0\x08\2\0\0\0\1\1"
    b"\0\0\0\x09\2\0\0\0\0\0"
)


# --- called back -----------------------------------------------------------------------------


@contextmanager
def with_orthanc(settings, ledger, tmp_path):
    with orthanc(tmp_path / "orthanc") as modality:
        one = DimseDestination(
            kind="dimse", ae_title=modality.ae_title, host="127.0.0.1", port=modality.port
        )
        known = settings.model_copy(update={"destinations": {"scanner": one}})
        with listening(known, ledger) as port:
            modality.register("RADNODE", port)
            yield modality, known, port


def test_who_can_be_called_is_told_on_an_association_of_its_own(settings, ledger, tmp_path):
    with with_orthanc(settings, ledger, tmp_path) as (modality, known, port):
        kept = received(port, ledger)
        asked = modality.ask_for_commitment("RADNODE", [kept, (CTImageStorage, ABSENT)])
        assert pledge.run_once(known, ledger)
        wait_until(lambda: modality.commitment(asked)["Status"] != "Pending", what="The report")
        answer = modality.commitment(asked)
        assert [one["SOPInstanceUID"] for one in answer["Success"]] == [kept[1]]
        assert [one["SOPInstanceUID"] for one in answer["Failures"]] == [ABSENT]
        assert not pledge.run_once(known, ledger)


def test_who_is_away_is_told_later(settings, ledger, tmp_path):
    port = free_port()
    away = DimseDestination(
        kind="dimse", ae_title="CT1", host="127.0.0.1", port=port, timeout_s=2.0
    )
    known = settings.model_copy(update={"destinations": {"scanner": away}})
    with listening(known, ledger) as own:
        kept = received(own, ledger)
        scu = Scu(own)
        assert scu.ask(kept) == 0x0000
        scu.association.release()
    assert pledge.run_once(known, ledger)
    (row,) = rows(ledger, pledge_table)
    assert row["answered_at"] is None
    assert row["next_attempt_at"] > row["requested_at"]
    assert not pledge.run_once(known, ledger)
    assert scu.reports == []


def test_what_was_answered_for_stays_until_a_person_releases_it(port, ledger, scu):
    kept = received(port, ledger)
    study_uid = instances(ledger)[0]["study_uid"]
    done = {"state": "complete", "completed_at": 0.0, "routed_revision": 9}
    with ledger.write() as db:
        db.execute(update(series).values(**done))
        db.execute(update(study).values(**done, last_instance_at=0.0, revision=1))
    with ledger.read() as db:
        assert retention.final_studies(db, (), for_s=60.0) == (study_uid,)
    assert scu.ask(kept) == 0x0000
    scu.report()
    with ledger.write() as db:
        assert retention.final_studies(db, (), for_s=60.0) == ()
        released = retention.release_study(db, study_uid, (), why="asked for")
    assert released is not None


def test_who_was_told_when_the_process_died_is_told_once_more(settings, ledger, tmp_path):
    with with_orthanc(settings, ledger, tmp_path) as (modality, known, port):
        kept = received(port, ledger)
        asked = modality.ask_for_commitment("RADNODE", [kept])
        killed = subprocess.run(
            [sys.executable, "-c", _RUN, known.model_dump_json()],
            env=os.environ | {"RADNODE_CRASH_AT": "pledge.told"},
            cwd=REPOSITORY,
            check=False,
            timeout=120,
        )
        assert killed.returncode == -signal.SIGKILL
        assert rows(ledger, pledge_table)[0]["answered_at"] is None
        with ledger.write() as db:  # its lease has run out
            db.execute(update(pledge_table).values(next_attempt_at=0.0))
        assert pledge.run_once(known, ledger)
        assert rows(ledger, pledge_table)[0]["answered_at"]
        assert modality.commitment(asked)["Status"] == "Success"


_RUN = """
import sys
from node import pledge
from node.settings import Settings
from node.store.ledger import open_ledger
settings = Settings.model_validate_json(sys.argv[1])
pledge.run_once(settings, open_ledger(settings))
"""
