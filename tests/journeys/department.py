"""A radiology department: the whole node as ``radnode up`` runs it, between peers of all makers.

Who calls decides what happens, so that one node serves every journey (``ROUTES``).
"""

from __future__ import annotations

import json
import os
import struct
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from pydicom import dcmread
from sqlalchemy import select, update

from node.domain import OPEN_JOB_STATES, DeliveryState, JobState
from node.settings import (
    Complete,
    DimseDestination,
    FolderDestination,
    Listen,
    Route,
    Settings,
    Spool,
    Work,
)
from node.store import listing
from node.store.ledger import open_ledger
from node.store.tables import delivery, event, series, study
from tests.peers import bright_spot, dcmtk, free_port, two_series, wait_until
from tests.peers.orthanc import orthanc
from tests.peers.pacs import Pacs
from tests.peers.radnode import Node, write_config
from tests.peers.scanner import send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pydicom import Dataset

    from node.store.ledger import Ledger
    from tests.peers.dcmtk import StoreScp
    from tests.peers.orthanc import Orthanc

    Study = Sequence[Dataset]
    Row = dict[str, Any]

HOST = "127.0.0.1"
COMMITTING, SILENT, FOLDER, SCRIPTED = "orthanc", "storescp", "archive", "pacs"
"""Destinations: Orthanc, DCMTK's storescp, a folder, and the PACS double."""

EVERYWHERE = (COMMITTING, SILENT, FOLDER)
ECG = "ecg-atrial-fibrillation"
ROUTES = (
    Route(name="CT", match={"CallingAETitle": "CT1"}, run=(bright_spot.NAME,), send_to=EVERYWHERE),
    Route(name="ECG", match={"Modality": "ECG"}, run=(ECG,), send_to=EVERYWHERE),
    Route(
        name="scripted PACS",
        match={"CallingAETitle": "CT2"},
        run=(bright_spot.NAME,),
        send_to=(SCRIPTED, FOLDER),
    ),
    Route(name="slow", match={"CallingAETitle": "CT3"}, run=(bright_spot.WAITS,)),
    Route(
        name="contradicting",
        match={"CallingAETitle": "CT4"},
        run=(bright_spot.CONTRADICTS,),
        send_to=(SCRIPTED, FOLDER),
    ),
    Route(
        name="emergency room",
        match={"CallingAETitle": "CT5"},
        run=(bright_spot.NAME,),
        send_to=(FOLDER,),
        priority="stat",
    ),
    Route(
        name="emergency heads",
        match={"CallingAETitle": "CT5", "BodyPartExamined": "HEAD*"},
        run=(bright_spot.NAME,),
        send_to=(SCRIPTED, FOLDER),
    ),
    Route(
        name="two series",
        match={"CallingAETitle": "CT6"},
        run=(two_series.NAME,),
        send_to=(COMMITTING, FOLDER),
    ),
)


