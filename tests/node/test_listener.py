"""The listener: who may talk to it, what it offers, how it holds on. Real sockets."""

from __future__ import annotations

import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from pydicom import Dataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
)
from pynetdicom import AE, build_role
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification
from sqlalchemy import insert
from sqlalchemy.exc import SQLAlchemyError

from node.dimse import contexts, listener
from node.errors import ConfigError
from node.settings import DimseDestination
from node.store import studies
from node.store.tables import commitment
from tests.node.receiving import (
    instances,
    ledger_of_one_connection,
    listener_process,
    listening,
    open_associations,
    parts,
    rows,
)
from tests.peers import absent, dcmtk, scanner, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.settings import Settings
    from node.store.ledger import Ledger

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

ECHO = (Verification, ExplicitVRLittleEndian)


def changed(settings: Settings, **listen: object) -> Settings:
    return settings.model_copy(update={"listen": settings.listen.model_copy(update=listen)})


@pytest.fixture
def port(settings: Settings, ledger: Ledger) -> Iterator[int]:
    with listening(settings, ledger) as port:
        yield port


# --- who -------------------------------------------------------------------------------------


def test_it_answers_an_echo(port):
    assert dcmtk.echoscu(port).returncode == 0
    with scanner.associate(port, [ECHO]) as ct1:
        assert ct1.echo() == 0x0000


def test_another_called_ae_title_is_rejected(port):
    with pytest.raises(scanner.Rejected) as rejected:
        scanner.send(port, [scanner.ct_slice()], called_ae="ELSEWHERE")
    assert rejected.value.why == (1, 1, 7)


@pytest.mark.parametrize(
    ("calling_ae", "allowed"), [("CT1", True), ("CT2", True), ("CT3", False), ("MR1", False)]
)
def test_only_known_scanners_at_their_own_address_may_send(settings, ledger, calling_ae, allowed):
    accept_from = {"CT1": "127.0.0.1", "CT2": ("10.1.2.3", "127.0.0.0/8"), "CT3": "10.0.4.21"}
    with listening(changed(settings, accept_from=accept_from), ledger) as port:
        if allowed:
            assert scanner.send(port, [scanner.ct_slice()], calling_ae=calling_ae)
            return
        with pytest.raises(scanner.Rejected) as rejected:
            scanner.send(port, [scanner.ct_slice()], calling_ae=calling_ae)
        assert rejected.value.why == (1, 1, 3)


def test_an_address_nobody_may_call_from_gets_no_association_at_all(settings, ledger):
    with listening(changed(settings, accept_from={"CT1": "10.0.4.0/24"}), ledger) as port:
        with pytest.raises(scanner.Rejected) as rejected:
            scanner.send(port, [scanner.ct_slice()])
        assert rejected.value.why == (None, None, None)


def test_a_pacs_that_is_asked_for_commitment_may_report_without_being_listed(settings, ledger):
    pacs = {"kind": "dimse", "ae_title": "MAINPACS", "host": "localhost", "port": 104}
    listed = changed(settings, accept_from={"CT1": "127.0.0.1"})
    for commit, admitted in ((True, True), (False, False)):
        destinations = {"pacs": DimseDestination(commit=commit, **pacs)}
        known = listed.model_copy(update={"destinations": destinations})
        with listening(known, ledger) as port:
            if admitted:
                with scanner.associate(port, [ECHO], calling_ae="MAINPACS") as association:
                    assert association.echo() == 0x0000
                continue
            with pytest.raises(scanner.Rejected) as rejected:
                scanner.send(port, [scanner.ct_slice()], calling_ae="MAINPACS")
            assert rejected.value.why == (1, 1, 3)


def test_an_open_door_is_warned_of_once_at_the_start(settings, ledger, capfd):
    with listening(settings, ledger) as port:
        scanner.send(port, [scanner.ct_slice()])
    assert "".join(capfd.readouterr()).count("anyone_may_send") == 1
    with listening(changed(settings, accept_from={"CT1": "127.0.0.1"}), ledger):
        pass
    assert "anyone_may_send" not in "".join(capfd.readouterr())


def test_a_port_in_use_is_said_with_what_to_do(settings, ledger, port):
    with pytest.raises(ConfigError, match=r"Nothing can listen on 127\.0\.0\.1:\d+"):
        listener.serve(settings, ledger, stop=threading.Event())


# --- what ------------------------------------------------------------------------------------


