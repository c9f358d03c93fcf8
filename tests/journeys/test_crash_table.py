"""The crash table: every process is killed at every named point, and nothing is lost or doubled.

Real processes, real associations, SIGKILL. Time passes where a test says so (``let_leases_end``),
so that nobody waits a minute for a lease.
"""

from __future__ import annotations

import hashlib
import signal
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from pydicom import dcmread
from sqlalchemy import update

from node.domain import DeliveryState, JobState
from node.settings import Complete, DimseDestination, Listen, Route, Settings, Spool, Work
from node.store import listing
from node.store.ledger import open_ledger
from node.store.migrate import migrate
from node.store.tables import association, delivery, job
from tests.peers import accepts, bright_spot, free_port, two_series, wait_until
from tests.peers.pacs import Pacs, Script
from tests.peers.pacs import pacs as pacs_double
from tests.peers.radnode import Node, write_config
from tests.peers.scanner import Rejected, associate
from tests.peers.valkey import valkey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pydicom import Dataset

    from node.store.ledger import Ledger
    from tests.peers.valkey import Broker

    Study = Sequence[Dataset]

pytestmark = pytest.mark.slow

HOST = "127.0.0.1"
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
    ("work", "publish.files_moved"),
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

CRASHES_ON_SEVERAL_SERIES = [
    ("relay", "plan.committed:3"),  # the first two are those of the series
    ("work", "publish.files_moved"),
    ("work", "publish.row_written:2"),
]