@dataclass
class Department:
    """A running node, and everything around it.

    Attributes:
        gate: FIFO that the slow pipeline waits at.
        broker: Folder of whatever the broker writes.
        temporary: Folder of what the node's processes put into TMPDIR.
    """

    node: Node
    ledger: Ledger
    orthanc: Orthanc
    storescp: StoreScp
    pacs: Pacs
    gate: Path
    broker: Path
    temporary: Path

    @property
    def port(self) -> int:
        """Where scanners send to."""
        return self.node.settings.listen.port

    def scan(self, study: Study, calling_ae: str = "CT1") -> None:
        """Send a study; every instance is acknowledged."""
        answers = send(self.port, study, calling_ae=calling_ae)
        assert {answer.status for answer in answers} == {0x0000}

    # --- what the ledger says ------------------------------------------------------------------

    def jobs(self, study: Study) -> list[Row]:
        """Return the jobs of a study, in the order of their planning."""
        with self.ledger.read() as db:
            rows = listing.jobs(db, 1000)
        return [row for row in reversed(rows) if row["study_uid"] == study_uid(study)]

    def deliveries(self, study: Study, destination: str | None = None) -> list[Row]:
        """Return the deliveries of a study, to one destination or to all."""
        with self.ledger.read() as db:
            rows = listing.deliveries(db, 1000)
        return [
            row
            for row in rows
            if row["study_uid"] == study_uid(study) and destination in (None, row["destination"])
        ]

    def states(self, study: Study, destination: str) -> list[str]:
        """Return the states of what a study has for one destination."""
        return [row["state"] for row in self.deliveries(study, destination)]

    def events(self, study: Study) -> list[str]:
        """Return the kinds of what happened to a study, oldest first."""
        query = select(event.c.kind).where(event.c.study_uid == study_uid(study))
        with self.ledger.read() as db:
            return list(db.execute(query.order_by(event.c.sequence)).scalars())

    def study_row(self, of: Study) -> Row:
        """Return what the ledger knows of a study."""
        with self.ledger.read() as db:
            query = select(study).where(study.c.study_uid == study_uid(of))
            return dict(db.execute(query).mappings().one())

    def series_rows(self, study: Study) -> list[Row]:
        """Return what the ledger knows of the series of a study."""
        with self.ledger.read() as db:
            query = select(series).where(series.c.study_uid == study_uid(study))
            return [dict(row) for row in db.execute(query).mappings()]

    # --- waiting -------------------------------------------------------------------------------

    def wait_job(self, study: Study, state: JobState, number: int = 1) -> Row:
        """Wait until the study has ``number`` jobs and the last is in ``state``; return it."""

        def reached() -> bool:
            found = self.jobs(study)
            return len(found) == number and found[-1]["state"] == state

        wait_until(reached, timeout_s=90.0, what=f"A job that is {state}")
        return self.jobs(study)[-1]

    def wait_delivered(self, study: Study, jobs: int = 1) -> None:
        """Wait until every result is where it shall be, and confirmed where that is asked for."""
        self.wait_job(study, JobState.COMPLETED, jobs)
        wait_until(
            lambda: not self._undelivered(study), timeout_s=90.0, what="The delivery of all results"
        )

    def _undelivered(self, study: Study) -> list[Row]:
        finished = {
            COMMITTING: DeliveryState.COMMITTED,
            SILENT: DeliveryState.SENT,
            FOLDER: DeliveryState.SENT,
            SCRIPTED: DeliveryState.COMMITTED,
        }
        rows = self.deliveries(study)
        return [row for row in rows if row["state"] != finished[row["destination"]]]

    def wait_idle(self) -> None:
        """Wait until every study is complete and no job is open."""
        open_states = {str(state) for state in OPEN_JOB_STATES}

        def idle() -> bool:
            with self.ledger.read() as db:
                counts = listing.counts(db)
            return counts["studies"].keys() <= {"complete"} and not open_states & set(
                counts["jobs"]
            )

        wait_until(idle, timeout_s=90.0, what="The end of all work")

    def let_back_offs_end(self) -> None:
        """Some minutes pass: whatever waits for another attempt at a destination is due."""
        with self.ledger.write() as db:
            db.execute(update(delivery).values(next_attempt_at=0.0))

    # --- what the peers hold -------------------------------------------------------------------

    def held(self, study: Study, destination: str) -> dict[str, bytes]:
        """Return SOP Instance UID -> Part 10 file of what a destination holds of a study."""
        found: dict[str, bytes] = {}
        for content in self._files(study, destination):
            header = dcmread_bytes(content)
            if header.StudyInstanceUID == study_uid(study):
                assert header.SOPInstanceUID not in found, "a second object with this UID"
                found[str(header.SOPInstanceUID)] = content
        return found

    def results(self, study: Study, destination: str = COMMITTING) -> dict[str, Dataset]:
        """Return modality -> object of what a destination holds; of each there is only one."""
        objects = [dcmread_bytes(content) for content in self.held(study, destination).values()]
        found = {str(one.Modality): one for one in objects}
        assert len(found) == len(objects), "a second result"
        return found

    def _files(self, study: Study, destination: str) -> Iterator[bytes]:
        if destination == COMMITTING:
            for instance in self.orthanc.find(StudyInstanceUID=study_uid(study)):
                yield self.orthanc.file(instance)
            return
        archive = self.node.settings.destination(FOLDER)
        assert isinstance(archive, FolderDestination)
        paths = {
            SILENT: self.storescp.files,
            FOLDER: lambda: archive.path.rglob("*.dcm"),
            SCRIPTED: self.pacs.files,
        }[destination]
        for path in paths():
            yield path.read_bytes()

    @contextmanager
    def pacs_down(self) -> Iterator[None]:
        """Switch the PACS double off until the block ends."""
        old = self.pacs
        old.close()
        try:
            yield
        finally:
            self.pacs = Pacs(old.folder, port=old.port, answer_to=old.answer_to)

    # --- what people ask -----------------------------------------------------------------------

    def say(self, *verb: str) -> str:
        """Return what ``radnode VERB`` prints."""
        finished = self.node.ask(*verb)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    def say_json(self, *verb: str) -> Any:
        """Return what ``radnode VERB --json`` prints, read."""
        return json.loads(self.say(*verb, "--json"))