def accepted(port: int, proposed: list[tuple[str, list[str]]]) -> list[str | None]:
    """Return the transfer syntax that was accepted for each proposed context."""
    entity = AE("CT1")
    wanted = [build_context(sop_class, syntaxes) for sop_class, syntaxes in proposed]
    association = entity.associate("127.0.0.1", port, contexts=wanted, ae_title="RADNODE")
    chosen = {c.context_id: str(c.transfer_syntax[0]) for c in association.accepted_contexts}
    association.release()
    return [chosen.get(2 * number + 1) for number in range(len(proposed))]


def test_every_storage_class_is_accepted_in_every_transfer_syntax_that_travels(port):
    syntaxes = [str(uid) for uid in contexts.transfer_syntaxes(accept_deflated=False)]
    assert len(contexts.STORAGE_SOP_CLASSES) == 188
    pairs = [(str(CTImageStorage), [syntax]) for syntax in syntaxes]
    pairs += [(str(sop_class), [syntaxes[0]]) for sop_class in contexts.STORAGE_SOP_CLASSES]
    for start in range(0, len(pairs), 120):
        some = pairs[start : start + 120]
        assert accepted(port, some) == [syntaxes[0] for _, syntaxes in some]


def test_private_and_deflated_and_pixelless_are_not_offered(port):
    private = "1.2.826.0.1.3680043.9.9999.1"
    no_pixels = contexts.WITHOUT_PIXELS
    proposed: list[tuple[str, list[str]]]
    proposed = [(private, [ExplicitVRLittleEndian]), ("1.2.840.10008.5.1.4.1.1.2", [private])]
    proposed += [(str(CTImageStorage), [str(uid)]) for uid in (*contexts.DEFLATED, *no_pixels)]
    proposed += [(str(CTImageStorage), [ExplicitVRLittleEndian])]
    assert accepted(port, proposed) == [None] * (len(proposed) - 1) + [ExplicitVRLittleEndian]


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ([JPEGLosslessSV1, ExplicitVRLittleEndian], JPEGLosslessSV1),
        ([ExplicitVRLittleEndian, JPEG2000Lossless], ExplicitVRLittleEndian),
        ([ImplicitVRLittleEndian, ExplicitVRBigEndian], ImplicitVRLittleEndian),
        ([ImplicitVRLittleEndian, ExplicitVRLittleEndian], ExplicitVRLittleEndian),
        (["1.2.3.4", JPEG2000Lossless, ImplicitVRLittleEndian], JPEG2000Lossless),
    ],
)
def test_what_the_sender_has_is_taken_as_it_is(port, proposed, chosen):
    assert accepted(port, [(str(CTImageStorage), proposed)]) == [chosen]


def test_a_pacs_may_open_an_association_to_report_what_it_committed_to(port, ledger):
    with ledger.write() as db:
        asked = {"transaction_uid": "1.2.3.99", "destination": "pacs", "requested_at": 0.0}
        db.execute(insert(commitment).values(asked))
    entity = AE("MAINPACS")
    association = entity.associate(
        "127.0.0.1",
        port,
        contexts=[build_context(StorageCommitmentPushModel, ImplicitVRLittleEndian)],
        ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)],
        ae_title="RADNODE",
    )
    assert association.is_established
    report = Dataset()
    report.TransactionUID = "1.2.3.99"
    report.ReferencedSOPSequence = [Dataset()]
    report.ReferencedSOPSequence[0].ReferencedSOPClassUID = CTImageStorage
    report.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    status, _ = association.send_n_event_report(
        report, 1, StorageCommitmentPushModel, UID("1.2.840.10008.1.20.1.1")
    )
    association.release()
    assert status.Status == 0x0000
    assert rows(ledger, commitment)[0]["answered_at"] is not None


def report_on(port: int, encoded: bytes, context: tuple[str, str]) -> int | None:
    """Send these bytes as a commitment report, in a context; return the status of its response."""
    command = {
        0x0002: StorageCommitmentPushModel,
        0x0100: 0x0100,
        0x0110: 1,
        0x0800: 1,
        0x1000: "1.2.840.10008.1.20.1.1",
        0x1002: 1,
    }
    with scanner.associate(port, [context], calling_ae="MAINPACS") as pacs:
        context_id = pacs.accepted[context]
        pacs.send_pdv(context_id, 3, scanner.command_set(command))
        for start in range(0, len(encoded), scanner.PDV_BYTES):
            try:
                pacs.send_pdv(context_id, 0, encoded[start : start + scanner.PDV_BYTES])
            except ConnectionError:
                return None
        pacs.send_pdv(context_id, 2, b"")
        return pacs.answer().status


