"""The crash table: every process is killed at every named point, and nothing is lost or doubled.

Real processes, real associations, SIGKILL. Time passes where a test says so (``let_leases_end``),
so that nobody waits a minute for a lease.
"""

from __future__ import annotations

import hashlib
import os
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import pytest
from pydicom import dcmread
from sqlalchemy import update

from node.domain import DeliveryState, JobState
from node.settings import DimseDestination, Route
from node.store import listing
from node.store.tables import association, delivery, job
from tests.peers import bright_spot, wait_until
from tests.peers.pacs import Pacs, Script
from tests.peers.radnode import Node, write_config
from tests.peers.scanner import Rejected, associate
from tests.peers.valkey import valkey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pydicom import Dataset

    from node.settings import Settings
    from node.store.ledger import Ledger
    from tests.peers.valkey import Broker

pytestmark = pytest.mark.slow

ROLES = ("listen", "relay", "work", "deliver")

CRASHES = [
    ("listen", "receive.part_written"),
    ("listen", "receive.renamed:2"),
    ("listen", "receive.row_written:3"),
    ("listen", "receive.answered:4"),
    ("relay", "plan.committed"),
    ("relay", "relay.rung_unmarked"),
    ("work", "worker.claimed"),
    ("work", "worker.inferred"),
    ("work", "publish.gate_passed"),
    ("work", "publish.file_written"),
    ("work", "publish.row_written"),
    ("work", "publish.row_written:2"),
    ("work", "publish.finished"),
    ("deliver", "deliver.before_send"),
    ("deliver", "deliver.sent_unmarked"),
    ("deliver", "deliver.marked"),
    ("deliver", "commit.row_written"),
    ("deliver", "commit.requested"),
    ("deliver", "commit.answered"),
]


@dataclass
class Hospital:
    """A node, a PACS and a broker, and the study that goes through them."""

    node: Node
    pacs: Pacs
    broker: Broker
    ledger: Ledger
    study: Sequence[Dataset]

    def start(self, *, crash: tuple[str, str] | None = None) -> None:
        """Start every role; one of them with a crash point."""
        for role in ROLES:
            at = crash[1] if crash is not None and crash[0] == role else ""
            self.node.start(role, crash_at=at)
        self.node.listening()

    def scan(self) -> None:
        """Send the study as a scanner does: what was not acknowledged is sent again."""
        waiting = list(self.study)
        while waiting:
            waiting = waiting[self._acknowledged(waiting) :]
            if waiting:
                self.revive("listen")
                self.node.listening()

    def _acknowledged(self, instances: Sequence[Dataset]) -> int:
        """Send on one association; how many were answered with Success before it broke."""
        acknowledged = 0
        try:
            with associate(self.node.settings.listen.port) as scanner:
                for one in instances:
                    if scanner.store(one).status != 0x0000:
                        break
                    acknowledged += 1
        except (Rejected, OSError):
            pass
        return acknowledged

    def revive(self, role: str) -> None:
        """Start a role again, without its crash point, if it has crashed."""
        process = self.node.processes.get(role)
        if process is not None and process.poll() is not None:
            assert process.returncode == -signal.SIGKILL
            self.node.start(role)

    def let_leases_end(self) -> None:
        """A minute passes: leases and silent associations run out."""
        with self.ledger.write() as db:
            db.execute(
                update(job).where(job.c.state == JobState.IN_PROGRESS).values(lease_until=0.0)
            )
            db.execute(update(delivery).values(next_attempt_at=0.0))
            db.execute(update(association).values(seen_at=0.0))

    def job_states(self) -> list[str]:
        with self.ledger.read() as db:
            return [row["state"] for row in listing.jobs(db, 10)]

    def committed(self) -> bool:
        with self.ledger.read() as db:
            rows = listing.deliveries(db, 10)
        return len(rows) == 2 and all(r["state"] == DeliveryState.COMMITTED for r in rows)

    def wait_committed(self) -> None:
        wait_until(self.committed, timeout_s=90.0, what="The commitment of both results")

    def verify(self) -> None:
        """Nothing acknowledged is lost; one SEG and one SR; the same UID never has other bytes."""
        for instance in self.study:
            self._verify_received(instance)
        objects = [dcmread(path) for path in self.pacs.files()]
        assert sorted(one.Modality for one in objects) == ["SEG", "SR"]
        (evidence,) = [one for one in objects if one.Modality == "SEG"]
        referenced = {
            str(item.ReferencedSOPInstanceUID)
            for item in evidence.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        }
        assert referenced <= {str(one.SOPInstanceUID) for one in self.study}
        assert self.job_states() == [JobState.COMPLETED]
        digests: dict[str, set[str]] = {}
        for entry in self.pacs.journal("store"):
            digests.setdefault(entry["sop_instance_uid"], set()).add(entry["sha256"])
        assert all(len(seen) == 1 for seen in digests.values()), "resent with other bytes"
        assert not list((self.node.settings.spool_folder / "tmp").rglob("*.part"))

    def _verify_received(self, instance: Dataset) -> None:
        with self.ledger.read() as db:
            rows = listing.instance_rows(db, str(instance.SOPInstanceUID))
        assert len(rows) == 1
        stored = self.node.settings.spool_folder / rows[0]["path"]
        assert dcmread(stored) == instance


