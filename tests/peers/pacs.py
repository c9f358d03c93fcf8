"""A PACS that does what it is told: stores, refuses, stalls, cuts, commits late, twice or never.

It writes down and fsyncs every request before it answers (``journal``), and keeps every object
as a Part 10 file, so that a test can compare what was sent with what arrived even when the
sender was killed. In a process of its own::

    python -m tests.peers.pacs --port 11114 --folder pacs --answer-to RADNODE@127.0.0.1:11112
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import socket
import struct
import threading
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)

from tests.peers.pacs_script import Script, contexts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Pacs", "Script", "pacs"]

NO_SUCH_OBJECT = 0x0112
"""Failure Reason (PS3.3 section C.14.1.1)."""


class Pacs:
    """A running PACS. ``script`` may be replaced at any time.

    Attributes:
        folder: One file per SOP Instance UID, named by it.
        answer_to: AE title, host and port for commitment reports on a new association.
    """

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ae_title: str = "PACS",
        script: Script | None = None,
        answer_to: tuple[str, str, int] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.ae_title, self.answer_to = folder, ae_title, answer_to
        self.journal_path = folder.with_name(f"{folder.name}.journal.jsonl")
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._released = threading.Event()
        self._threads: list[threading.Thread] = []
        self._associations = 0
        self.script = script or Script()
        application = AE(ae_title=ae_title)
        application.maximum_associations = 100
        application.maximum_pdu_size = 131_072
        application.supported_contexts = [build_context(Verification)]
        self._server: Any = application.start_server(
            (host, port),
            block=False,
            evt_handlers=[
                (evt.EVT_CONN_OPEN, self._on_open),
                (evt.EVT_REQUESTED, self._on_request),
                (evt.EVT_C_STORE, self._on_store),
                (evt.EVT_N_ACTION, self._on_action),
                (evt.EVT_C_ECHO, self._on_echo),
            ],
        )
        self.port: int = self._server.server_address[1]

    @property
    def script(self) -> Script:
        """What it does."""
        return self._script

    @script.setter
    def script(self, script: Script) -> None:
        contexts = contexts_of(script)
        with self._lock:
            self._script, self._contexts = script, contexts
            self._store_steps, self._commit_steps = list(script.store), list(script.commit)

    def close(self) -> None:
        """Stop at once, whatever stalls."""
        self._closing.set()
        self._released.set()
        self._server.shutdown()
        for thread in self._threads:
            thread.join(10.0)

    def release(self) -> None:
        """Let every ``late`` commitment report go."""
        self._released.set()

    def journal(self, what: str | None = None) -> list[dict[str, Any]]:
        """Return what it wrote down: ``association``, ``store`` and ``commit`` lines."""
        if not self.journal_path.exists():
            return []
        with self._lock:
            lines = self.journal_path.read_text().splitlines()
        entries = [json.loads(line) for line in lines]
        return [entry for entry in entries if what is None or entry["what"] == what]

    def files(self) -> tuple[Path, ...]:
        """Return every object that it holds."""
        return tuple(sorted(self.folder.glob("*.dcm")))

    def _note(self, what: str, **fields: object) -> None:
        line = json.dumps({"what": what, **fields}) + "\n"
        with self._lock, self.journal_path.open("a") as journal:
            journal.write(line)
            journal.flush()
            os.fsync(journal.fileno())

    # --- association -------------------------------------------------------------------------

    def _on_open(self, event: Any) -> None:
        transport = event.assoc.dul.socket.socket
        transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _on_request(self, event: Any) -> None:
        self._associations += 1
        event.assoc.number = self._associations
        proposed = event.assoc.requestor.primitive.presentation_context_definition_list
        self._note(
            "association",
            number=self._associations,
            calling_ae=event.assoc.requestor.primitive.calling_ae_title,
            proposed=[
                [str(context.abstract_syntax), [str(s) for s in context.transfer_syntax]]
                for context in proposed
            ],
        )
        event.assoc.acceptor.supported_contexts = self._contexts
        step = self.script.associate
        if step.startswith("reject"):
            result = 0x01 if step == "reject_permanent" else 0x02
            source, reason = (0x01, 0x07) if result == 0x01 else (0x03, 0x02)
            event.assoc.acse.send_reject(result, source, reason)
            event.assoc.is_rejected = True
            event.assoc.kill()
        elif step == "abort":
            self._cut(event)
        elif step == "stall":
            self._closing.wait()
        elif step in {"deaf", "slow"}:
            pause_s = None if step == "deaf" else 0.015
            event.assoc.bind(
                evt.EVT_ESTABLISHED,
                lambda established: established.assoc.bind(
                    evt.EVT_DATA_RECV, lambda _: self._closing.wait(pause_s)
                ),
            )

    def _cut(self, event: Any) -> None:
        """Reset the connection: what was not yet delivered is lost on the way."""
        transport = event.assoc.dul.socket.socket
        with suppress(OSError):
            transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.shutdown(socket.SHUT_RDWR)

    def _on_echo(self, event: Any) -> int:
        self._note("echo", association=event.assoc.number)
        return 0x0000

    # --- storage -----------------------------------------------------------------------------

    def _on_store(self, event: Any) -> int:
        with self._lock:
            step = self._store_steps.pop(0) if self._store_steps else self._script.then
        if step == "stall":
            self._closing.wait()
            return 0xA700
        status = int(step, 16) if step.startswith("0x") else 0x0000
        stored = step in {"ok", "cut_after", "late"} or status in {0x0111, 0xB000, 0xB006, 0xB007}
        data_set = event.request.DataSet.getvalue()
        uid = UID(event.request.AffectedSOPInstanceUID)
        if not uid.is_valid:
            return 0xA900
        if stored:
            self._keep(uid, event.encoded_dataset())
        self._note(
            "store",
            association=event.assoc.number,
            sop_instance_uid=uid,
            sop_class_uid=event.request.AffectedSOPClassUID,
            transfer_syntax_uid=event.context.transfer_syntax,
            digest=hashlib.sha256(data_set).hexdigest(),
            step=step,
            stored=stored,
        )
        if step.startswith("cut"):
            self._cut(event)
        elif step == "late":
            self._closing.wait(self.script.late_s)
        return status

    def _keep(self, uid: str, part10: bytes) -> None:
        """Write the file durably; other bytes under the same UID are kept beside the first."""
        path = self.folder / f"{uid}.dcm"
        number = 1
        while path.exists() and path.read_bytes() != part10:
            number += 1
            path = self.folder / f"{uid}.other{number}.dcm"
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            file.write(part10)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)

    # --- storage commitment ------------------------------------------------------------------

    def _on_action(self, event: Any) -> tuple[int, None]:
        with self._lock:
            step = self._commit_steps.pop(0) if self._commit_steps else self._script.then_commit
        asked = event.action_information
        references = [
            (str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
            for item in asked.ReferencedSOPSequence
        ]
        self._note(
            "commit",
            association=event.assoc.number,
            transaction_uid=asked.TransactionUID,
            references=references,
            step=step,
        )
        if step == "refuse":
            return 0x0213, None
        if step == "cut":
            self._cut(event)
            return 0x0000, None
        report = self._report(asked.TransactionUID, references, fail_first=step == "partial")
        wrong = self._report(f"{asked.TransactionUID}.1", references)
        caller = event.assoc.requestor.ae_title
        if step == "early":
            self._tell(event.assoc, report)
        elif step == "early_new":
            self._call(caller, [report])
        elif step in {"new", "late"}:
            self._later(lambda: self._call(caller, [report]), wait=step == "late")
        elif step != "never":
            self._after_response(event, [wrong, report] if step == "wrong" else [report])
            if step == "twice":
                self._later(lambda: self._call(caller, [report]))
        return 0x0000, None

    def _report(
        self, transaction_uid: str, references: list[tuple[str, str]], *, fail_first: bool = False
    ) -> Dataset:
        report = Dataset()
        report.TransactionUID = transaction_uid
        held, failed = [], []
        for number, (sop_class, uid) in enumerate(references):
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
            if (self.folder / f"{uid}.dcm").exists() and not (fail_first and number == 0):
                held.append(item)
            else:
                item.FailureReason = NO_SUCH_OBJECT
                failed.append(item)
        if held:
            report.ReferencedSOPSequence = held
        if failed:
            report.FailedSOPSequence = failed
        return report

    def _tell(self, association: Any, report: Dataset) -> None:
        status, _ = association.send_n_event_report(
            report,
            2 if "FailedSOPSequence" in report else 1,
            StorageCommitmentPushModel,
            StorageCommitmentPushModelInstance,
        )
        self._note(
            "report",
            transaction_uid=report.TransactionUID,
            status=status.Status if "Status" in status else None,
        )

    def _after_response(self, event: Any, reports: list[Dataset]) -> None:
        """Report on the same association, once the N-ACTION-RSP is on its way."""
        answered = threading.Event()

        def on_sent(sent: Any) -> None:
            if type(sent.message).__name__ == "N_ACTION_RSP":
                answered.set()

        def tell() -> None:
            answered.wait(10.0)
            for report in reports:
                if event.assoc.is_established:
                    self._tell(event.assoc, report)

        event.assoc.bind(evt.EVT_DIMSE_SENT, on_sent)
        self._later(tell)

    def _call(self, calling_ae: str, reports: list[Dataset]) -> None:
        """Report on a new association, with the roles reversed (PS3.4 section J.3.3)."""
        if self.answer_to is None:
            raise ValueError("Nobody to report to: give answer_to.")
        ae_title, host, port = self.answer_to
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid, role.scu_role, role.scp_role = StorageCommitmentPushModel, False, True
        association = AE(ae_title=self.ae_title).associate(
            host,
            port,
            contexts=[build_context(StorageCommitmentPushModel)],
            ae_title=ae_title or calling_ae,
            ext_neg=[role],
        )
        if not association.is_established:
            self._note("unreported")
            return
        for report in reports:
            self._tell(association, report)
        association.release()

    def _later(self, do: Any, *, wait: bool = False) -> None:
        def run() -> None:
            if wait:
                self._released.wait()
            if not self._closing.is_set():
                do()

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()


@contextmanager
def pacs(folder: Path, **options: Any) -> Iterator[Pacs]:
    """Run a PACS on a free port in this process, in threads of its own."""
    running = Pacs(folder, **options)
    try:
        yield running
    finally:
        running.close()


def main() -> None:
    """Run a PACS in the foreground until it is told to stop. Prints its port once it listens."""
    parser = argparse.ArgumentParser(description="A PACS that does what it is told.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ae-title", default="PACS")
    parser.add_argument("--answer-to", help="AE@HOST:PORT of the node, for commitment reports")
    parser.add_argument("--script", default="{}", help=f"JSON, any of {asdict(Script())}")
    given = parser.parse_args()
    answer_to = None
    if given.answer_to:
        ae_title, _, address = given.answer_to.partition("@")
        host, _, port = address.rpartition(":")
        answer_to = (ae_title, host, int(port))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    wanted: dict[str, Any] = json.loads(given.script)
    for key in ("store", "commit", "sop_classes", "transfer_syntaxes"):
        wanted[key] = tuple(wanted.get(key, ()))
    script = Script(**wanted)
    with pacs(
        given.folder,
        port=given.port,
        ae_title=given.ae_title,
        script=script,
        answer_to=answer_to,
    ) as running:
        print(running.port, flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
