"""What the sender writes to a PACS byte by byte, and what it makes of every answer."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode, split_dataset

from node.dimse import meta, sender
from node.dimse.wire import LARGEST_PDU_BYTES, pdus, store_request
from node.errors import AssociationBroken, PeerBusy, PeerRefused
from node.settings import DimseDestination, Settings
from tests.node.results import data_set_digest
from tests.peers import by_hand, dcmtk
from tests.peers.by_hand import COMMAND, LAST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from node.errors import DeliveryError
    from tests.peers.orthanc import Orthanc

LARGE = 24_000_000
"""Bytes: more than the buffers of two sockets hold."""


def write(path: Path, pixel_bytes: int) -> str:
    """Write an object and return its SOP Instance UID."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
    dataset.PatientID, dataset.StudyInstanceUID = "P1", generate_uid()
    dataset.SeriesInstanceUID, dataset.Modality = generate_uid(), "CT"
    dataset.PixelData = bytes(range(256)) * (pixel_bytes // 256) + bytes(pixel_bytes % 256)
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dcmwrite(path, dataset, enforce_file_format=True)
    return str(dataset.SOPInstanceUID)


def data_set_of(path: Path) -> bytes:
    return path.read_bytes()[split_dataset(path)[1] :]


@contextmanager
def peer(
    serve: Callable[[socket.socket], object],
    *,
    maximum_bytes: int = 16_384,
    timeout_s: float = 10.0,
) -> Iterator[tuple[DimseDestination, Future[object]]]:
    """Serve one association by hand; what ``serve`` returns is the result of the future."""

    def run() -> object:
        with by_hand.accept(listener, maximum_bytes=maximum_bytes) as connection:
            connection.settimeout(20.0)
            return serve(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        listener.settimeout(20.0)
        port = listener.getsockname()[1]
        yield (
            DimseDestination(
                kind="dimse", ae_title="PACS", host="127.0.0.1", port=port, timeout_s=timeout_s
            ),
            pool.submit(run),
        )


def send(destination: DimseDestination, *paths: Path) -> list[int | DeliveryError]:
    files = {str(split_dataset(path)[0].MediaStorageSOPInstanceUID): path for path in paths}
    return [outcome for _, outcome in sender.send(Settings(), destination, files)]


def release(connection: socket.socket) -> None:
    assert by_hand.pdu(connection)[0] == by_hand.RELEASE_RQ
    connection.sendall(by_hand.header(by_hand.RELEASE_RP) + bytes(4))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    write(tmp_path / "small.dcm", 1000)
    return tmp_path / "small.dcm"


@pytest.fixture
def large(tmp_path: Path) -> Path:
    write(tmp_path / "large.dcm", LARGE)
    return tmp_path / "large.dcm"


@pytest.mark.parametrize("maximum_bytes", [0, 9, 33, 4096, 16_384, 16_385, 131_072, 1 << 31])
def test_no_pdu_is_longer_than_the_peer_takes_and_the_data_set_comes_whole(
    tmp_path: Path, maximum_bytes: int
) -> None:
    path = tmp_path / "x.dcm"
    write(path, 600 if 0 < maximum_bytes < 4096 else 700_000)

    def serve(connection: socket.socket) -> by_hand.Message:
        message = by_hand.message(connection)
        connection.sendall(by_hand.response(message.message_id))
        release(connection)
        return message

    with peer(serve, maximum_bytes=maximum_bytes) as (destination, served):
        assert send(destination, path) == [0x0000]
    message = served.result()
    assert isinstance(message, by_hand.Message)
    assert message.data_set == data_set_of(path)
    lengths, controls, sizes = zip(*message.fragments, strict=True)
    allowed = min(maximum_bytes or LARGEST_PDU_BYTES, LARGEST_PDU_BYTES)
    assert max(lengths) <= allowed
    assert max(lengths) >= allowed - 1  # one that is smaller by more would cost time
    assert not any(size % 2 for size in sizes)
    commands = [control for control in controls if control & COMMAND]
    assert commands == [COMMAND] * (len(commands) - 1) + [COMMAND | LAST]
    assert list(controls[len(commands) :]) == [0] * (len(controls) - len(commands) - 1) + [LAST]


@pytest.mark.parametrize("size", [0, 1, 10, 12, 13, 20, 24, 25, 100])
def test_a_message_is_cut_at_every_size_as_pynetdicom_cuts_it(size: int) -> None:
    """Fragments of 10 bytes: PDUs of 16."""
    request = C_STORE()
    request.MessageID, request.Priority = 7, 0
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CTImageStorage, "1.2.34"
    request.DataSet = BytesIO()
    theirs = C_STORE_RQ()
    theirs.primitive_to_message(request)
    command = store_request(7, CTImageStorage, "1.2.34")
    assert command == encode(theirs.command_set, is_implicit_vr=True, is_little_endian=True)

    content = bytes(range(size))
    buffer = memoryview(bytearray(LARGEST_PDU_BYTES + 12))
    written = b"".join(pdus(buffer, command, BytesIO(content), context_id=3, maximum_bytes=16))
    expected = b""
    for whole, kind in ((command, COMMAND), (content, 0)):
        cut = [whole[at : at + 10] for at in range(0, len(whole), 10)] or [b""]
        for number, fragment in enumerate(cut, start=1):
            control = kind | (LAST if number == len(cut) else 0)
            item = (len(fragment) + 2).to_bytes(4, "big") + bytes([3, control]) + fragment
            expected += b"\x04\x00" + len(item).to_bytes(4, "big") + item
    assert written == expected


def test_a_buffer_that_is_used_again_and_again_loses_no_byte() -> None:
    content = bytes(range(256)) * 5000
    buffer = memoryview(bytearray(LARGEST_PDU_BYTES + 12))
    pieces = [
        bytes(piece)
        for piece in pdus(buffer, b"co", BytesIO(content), context_id=1, maximum_bytes=4096)
    ]
    assert len(pieces) > 4
    written, position, got = b"".join(pieces), 0, b""
    while position < len(written):
        length = int.from_bytes(written[position + 2 : position + 6], "big")
        if not written[position + 11] & COMMAND:
            got += written[position + 12 : position + 6 + length]
        position += 6 + length
    assert got == content


def test_a_file_that_gets_shorter_while_it_is_sent_is_never_taken_for_whole(
    large: Path, small: Path
) -> None:
    heard = bytearray()

    def serve(connection: socket.socket) -> None:
        heard.extend(connection.recv(1000))
        with large.open("r+b") as file:
            file.truncate(LARGE // 2)
        while more := connection.recv(1 << 20):
            heard.extend(more[-20:])

    with peer(serve) as (destination, served):
        (outcome,) = send(destination, large, small)
        served.result(20.0)
    assert isinstance(outcome, PeerRefused)
    assert "large.dcm" in outcome.do


def test_a_response_may_come_byte_by_byte_and_take_longer_than_the_timeout(small: Path) -> None:
    def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in by_hand.response(by_hand.message(connection).message_id, 0xB000):
            time.sleep(0.015)
            connection.sendall(bytes([byte]))
        release(connection)

    with peer(serve, timeout_s=0.5) as (destination, served):
        assert send(destination, small) == [0xB000]
        served.result(20.0)


def test_a_peer_that_reads_slowly_takes_longer_than_the_timeout(tmp_path: Path) -> None:
    """So slowly that the buffer of the sender's socket has no room for all that time."""
    path = tmp_path / "x.dcm"
    write(path, 8_000_000)

    def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        received = 0
        while received < 8_000_000:
            piece = connection.recv(16_384 if received < 1_300_000 else 1 << 20)
            if not piece:
                return  # given up
            received += len(piece)
            time.sleep(0.025 if received < 1_300_000 else 0.0)
        connection.sendall(by_hand.response(1))
        while connection.recv(1 << 20):
            pass

    with peer(serve, timeout_s=1.0) as (destination, served):
        assert send(destination, path) == [0x0000]
        served.exception(20.0)


def test_a_peer_that_stops_reading_ends_it(large: Path) -> None:
    given_up = threading.Event()
    with peer(lambda _: given_up.wait(20.0), timeout_s=0.3) as (destination, _):
        (outcome,) = send(destination, large)
        given_up.set()
    assert isinstance(outcome, AssociationBroken)
    assert "stalled: nothing moved for 0.3 s" in outcome.what


def test_a_peer_that_says_nothing_ends_it(small: Path) -> None:
    given_up = threading.Event()
    with peer(lambda _: given_up.wait(20.0), timeout_s=0.3) as (destination, _):
        (outcome,) = send(destination, small)
        given_up.set()
    assert isinstance(outcome, AssociationBroken)
    assert "stalled" in outcome.what


@pytest.mark.parametrize("pdu_type", [by_hand.ABORT, by_hand.RELEASE_RQ])
def test_an_end_is_noticed_while_the_peer_has_stopped_reading(large: Path, pdu_type: int) -> None:
    given_up = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.sendall(by_hand.header(pdu_type) + bytes(4))
        given_up.wait(20.0)

    with peer(serve, timeout_s=15.0) as (destination, _):
        (outcome,) = send(destination, large)
        given_up.set()
    assert isinstance(outcome, AssociationBroken)
    assert "ended the association" in outcome.what


def test_a_response_that_comes_before_the_end_of_its_request_counts_after_it(large: Path) -> None:
    def serve(connection: socket.socket) -> by_hand.Message:
        connection.recv(1, socket.MSG_PEEK)
        connection.sendall(by_hand.response(1, 0xA700))
        message = by_hand.message(connection)
        release(connection)
        return message

    with peer(serve) as (destination, served):
        (outcome,) = send(destination, large)
        message = served.result(20.0)
    assert isinstance(outcome, PeerBusy)
    assert isinstance(message, by_hand.Message)
    assert message.data_set == data_set_of(large)


def test_a_release_instead_of_an_answer_is_answered_and_is_no_answer(small: Path) -> None:
    def serve(connection: socket.socket) -> bytes:
        by_hand.message(connection)
        connection.sendall(by_hand.header(by_hand.RELEASE_RQ) + bytes(4))
        answer = by_hand.pdu(connection)
        assert connection.recv(100) == b""
        return answer

    with peer(serve) as (destination, served):
        (outcome,) = send(destination, small)
        assert served.result(20.0) == by_hand.header(by_hand.RELEASE_RP) + bytes(4)
    assert isinstance(outcome, AssociationBroken)
    assert "ended the association" in outcome.what


ABORT = by_hand.header(by_hand.ABORT) + bytes(4)
COMMAND_SET = by_hand.response(1)[12:]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(by_hand.response(2), id="to another message"),
        pytest.param(by_hand.response(1, command=0x8030), id="C-ECHO-RSP"),
        pytest.param(by_hand.response(1, command=0x0100), id="N-EVENT-REPORT-RQ"),
        pytest.param(b"\x09\0\0\0\0\x04\0\0\0\0", id="no type of PDU"),
        pytest.param(b"\x02\0\0\0\0\x04\0\0\0\0", id="A-ASSOCIATE-AC"),
        pytest.param(by_hand.header(by_hand.RELEASE_RP, 5) + bytes(5), id="too long a release"),
        pytest.param(by_hand.header(by_hand.P_DATA_TF, 1 << 31), id="2 GB"),
        pytest.param(by_hand.header(by_hand.P_DATA_TF, 5) + bytes(5), id="half a PDV header"),
        pytest.param(by_hand.header(by_hand.P_DATA_TF, 6) + bytes(6), id="a PDV of 0 bytes"),
        pytest.param(
            by_hand.header(by_hand.P_DATA_TF, 8) + b"\0\0\0\x09\x01\x03ab", id="beyond its PDU"
        ),
        pytest.param(
            by_hand.header(by_hand.P_DATA_TF, 16) + by_hand.pdv(b"0123456789", 3), id="no command"
        ),
        pytest.param(
            by_hand.header(by_hand.P_DATA_TF, 16) + by_hand.pdv(b"0123456789", 2), id="a data set"
        ),
        pytest.param(
            by_hand.header(by_hand.P_DATA_TF, len(COMMAND_SET) - 4)
            + by_hand.pdv(COMMAND_SET[:-10], 3),
            id="no status",
        ),
    ],
)
def test_nonsense_instead_of_an_answer_is_no_answer(small: Path, answer: bytes) -> None:
    def serve(connection: socket.socket) -> bytes:
        by_hand.message(connection)
        connection.sendall(answer)
        return by_hand.pdu(connection)

    with peer(serve) as (destination, served):
        (outcome,) = send(destination, small)
        assert served.result(20.0) == ABORT
    assert isinstance(outcome, AssociationBroken)
    assert "not a valid DIMSE response" in outcome.what


def test_a_response_in_fragments_and_with_a_data_set_is_understood(small: Path) -> None:
    def serve(connection: socket.socket) -> None:
        by_hand.message(connection)
        whole = by_hand.response(1, 0xB007, data_set=b"ignored.")
        command = whole[12 : len(whole) - 14]
        pdvs = by_hand.pdv(command[:7], COMMAND) + by_hand.pdv(command[7:], COMMAND | LAST)
        connection.sendall(by_hand.header(by_hand.P_DATA_TF, len(pdvs)) + pdvs)
        for fragment, control in ((b"igno", 0), (b"red.", LAST)):
            pdv = by_hand.pdv(fragment, control)
            connection.sendall(by_hand.header(by_hand.P_DATA_TF, len(pdv)) + pdv)
        release(connection)

    with peer(serve) as (destination, served):
        assert send(destination, small) == [0xB007]
        served.result(20.0)


def test_requests_on_one_association_are_numbered_from_1(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.dcm" for number in range(3)]
    for path in paths:
        write(path, 100)

    def serve(connection: socket.socket) -> list[int]:
        numbers = []
        for _ in paths:
            numbers.append(by_hand.message(connection).message_id)
            connection.sendall(by_hand.response(numbers[-1]))
        release(connection)
        return numbers

    with peer(serve) as (destination, served):
        assert send(destination, *paths) == [0x0000] * 3
        assert served.result(20.0) == [1, 2, 3]


@pytest.mark.parametrize("last_words", ["collision", "data", "closes", "nonsense"])
def test_what_comes_instead_of_the_answer_to_a_release_spoils_no_delivery(
    small: Path, last_words: str
) -> None:
    def serve(connection: socket.socket) -> bytes:
        by_hand.message(connection)
        connection.sendall(by_hand.response(1))
        assert by_hand.pdu(connection)[0] == by_hand.RELEASE_RQ
        confirmed = by_hand.header(by_hand.RELEASE_RP) + bytes(4)
        if last_words == "collision":  # the requestor answers first (PS3.8 section 9.2, Sta9)
            connection.sendall(by_hand.header(by_hand.RELEASE_RQ) + bytes(4))
            assert by_hand.pdu(connection) == confirmed
            connection.sendall(confirmed)
        elif last_words == "data":
            connection.sendall(by_hand.response(1) + confirmed)
        elif last_words == "nonsense":
            connection.sendall(b"\x09" + bytes(9))
            assert by_hand.pdu(connection) == ABORT
        return b"" if last_words == "closes" else connection.recv(100)

    with peer(serve) as (destination, served):
        assert send(destination, small) == [0x0000]
        assert served.result(20.0) == b""


@pytest.mark.parametrize(
    "words", [ABORT, by_hand.response(1), ABORT[:7]], ids=["abort", "response", "part of a PDU"]
)
def test_a_peer_that_speaks_before_it_is_asked_does_not_count_as_an_answer(
    small: Path, tmp_path: Path, words: bytes
) -> None:
    write(tmp_path / "other.dcm", 100)

    def serve(connection: socket.socket) -> None:
        connection.sendall(words)
        while connection.recv(1 << 16):
            pass

    with peer(serve, timeout_s=1.0) as (destination, served):
        (outcome,) = send(destination, small, tmp_path / "other.dcm")
        served.exception(20.0)
    assert isinstance(outcome, AssociationBroken)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)  # none: Orthanc's fixture asks
def test_dcmtk_and_orthanc_get_the_bytes_of_the_file(orthanc: Orthanc, tmp_path: Path) -> None:
    folder = tmp_path / "sent"
    folder.mkdir()
    paths = [folder / f"{size}.dcm" for size in (100, 500_000, 3_000_000)]
    uids = [write(path, int(path.stem)) for path in paths]
    with dcmtk.storescp(tmp_path, "--bit-preserving") as scp:
        for port, ae_title in ((scp.port, scp.ae_title), (orthanc.port, orthanc.ae_title)):
            destination = DimseDestination(
                kind="dimse", ae_title=ae_title, host="127.0.0.1", port=port
            )
            assert send(destination, *paths) == [0x0000] * 3
        sent = {data_set_digest(path) for path in paths}
        assert {data_set_digest(path) for path in scp.files()} == sent
    for uid, path in zip(uids, paths, strict=True):
        (instance,) = orthanc.find(SOPInstanceUID=uid)
        held = tmp_path / "held.dcm"
        held.write_bytes(orthanc.file(instance))
        assert data_set_digest(held) == data_set_digest(path)


@pytest.mark.parametrize("name", ["CT_small.dcm", "JPEG2000.dcm", "waveform_ecg.dcm", "rtplan.dcm"])
def test_the_meta_group_is_read_as_pydicom_reads_it(name: str) -> None:
    path = Path(str(get_testdata_file(name)))
    theirs, offset = split_dataset(path)
    ours = meta.read(path)
    assert ours.offset == offset
    assert ours.sop_class_uid == theirs.MediaStorageSOPClassUID
    assert ours.sop_instance_uid == theirs.MediaStorageSOPInstanceUID
    assert ours.transfer_syntax_uid == theirs.TransferSyntaxUID


def test_what_a_maker_puts_into_the_meta_group_does_not_matter(tmp_path: Path) -> None:
    dataset = dcmread(str(get_testdata_file("CT_small.dcm")))
    dataset.file_meta.PrivateInformationCreatorUID = UID("1.2.3")
    dataset.file_meta.PrivateInformation = bytes(100_000)
    dataset.save_as(tmp_path / "x.dcm")
    assert meta.read(tmp_path / "x.dcm").offset == split_dataset(tmp_path / "x.dcm")[1]