@pytest.fixture
def hospital(settings: Settings, ledger: Ledger, tmp_path: Path) -> Iterator[Hospital]:
    broker = valkey(tmp_path / "broker")
    broker.start()
    with _pacs(tmp_path, settings) as pacs:
        routed = settings.model_copy(
            update={
                "broker": broker.url,
                "destinations": {
                    "pacs": DimseDestination(
                        kind="dimse", ae_title="PACS", host="127.0.0.1", port=pacs.port
                    )
                },
                "routes": (
                    Route(match={"Modality": "CT"}, run=(bright_spot.NAME,), send_to=("pacs",)),
                ),
            }
        )
        site = tmp_path / "site"
        site.mkdir()
        environment = bright_spot.install(site)
        node = Node(routed, write_config(routed, tmp_path / "radnode.toml"), environment)
        study = bright_spot.ct_series(hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16])
        try:
            yield Hospital(node, pacs, broker, ledger, study)
        finally:
            node.stop()
            broker.stop()


@contextmanager
def _pacs(folder: Path, settings: Settings) -> Iterator[Pacs]:
    pacs = Pacs(folder / "pacs", answer_to=("RADNODE", "127.0.0.1", settings.listen.port))
    try:
        yield pacs
    finally:
        pacs.close()


@pytest.mark.parametrize(("role", "point"), CRASHES, ids=[point for _, point in CRASHES])
def test_a_process_killed_at_any_point_loses_nothing_and_doubles_nothing(
    hospital: Hospital, role: str, point: str
):
    hospital.start(crash=(role, point))
    hospital.scan()
    if role != "listen":
        hospital.node.crashed(role)
        hospital.node.start(role)
    hospital.revive("listen")
    hospital.let_leases_end()
    hospital.wait_committed()
    hospital.verify()


def test_a_broker_that_dies_with_its_disk_loses_no_job(hospital: Hospital):
    for role in ("listen", "relay", "deliver"):
        hospital.node.start(role)
    hospital.node.listening()
    hospital.scan()
    wait_until(lambda: hospital.job_states() == [JobState.SCHEDULED], what="The planning")
    hospital.broker.kill(with_disk=True)
    hospital.broker.start()
    hospital.node.start("work")
    hospital.wait_committed()
    hospital.verify()


def test_a_frozen_worker_that_wakes_after_its_lease_changes_nothing(hospital: Hospital):
    hospital.start()
    hospital.node.stop("work")
    frozen = hospital.node.start("work", crash_at="")
    hospital.scan()
    wait_until(
        lambda: hospital.job_states() == [JobState.IN_PROGRESS], timeout_s=60, what="A claim"
    )
    children = psutil.Process(frozen.pid).children(recursive=True)
    for process in (frozen.pid, *(child.pid for child in children)):
        os.kill(process, signal.SIGSTOP)
    if hospital.job_states() != [JobState.IN_PROGRESS]:
        pytest.fail("The job was finished before its worker could be frozen.")
    hospital.let_leases_end()
    del hospital.node.processes["work"]
    hospital.node.start("work", "--number", "2")
    hospital.wait_committed()
    stored = {path.name: path.read_bytes() for path in hospital.pacs.files()}
    for process in (frozen.pid, *(child.pid for child in children)):
        os.kill(process, signal.SIGCONT)
    log = hospital.node.settings.data.parent / "node.log"
    wait_until(lambda: "lease_lost" in log.read_text(), timeout_s=60, what="The loss of the lease")
    frozen.terminate()
    frozen.wait(30)
    assert {path.name: path.read_bytes() for path in hospital.pacs.files()} == stored
    hospital.verify()


def test_a_model_that_always_dies_is_quarantined_with_its_reason(hospital: Hospital):
    hospital.node.start("listen")
    hospital.node.start("relay")
    hospital.node.start("work", crash_at="inference.running")
    hospital.node.listening()
    hospital.scan()

    def quarantined() -> bool:
        with hospital.ledger.write() as db:
            db.execute(update(job).values(next_attempt_at=0.0))
        return hospital.job_states() == [JobState.QUARANTINED]

    wait_until(quarantined, timeout_s=90, what="The quarantine")
    with hospital.ledger.read() as db:
        (row,) = listing.jobs(db, 10)
    assert row["attempts"] == 3
    assert row["what"] == "The inference process was killed by signal 9."
    assert not hospital.pacs.files()


def test_a_pacs_that_stores_and_cuts_before_it_answers_holds_each_result_once(
    hospital: Hospital,
):
    hospital.pacs.script = Script(store=("cut_after", "cut_after", "cut_after"))
    hospital.start()
    hospital.scan()

    def committed_as_time_passes() -> bool:
        hospital.let_leases_end()
        return hospital.committed()

    wait_until(committed_as_time_passes, timeout_s=90, what="The commitment of both results")
    hospital.verify()
    assert len(hospital.pacs.journal("store")) >= 5