@dataclass
class Hospital:
    """A node whose roles all run, a PACS and a broker; studies go through them one by one."""

    node: Node
    pacs: Pacs
    broker: Broker
    ledger: Ledger

    def restart(self, role: str, *, crash_at: str = "") -> None:
        """End a role and start it again, with or without a crash point."""
        if role in self.node.processes:
            self.node.stop(role)
        self.node.start(role, crash_at=crash_at)
        if role == "listen":
            self.node.listening()

    def revive(self) -> None:
        """Start every role that does not run, until the listener listens."""
        wait_until(self._revived, timeout_s=60.0, what="The start of the listener")

    def _revived(self) -> bool:
        for role in ROLES:
            process = self.node.processes.get(role)
            if process is None or process.poll() is not None:
                assert process is None or process.returncode == -signal.SIGKILL
                self.node.start(role)
        return accepts(self.node.settings.listen.port)

    def scan(self, study: Study) -> None:
        """Send the study as a scanner does: what was not acknowledged is sent again."""
        waiting = list(study)
        while waiting:
            waiting = waiting[self._acknowledged(waiting) :]
            if waiting:
                self.revive()

    def _acknowledged(self, instances: Study) -> int:
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

    def let_leases_end(self) -> None:
        """A minute passes: leases and silent associations run out."""
        with self.ledger.write() as db:
            running = job.c.state == JobState.IN_PROGRESS
            db.execute(update(job).where(running).values(lease_until=0.0))
            db.execute(update(association).values(seen_at=0.0))
        self.let_back_offs_end()

    def let_back_offs_end(self) -> None:
        """Some minutes pass: whatever waits for another attempt is due."""
        with self.ledger.write() as db:
            db.execute(update(job).values(next_attempt_at=0.0))
            db.execute(update(delivery).values(next_attempt_at=0.0))

    def jobs_of(self, study: Study) -> list[dict[str, Any]]:
        with self.ledger.read() as db:
            rows = listing.jobs(db, 100)
        return [row for row in rows if row["study_uid"] == study[0].StudyInstanceUID]

    def state_of(self, study: Study) -> list[str]:
        return [row["state"] for row in self.jobs_of(study)]

    def committed(self, study: Study) -> bool:
        with self.ledger.read() as db:
            rows = listing.deliveries(db, 100)
        states = [r["state"] for r in rows if r["study_uid"] == study[0].StudyInstanceUID]
        return states == [DeliveryState.COMMITTED] * 2

    def wait_committed(self, study: Study) -> None:
        wait_until(
            lambda: self.committed(study), timeout_s=90.0, what="The commitment of both results"
        )

    def objects_of(self, study: Study) -> dict[str, Path]:
        """Modality -> file of what the PACS holds of a study, each only once."""
        found: dict[str, Path] = {}
        for path in self.pacs.files():
            header = dcmread(path, stop_before_pixels=True)
            if header.StudyInstanceUID == study[0].StudyInstanceUID:
                assert header.Modality not in found, "a second result"
                found[header.Modality] = path
        return found

    def verify(self, study: Study) -> None:
        """Nothing acknowledged is lost; one SEG, one SR; the same UID never has other bytes."""
        for instance in study:
            self._verify_received(instance)
        objects = self.objects_of(study)
        assert sorted(objects) == ["SEG", "SR"]
        evidence = dcmread(objects["SEG"]).ReferencedSeriesSequence[0]
        referenced = {
            str(item.ReferencedSOPInstanceUID) for item in evidence.ReferencedInstanceSequence
        }
        assert referenced <= {str(one.SOPInstanceUID) for one in study}
        # While the listener is away the series may count as complete; a job on that part of it is
        # canceled when the rest has come.
        states = [state for state in self.state_of(study) if state != JobState.CANCELED]
        assert states == [JobState.COMPLETED]
        digests: dict[str, set[str]] = {}
        for entry in self.pacs.journal("store"):
            digests.setdefault(entry["sop_instance_uid"], set()).add(entry["digest"])
        assert all(len(seen) == 1 for seen in digests.values()), "resent with other bytes"

    def _verify_received(self, instance: Dataset) -> None:
        with self.ledger.read() as db:
            (row,) = listing.instance_rows(db, str(instance.SOPInstanceUID))
        assert dcmread(self.node.settings.spool_folder / row["path"]) == instance


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def hospital(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hospital]:
    folder = tmp_path_factory.mktemp("hospital")
    with ExitStack() as stack:
        database = "sqlite"
        if request.param == "postgresql":
            database = stack.enter_context(request.getfixturevalue("postgresql").database())
        port = free_port()
        pacs = stack.enter_context(pacs_double(folder / "pacs", answer_to=("RADNODE", HOST, port)))
        broker = valkey(folder / "broker")
        broker.start()
        stack.callback(broker.stop)
        to_pacs = DimseDestination(kind="dimse", ae_title="PACS", host=HOST, port=pacs.port)
        settings = Settings(
            data=folder / "data",
            database=database,
            broker=broker.url,
            listen=Listen(host=HOST, port=port, processes=1),
            spool=Spool(minimum_free_bytes=0),
            complete=Complete(series_s=0.5, study_s=0.7),
            work=Work(threads=1),
            destinations={"pacs": to_pacs},
            routes=(
                Route(
                    match={"Modality": "CT", "SeriesDescription": "!*"},
                    run=(bright_spot.NAME,),
                    send_to=("pacs",),
                ),
                Route(match={"Modality": "CT"}, run=(two_series.NAME,), send_to=("pacs",)),
            ),
        )
        settings.data.mkdir()
        migrate(settings.database_url)
        (folder / "site").mkdir()
        environment = bright_spot.install(folder / "site") | two_series.install(folder / "site")
        node = Node(settings, write_config(settings, folder / "radnode.toml"), environment)
        stack.callback(node.stop)
        yield Hospital(node, pacs, broker, stack.enter_context(open_ledger(settings)))


@pytest.fixture
def study(hospital: Hospital, request: pytest.FixtureRequest) -> Iterator[Study]:
    """A CT that nobody has seen; every role runs before and after."""
    hospital.revive()
    yield bright_spot.ct_series(hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16])
    hospital.pacs.script = Script()