REPORT = (StorageCommitmentPushModel, ImplicitVRLittleEndian)
EXPLICIT_REPORT = (StorageCommitmentPushModel, ExplicitVRLittleEndian)
EMPTY_ITEMS = struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 200_000
NO_REPORT = {
    "a sequence of very many items": (
        struct.pack("<HHL6s", 0x0008, 0x1195, 6, b"1.2.99")
        + struct.pack("<HHL", 0x0008, 0x1199, len(EMPTY_ITEMS))
        + EMPTY_ITEMS,
        REPORT,
    ),
    "the same as a value of unknown VR": (
        struct.pack("<HH2sH6s", 0x0008, 0x1195, b"UI", 6, b"1.2.99")
        + struct.pack("<HH2sHL", 0x0008, 0x1199, b"UN", 0, len(EMPTY_ITEMS))
        + EMPTY_ITEMS,
        EXPLICIT_REPORT,
    ),
    "no data set": (b"\xff" * 1000, REPORT),
    "an image's context": (b"", (CTImageStorage, ExplicitVRLittleEndian)),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_REPORT)
def test_what_is_no_commitment_report_is_refused_before_it_is_decoded(port, case):
    before = psutil.Process().memory_info().rss
    assert report_on(port, *NO_REPORT[case]) == 0x0115
    assert psutil.Process().memory_info().rss - before < 50_000_000


def test_a_report_of_more_than_two_megabytes_ends_the_association(port):
    assert report_on(port, b"\0" * 2_200_000, REPORT) is None


# --- associations in the ledger --------------------------------------------------------------


@pytest.mark.parametrize("end", ["release", "abort", "reset"])
def test_an_association_is_open_in_the_ledger_until_it_ends(port, ledger, end):
    with scanner.associate(port) as ct1:
        ct1.store(scanner.ct_slice())
        (row,) = open_associations(ledger)
        assert (row["calling_ae"], row["listener"]) == ("CT1", "listener-1")
        assert [one["association_id"] for one in instances(ledger)] == [row["id"]]
        getattr(ct1, end)()
    wait_until(lambda: open_associations(ledger) == [])


def test_open_associations_are_seen_to_be_alive(settings, ledger, monkeypatch):
    monkeypatch.setattr(listener, "HEARTBEAT_S", 0.05)
    with listening(settings, ledger) as port, scanner.associate(port) as ct1:
        ct1.store(scanner.ct_slice())
        seen_at = open_associations(ledger)[0]["seen_at"]
        wait_until(lambda: open_associations(ledger)[0]["seen_at"] > seen_at)


def test_starting_forgets_the_associations_of_a_dead_namesake_only(settings, ledger):
    with ledger.write() as db:
        for name in ("listener-1", "listener-2"):
            studies.open_association(db, name, listener=name, calling_ae="CT1")
    with listening(settings, ledger, name="listener-1"):
        assert [row["id"] for row in open_associations(ledger)] == ["listener-2"]


def test_a_second_listener_of_the_same_name_forgets_nothing_of_the_first(settings, ledger, port):
    with scanner.associate(port) as ct1:
        ct1.store(scanner.ct_slice())
        before = open_associations(ledger)
        with pytest.raises(ConfigError):
            listener.serve(settings, ledger, stop=threading.Event(), name="listener-1")
        assert open_associations(ledger) == before != []


def test_a_listener_that_cannot_reach_its_ledger_gives_its_port_back(settings, ledger):
    with ledger_of_one_connection(settings) as narrow:
        with narrow.read(), pytest.raises(SQLAlchemyError):
            listener.serve(settings, narrow, stop=threading.Event())
        with listening(settings, narrow) as port:
            assert scanner.send(port, [scanner.ct_slice()])[0].status == 0x0000


def test_a_listener_outlives_a_ledger_that_is_away(settings, ledger, monkeypatch, capfd):
    monkeypatch.setattr(listener, "HEARTBEAT_S", 0.05)
    with ledger_of_one_connection(settings) as narrow, listening(settings, narrow) as port:
        with scanner.associate(port) as ct1:
            ct1.store(scanner.ct_slice())
            told = ""
            with narrow.read():
                ct1.release()
                while told.count("ledger_failed") < 3:  # the end, and heartbeats
                    told += "".join(capfd.readouterr())
        assert "TimeoutError" in told
        wait_until(lambda: open_associations(ledger) == [])
        assert scanner.send(port, [scanner.ct_slice(2)])[0].status == 0x0000


def test_stopping_ends_what_is_open(settings, ledger):
    with listening(settings, ledger) as port, scanner.associate(port) as ct1:
        ct1.store_bytes(
            scanner.encode(scanner.ct_slice()),
            sop_class_uid=str(CTImageStorage),
            sop_instance_uid="1.2.3.4.1",
            cut_at=300,
        )
        wait_until(lambda: len(parts(settings)) == 1)
        silent = socket.create_connection(("127.0.0.1", port))
    assert open_associations(ledger) == []
    assert parts(settings) == []
    silent.close()