def study_uid(study: Study) -> str:
    """Return the UID of a study."""
    return str(study[0].StudyInstanceUID)


def dcmread_bytes(part10: bytes) -> Dataset:
    """Return a Part 10 file, read."""
    return dcmread(BytesIO(part10))


def data_set_bytes(part10: bytes) -> bytes:
    """Return a Part 10 file without its head, which every peer writes anew (PS3.10 section 7.1)."""
    (length,) = struct.unpack_from("<L", part10, 140)
    return part10[144 + length :]


@contextmanager
def department(
    folder: Path, *, database: str, broker: Callable[[], tuple[str, Path]] | None
) -> Iterator[Department]:
    """Run a node with all its peers.

    Args:
        folder: For everything.
        database: As in the configuration.
        broker: Starts an external one: its address and its folder. None: embedded.
    """
    with ExitStack() as stack:
        port = free_port()
        archive = folder / "archive"
        archive.mkdir()
        keeper = stack.enter_context(orthanc(folder / "orthanc"))
        keeper.register("RADNODE", port)
        storescp = stack.enter_context(dcmtk.storescp(folder / "storescp", "+B"))
        pacs = Pacs(folder / "pacs", answer_to=("RADNODE", HOST, port))
        url, broker_folder = broker() if broker else ("embedded", folder / "data" / "broker")
        settings = Settings(
            data=folder / "data",
            database=database,
            broker=url,
            listen=Listen(host=HOST, port=port, processes=1),
            spool=Spool(minimum_free_bytes=0),
            complete=Complete(series_s=0.3, study_s=0.5, missing_s=3.0),
            work=Work(threads=2),
            destinations={
                COMMITTING: DimseDestination(
                    kind="dimse", ae_title=keeper.ae_title, host=HOST, port=keeper.port
                ),
                SILENT: DimseDestination(
                    kind="dimse",
                    ae_title=storescp.ae_title,
                    host=HOST,
                    port=storescp.port,
                    commit=False,
                ),
                FOLDER: FolderDestination(kind="folder", path=archive),
                SCRIPTED: DimseDestination(
                    kind="dimse", ae_title="PACS", host=HOST, port=pacs.port
                ),
            },
            routes=ROUTES,
        )
        gate, site, temporary = folder / "gate", folder / "site", folder / "tmp"
        os.mkfifo(gate)
        site.mkdir()
        temporary.mkdir()
        environment = bright_spot.install(site) | two_series.install(site)
        environment[bright_spot.GATE_VARIABLE] = str(gate)
        environment["TMPDIR"] = str(temporary)
        node = Node(settings, write_config(settings, folder / "radnode.toml"), environment)
        stack.callback(node.stop)
        node.start("up")
        node.listening()
        ledger = stack.enter_context(open_ledger(settings))
        running = Department(node, ledger, keeper, storescp, pacs, gate, broker_folder, temporary)
        try:
            yield running
        finally:
            running.pacs.close()  # whichever it is by then: it may have been off
