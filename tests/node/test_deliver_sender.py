"""The sender by itself: C-ECHO, compressed objects, and more classes than one association holds."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    generate_uid,
)
from pynetdicom import AllStoragePresentationContexts

from node.dimse import sender
from node.errors import AssociationRejected, PeerRefused, PeerUnreachable
from node.settings import DimseDestination, Settings
from tests.node.results import data_set_digest
from tests.peers import REPOSITORY, free_port
from tests.peers.pacs import Pacs, Script, pacs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLASSES = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Pacs]:
    with pacs(tmp_path / "pacs") as running:
        yield running


def dimse(port: int) -> DimseDestination:
    return DimseDestination(
        kind="dimse", ae_title="PACS", host="127.0.0.1", port=port, calling_ae_title="OTHER"
    )


def write(path: Path, sop_class_uid: str, *, syntax: str = ExplicitVRLittleEndian) -> str:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class_uid, generate_uid()
    dataset.PatientID, dataset.StudyInstanceUID = "P1", generate_uid()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    if syntax != ExplicitVRLittleEndian:
        dataset.PixelData = encapsulate([bytes(range(200))])
        dataset["PixelData"].VR = "OB"
    dcmwrite(path, dataset, enforce_file_format=True)
    return str(dataset.SOPInstanceUID)


def test_an_echo_takes_some_milliseconds(archive: Pacs) -> None:
    assert 0.0 < sender.echo(Settings(), dimse(archive.port)) < 10_000.0
    assert [entry["what"] for entry in archive.journal()] == ["association", "echo"]
    assert archive.journal("association")[0]["calling_ae"] == "OTHER"


def test_an_echo_says_who_does_not_answer_and_where_to_look(archive: Pacs) -> None:
    with pytest.raises(
        PeerUnreachable, match=r"No answer from 'PACS' \(PACS at 127.0.0.1.*radnode.toml"
    ):
        sender.echo(Settings(), dimse(free_port()))
    archive.script = Script(associate="reject_permanent")
    with pytest.raises(AssociationRejected, match="'OTHER'"):
        sender.echo(Settings(), dimse(archive.port))


def test_a_compressed_object_is_offered_and_sent_as_it_is(archive: Pacs, tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    uid = write(path, CLASSES[0], syntax=JPEGBaseline8Bit)
    assert list(sender.send(Settings(), dimse(archive.port), {uid: path})) == [(uid, 0x0000)]
    (association,) = archive.journal("association")
    assert association["proposed"] == [[CLASSES[0], [JPEGBaseline8Bit]]]
    assert archive.journal("store")[0]["digest"] == data_set_digest(path)


def test_a_compressed_object_is_not_decompressed_for_a_pacs_that_cannot_read_it(
    archive: Pacs, tmp_path: Path
) -> None:
    archive.script = Script(transfer_syntaxes=(ExplicitVRLittleEndian,))
    path = tmp_path / "x.dcm"
    uid = write(path, CLASSES[0], syntax=JPEGBaseline8Bit)
    ((_, outcome),) = sender.send(Settings(), dimse(archive.port), {uid: path})
    assert isinstance(outcome, PeerRefused)


def test_a_study_of_more_classes_than_one_association_holds_goes_on_two(
    archive: Pacs, tmp_path: Path
) -> None:
    files = {}
    for number, sop_class_uid in enumerate(CLASSES[:70]):
        path = tmp_path / f"{number}.dcm"
        files[write(path, sop_class_uid)] = path
    outcomes = dict(sender.send(Settings(), dimse(archive.port), files))
    assert outcomes == dict.fromkeys(files, 0x0000)
    assert [len(entry["proposed"]) for entry in archive.journal("association")] == [128, 12]


def damaged(path: Path, how: str) -> None:
    """Make ``path``, a Part 10 file, something else."""
    content = path.read_bytes()
    if how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "no VR":  # of (0002,0002)
        path.write_bytes(content.replace(b"\x02\x00\x02\x00UI", b"\x02\x00\x02\x00ZZ", 1))
    else:
        length = {"empty": 0, "no header": 140, "cut in an element": 150, "cut in a value": 170}
        path.write_bytes(content[: length[how]])


@pytest.mark.parametrize(
    "how", ["folder", "no VR", "empty", "no header", "cut in an element", "cut in a value"]
)
def test_a_file_that_is_not_dicom_does_not_stop_the_others(
    archive: Pacs, tmp_path: Path, how: str
) -> None:
    bad, good = tmp_path / "bad.dcm", tmp_path / "good.dcm"
    files = {write(bad, CLASSES[0]): bad, write(good, CLASSES[0]): good}
    damaged(bad, how)
    refused, accepted = dict(sender.send(Settings(), dimse(archive.port), files)).values()
    assert isinstance(refused, PeerRefused)
    assert "bad.dcm" in refused.do
    assert accepted == 0x0000


def test_a_data_set_that_cannot_be_converted_does_not_stop_the_others(
    archive: Pacs, tmp_path: Path
) -> None:
    archive.script = Script(transfer_syntaxes=(ImplicitVRLittleEndian,))
    bad, good = tmp_path / "bad.dcm", tmp_path / "good.dcm"
    files = {write(bad, CLASSES[0]): bad, write(good, CLASSES[0]): good}
    with bad.open("ab") as file:
        file.write(b"\xe0\x7f\x10\x00OB\x00\x00\x01")  # cut within its length
    refused, accepted = dict(sender.send(Settings(), dimse(archive.port), files)).values()
    assert isinstance(refused, PeerRefused)
    assert accepted == 0x0000


def test_the_pacs_runs_as_a_process_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.peers.pacs", "--folder", str(tmp_path / "pacs")]
    with subprocess.Popen(
        [*command, "--script", '{"store": ["0xB000"]}'], cwd=REPOSITORY, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        path = tmp_path / "x.dcm"
        uid = write(path, CLASSES[0])
        assert list(sender.send(Settings(), dimse(port), {uid: path})) == [(uid, 0xB000)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert [file.stem for file in (tmp_path / "pacs").iterdir()] == [uid]