# --- holding on ------------------------------------------------------------------------------


def raw(port: int, content: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(content)
    return connection


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.01)
    try:
        return connection.recv(100) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_peers_that_stop_or_drip_do_not_keep_others_out(settings, ledger):
    few = changed(settings, maximum_associations=12, network_timeout_s=1.0)
    with listening(few, ledger) as port:
        stalled = [raw(port, b"\x01\x00\x00") for _ in range(10)]
        dripping = [raw(port, b"\x01\x00\x00\x00\x01\x00" + b"x" * 3) for _ in range(10)]
        end = time.monotonic() + 20
        while not all(map(is_closed, stalled + dripping)):
            assert time.monotonic() < end
            for one in dripping:
                try:
                    one.sendall(b"x")
                except OSError:
                    continue
        assert scanner.send(port, [scanner.ct_slice()])[0].status == 0x0000
        for one in stalled + dripping:
            one.close()


@pytest.mark.parametrize("pdu_type", [1, 4, 5, 7])
def test_a_pdu_that_claims_to_be_huge_is_cut_before_it_is_read(port, pdu_type):
    before = psutil.Process().memory_info().rss
    connection = raw(port, struct.pack(">BBL", pdu_type, 0, 0xFFFFFFFF))
    try:
        for _ in range(300):
            connection.sendall(b"\0" * 1_000_000)
    except OSError:
        pass
    else:
        pytest.fail("300 MB were read")
    connection.close()
    assert psutil.Process().memory_info().rss - before < 50_000_000


def test_an_association_that_falls_silent_is_ended(settings, ledger):
    with (
        listening(changed(settings, network_timeout_s=0.5), ledger) as port,
        scanner.associate(port) as ct1,
    ):
        ct1.store(scanner.ct_slice())
        assert ct1.answer().status is None
    assert open_associations(ledger) == []


def test_processes_share_the_port_and_one_may_die(settings, ledger, tmp_path):
    shared = changed(settings, processes=2)
    if not hasattr(socket, "SO_REUSEPORT"):
        absent("SO_REUSEPORT is not there")
    with (
        listener_process(shared, tmp_path / "1.log", name="listener-1") as first,
        listener_process(shared, tmp_path / "2.log", name="listener-2"),
    ):
        wait_until(lambda: "listening" in (tmp_path / "2.log").read_text())
        used: set[str] = set()
        for number in range(40):
            with scanner.associate(shared.listen.port) as ct1:
                assert ct1.store(scanner.ct_slice(number)).status == 0x0000
                used |= {row["listener"] for row in open_associations(ledger)}
        assert used == {"listener-1", "listener-2"}
        first.kill()
        first.wait()
        for number in range(40, 50):
            assert scanner.send(shared.listen.port, [scanner.ct_slice(number)])
    assert len(instances(ledger)) == 50


# --- memory ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_gigabyte_object_raises_the_memory_by_less_than_a_hundred_megabytes(
    settings, ledger, tmp_path
):
    dataset = scanner.ct_slice()
    dataset.Rows = dataset.Columns = 1024
    dataset.NumberOfFrames = "512"
    del dataset.PixelData
    size_bytes = 512 * 1024 * 1024 * 2
    head = scanner.encode(dataset) + struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OW", 0, size_bytes)
    frame = bytes(range(256)) * 8192

    def encoded() -> Iterator[bytes]:
        yield head
        for _ in range(512):
            yield frame

    with listener_process(settings, tmp_path / "listener.log") as process:
        port = settings.listen.port
        assert scanner.send(port, [scanner.ct_slice(2)])[0].status == 0x0000
        memory = psutil.Process(process.pid)
        before = highest = memory.memory_info().rss
        done = threading.Event()

        def watch() -> None:
            nonlocal highest
            while not done.wait(0.02):
                highest = max(highest, memory.memory_info().rss)

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            with scanner.associate(port, timeout_s=240) as ct1:
                answer = ct1.store_bytes(
                    encoded(),
                    sop_class_uid=str(CTImageStorage),
                    sop_instance_uid=str(dataset.SOPInstanceUID),
                )
        finally:
            done.set()
            watching.join()
    assert answer == scanner.Answer(0x0000)
    sizes = sorted(row["size_bytes"] for row in instances(ledger))
    assert sizes[-1] == len(head) + size_bytes
    print(f"{size_bytes / 1e9:.2f} GB raised the resident set by {(highest - before) / 1e6:.0f} MB")
    assert highest - before < 100_000_000