@pytest.mark.parametrize(("role", "point"), CRASHES, ids=[point for _, point in CRASHES])
def test_a_process_killed_at_any_point_loses_nothing_and_doubles_nothing(
    hospital: Hospital, study: Study, role: str, point: str
):
    hospital.restart(role, crash_at=point)
    hospital.scan(study)
    if role != "listen":
        hospital.node.crashed(role)
    hospital.revive()
    hospital.let_leases_end()
    hospital.wait_committed(study)
    hospital.verify(study)


@pytest.mark.parametrize(
    ("role", "point"),
    CRASHES_ON_SEVERAL_SERIES,
    ids=[point for _, point in CRASHES_ON_SEVERAL_SERIES],
)
def test_a_job_on_several_series_survives_every_death_as_well(
    hospital: Hospital, request: pytest.FixtureRequest, role: str, point: str
):
    root = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]
    native, contrast = (
        two_series.series(root, description, number)
        for number, description in enumerate(("NATIVE", "CONTRAST"), start=1)
    )
    hospital.revive()
    hospital.restart(role, crash_at=point)
    hospital.scan([*native, *contrast])
    hospital.node.crashed(role)
    hospital.revive()
    hospital.let_leases_end()
    hospital.wait_committed(native)
    hospital.verify([*native, *contrast])


def test_a_broker_that_dies_with_its_disk_loses_no_job(hospital: Hospital, study: Study):
    hospital.node.stop("work")
    hospital.scan(study)
    wait_until(lambda: hospital.state_of(study) == [JobState.SCHEDULED], what="The planning")
    hospital.broker.kill(with_disk=True)
    hospital.broker.start()
    hospital.node.start("work")
    hospital.wait_committed(study)
    hospital.verify(study)


def test_a_frozen_worker_that_wakes_after_its_lease_changes_nothing(
    hospital: Hospital, study: Study
):
    hospital.node.stop("work")
    frozen = hospital.node.start("work", crash_at="worker.inferred", how="SIGSTOP")
    del hospital.node.processes["work"]
    hospital.scan(study)
    wait_until(
        lambda: psutil.Process(frozen.pid).status() == psutil.STATUS_STOPPED,
        timeout_s=60.0,
        what="The freezing of the worker",
    )
    hospital.let_leases_end()
    hospital.node.start("work", "--number", "2")
    hospital.wait_committed(study)
    stored = {path: path.read_bytes() for path in hospital.objects_of(study).values()}
    frozen.send_signal(signal.SIGCONT)
    log = hospital.node.settings.data.parent / "node.log"
    wait_until(lambda: "lease_lost" in log.read_text(), what="The loss of the lease")
    frozen.terminate()
    frozen.wait(30)
    assert {path: path.read_bytes() for path in hospital.objects_of(study).values()} == stored
    hospital.verify(study)


def test_a_model_that_always_dies_is_quarantined_with_its_reason(hospital: Hospital, study: Study):
    hospital.restart("work", crash_at="inference.running")
    hospital.scan(study)

    def quarantined() -> bool:
        hospital.let_back_offs_end()
        return hospital.state_of(study) == [JobState.QUARANTINED]

    wait_until(quarantined, timeout_s=90, what="The quarantine")
    (row,) = hospital.jobs_of(study)
    assert row["attempts"] == 3
    assert row["what"] == "The inference process was killed by signal 9."
    assert not hospital.objects_of(study)
    hospital.node.stop("work")


def test_a_pacs_that_stores_and_cuts_before_it_answers_holds_each_result_once(
    hospital: Hospital, study: Study
):
    hospital.pacs.script = Script(store=("cut_after", "cut_after", "cut_after"))
    before = len(hospital.pacs.journal("store"))
    hospital.scan(study)

    def committed_as_time_passes() -> bool:
        hospital.let_back_offs_end()
        return hospital.committed(study)

    wait_until(committed_as_time_passes, timeout_s=90, what="The commitment of both results")
    hospital.verify(study)
    assert len(hospital.pacs.journal("store")) - before >= 5
