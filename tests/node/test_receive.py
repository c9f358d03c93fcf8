"""C-STORE answers Success for what is durable and indexed, and only for that. Real sockets."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom.data
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SegmentationStorage,
)
from pynetdicom.dsutils import split_dataset
from sqlalchemy import text

from node.dimse import gate
from node.domain import Artifact
from node.spool import Spool
from node.store import deliveries
from node.uids import IMPLEMENTATION_CLASS_UID
from tests.node.receiving import (
    conflicts,
    event_kinds,
    instances,
    ledger_of_one_connection,
    listening,
    open_associations,
    parts,
    stored,
)
from tests.peers import dcmtk, require, scanner, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.settings import Settings
    from node.store.ledger import Ledger

SLICE = scanner.ct_slice()
FILES = Path(pydicom.data.__file__).parent / "test_files"
TRAVELLED = [
    "CT_small.dcm",  # explicit VR little endian
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "JPEG2000.dcm",
    "examples_jpeg2k.dcm",  # lossless
    "JPEG-lossy.dcm",  # process 4
    "SC_rgb_dcmtk_+eb+cr.dcm",  # JPEG baseline
    "SC_rgb_jpeg_gdcm.dcm",  # JPEG lossless
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_RLE.dcm",
    "JPEG2000-embedded-sequence-delimiter.dcm",
    "SC_rgb_rle_2frame.dcm",
    "waveform_ecg.dcm",
    "test-SR.dcm",
    "reportsi.dcm",
    "rtplan.dcm",
    "liver_1frame.dcm",  # a segmentation
    "liver_expb_1frame.dcm",
]

one_database = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture
def port(settings: Settings, ledger: Ledger) -> Iterator[int]:
    with listening(settings, ledger) as port:
        yield port


# --- what Success means ----------------------------------------------------------------------


def test_success_means_that_the_same_bytes_are_on_disk_and_indexed(port, settings, ledger):
    slices = [scanner.ct_slice(number) for number in range(1, 6)]
    assert scanner.send(port, slices) == [scanner.Answer(0x0000)] * 5
    assert stored(settings) == {one.SOPInstanceUID: scanner.encode(one) for one in slices}
    rows = {row["sop_instance_uid"]: row for row in instances(ledger)}
    for one in slices:
        row = rows[one.SOPInstanceUID]
        digest = hashlib.sha256(scanner.encode(one)).hexdigest()
        assert (row["digest"], row["path"]) == (digest, f"{digest[:2]}/{digest}.dcm")
        assert (row["study_uid"], row["series_uid"]) == ("1.2.3", "1.2.3.4")
        assert (row["calling_ae"], row["own_result"]) == ("CT1", False)
        assert row["size_bytes"] == len(scanner.encode(one))
    assert parts(settings) == []


@one_database
@pytest.mark.parametrize("name", TRAVELLED)
def test_what_travels_is_kept_byte_for_byte_in_its_transfer_syntax(port, settings, name):
    meta, offset = split_dataset(FILES / name)
    encoded = (FILES / name).read_bytes()[offset:]
    dataset = dcmread(FILES / name)
    answer = scanner.send_bytes(
        port,
        encoded,
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        context_class=str(dataset.SOPClassUID),
        transfer_syntax=str(meta.TransferSyntaxUID),
    )
    assert answer == scanner.Answer(0x0000)
    assert stored(settings) == {dataset.SOPInstanceUID: encoded}
    (path,) = map(Spool(settings.spool_folder).absolute, Spool(settings.spool_folder).files())
    kept = dcmread(path)
    assert kept.file_meta.TransferSyntaxUID == meta.TransferSyntaxUID
    assert kept.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert kept.file_meta.SourceApplicationEntityTitle == "CT1"
    assert kept.preamble == b"\0" * 128
    assert kept == dataset
    dcmtk.dcmdump(path)


@one_database
@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_dcmtk_takes_the_kept_file_for_a_dicom_file(port, settings, syntax):
    assert scanner.send(port, [scanner.ct_slice()], transfer_syntax=syntax)[0].status == 0x0000
    (path,) = map(Spool(settings.spool_folder).absolute, Spool(settings.spool_folder).files())
    tested = subprocess.run(
        [require("dcmftest"), path], check=False, capture_output=True, text=True
    )
    assert tested.stdout.startswith("yes: ")
    assert "SourceApplicationEntityTitle" in dcmtk.dcmdump(path)


# --- again, and other ------------------------------------------------------------------------


def test_sending_a_series_again_is_success_and_no_new_row(port, settings, ledger):
    series = [scanner.ct_slice(number) for number in range(1, 11)]
    for _ in range(3):
        assert {one.status for one in scanner.send(port, series)} == {0x0000}
    assert [row["resends"] for row in instances(ledger)] == [2] * 10
    assert len(stored(settings)) == 10
    assert conflicts(ledger) == []


def test_another_instance_under_the_same_uid_is_set_aside_and_refused(port, settings, ledger):
    first, other = scanner.ct_slice(), scanner.ct_slice()
    other.PatientName = "Other^Content"
    assert scanner.send(port, [first])[0].status == 0x0000
    for _ in range(2):
        answer = scanner.send(port, [other])[0]
        assert answer.status == 0xC010
        assert answer.comment == "Another instance has this UID. Give this one its own UID."
    (row,) = instances(ledger)
    assert row["digest"] == hashlib.sha256(scanner.encode(first)).hexdigest()
    (conflict,) = conflicts(ledger)
    kept = dcmread(Spool(settings.spool_folder).absolute(conflict["path"]))
    assert kept.PatientName == "Other^Content"
    assert event_kinds(ledger).count("instance_conflict") == 1
    assert scanner.send(port, [first])[0].status == 0x0000


def test_our_own_result_is_stored_and_makes_no_work(port, ledger):
    returned, other_site = scanner.ct_slice(1), scanner.ct_slice(2)
    other_site.Manufacturer, other_site.SOPClassUID = "radnode", SegmentationStorage
    made = Artifact(
        returned.SOPInstanceUID, CTImageStorage, "1.2.3", "job", "seg", "job/seg.dcm", "00", 1
    )
    with ledger.write() as db:
        db.execute(text(JOB))
        deliveries.write_artifact(db, made)
    assert [one.status for one in scanner.send(port, [returned, other_site])] == [0x0000] * 2
    assert [row["own_result"] for row in instances(ledger)] == [True, True]
    with ledger.read() as db:
        assert db.execute(text("SELECT count(*) FROM study")).scalar_one() == 0
        assert db.execute(text("SELECT count(*) FROM series")).scalar_one() == 0


JOB = """
INSERT INTO job (id, study_uid, series_uid, sop_instance_uid, revision, pipeline,
    pipeline_version, model_sha256, parameters, input_digest, send_to, priority, deadline_s, state,
    attempts, next_attempt_at, planned_at)
VALUES ('job', '1.2.3', '1.2.3.4', '', 1, 'p', '1', '', '', '', '', 5, 1, 'completed', 1, 0, 0)
"""


# --- when something fails here ---------------------------------------------------------------


@one_database
def test_below_the_watermark_new_associations_are_put_off(settings, ledger):
    spool = settings.spool.model_copy(update={"minimum_free_bytes": 1 << 60})
    with listening(settings.model_copy(update={"spool": spool}), ledger) as port:
        with pytest.raises(scanner.Rejected) as rejected:
            scanner.send(port, [SLICE])
        assert rejected.value.why == (2, 3, 1)  # transient, temporary congestion


@one_database
def test_a_listener_without_a_disk_puts_senders_off_until_there_is_one(settings, ledger):
    settings.spool_folder.write_text("In its place.")
    with listening(settings, ledger) as port:
        with pytest.raises(scanner.Rejected) as rejected:
            scanner.send(port, [SLICE])
        assert rejected.value.why == (2, 3, 1)
        settings.spool_folder.unlink()
        assert scanner.send(port, [SLICE])[0].status == 0x0000
        shutil.rmtree(settings.spool_folder)
        assert scanner.send(port, [scanner.ct_slice(2)])[0].status == 0x0000


@one_database
def test_below_the_watermark_an_open_association_gets_out_of_resources(port, settings, monkeypatch):
    with scanner.associate(port) as ct1:
        assert ct1.store(scanner.ct_slice(1)).status == 0x0000
        monkeypatch.setattr(Spool, "has_room", lambda *_: False)
        answer = ct1.store(scanner.ct_slice(2))
        assert answer.status == 0xA700
        assert answer.comment == "The receiver's disk takes no more. Try again later."
        monkeypatch.undo()
        assert ct1.store(scanner.ct_slice(2)).status == 0x0000
    assert len(stored(settings)) == 2
    assert parts(settings) == []


def test_without_a_ledger_nothing_is_acknowledged(port, settings, ledger):
    with ledger.write() as db:
        db.execute(text("ALTER TABLE conflict RENAME TO mislaid"))
        db.execute(text("ALTER TABLE instance RENAME TO conflict"))
    try:
        answer = scanner.send(port, [SLICE])[0]
    finally:  # other tests use this database too
        with ledger.write() as db:
            db.execute(text("ALTER TABLE conflict RENAME TO instance"))
            db.execute(text("ALTER TABLE mislaid RENAME TO conflict"))
    assert answer.status == 0xA700
    assert answer.comment == "The receiver's database does not answer. Try again later."
    assert scanner.send(port, [SLICE])[0].status == 0x0000
    assert len(stored(settings)) == len(instances(ledger)) == 1


def test_with_no_connection_to_the_ledger_left_the_sender_may_try_again(settings, ledger):
    with ledger_of_one_connection(settings) as narrow, listening(settings, narrow) as port:
        with narrow.read():
            answer = scanner.send(port, [SLICE])[0]
        assert answer.status == 0xA700
        assert answer.comment == "The receiver's database does not answer. Try again later."
        assert scanner.send(port, [SLICE])[0].status == 0x0000
    assert len(stored(settings)) == len(instances(ledger)) == 1


@one_database
def test_a_fault_of_ours_is_answered_and_logged_without_its_words(port, monkeypatch, capfd):
    def fail(*_: object) -> None:
        raise RuntimeError("Test^Phantom")

    monkeypatch.setattr(gate, "identify", fail)
    answer = scanner.send(port, [SLICE])[0]
    assert answer.status == 0xC001
    assert answer.comment == "The receiver failed. See its log 'receive_failed'."
    monkeypatch.undo()
    assert scanner.send(port, [SLICE])[0].status == 0x0000
    printed = "".join(capfd.readouterr())
    assert "RuntimeError" in printed
    assert "Phantom" not in printed


# --- cut lines -------------------------------------------------------------------------------


@one_database
@pytest.mark.parametrize("how", ["abort", "reset"])
def test_a_line_cut_anywhere_leaves_whole_instances_and_nothing_else(port, settings, ledger, how):
    encoded = scanner.encode(scanner.ct_slice(2))
    whole = scanner.ct_slice(1)
    offsets = sorted(random.Random(1).sample(range(1, len(encoded)), 25))
    for offset in offsets:
        with scanner.associate(port) as ct1:
            assert ct1.store(whole).status == 0x0000
            ct1.store_bytes(
                encoded,
                sop_class_uid=str(CTImageStorage),
                sop_instance_uid="1.2.3.4.2",
                cut_at=offset,
            )
            getattr(ct1, how)()
    wait_until(lambda: parts(settings) == [], what="Removing the parts")
    wait_until(lambda: open_associations(ledger) == [], what="Closing the associations")
    assert stored(settings) == {whole.SOPInstanceUID: scanner.encode(whole)}
    assert [row["sop_instance_uid"] for row in instances(ledger)] == [whole.SOPInstanceUID]


@one_database
def test_a_series_may_come_interleaved_over_several_associations(port, settings, ledger):
    numbers = list(range(1, 25))
    random.Random(2).shuffle(numbers)
    with (
        scanner.associate(port) as first,
        scanner.associate(port) as second,
        scanner.associate(port, [(CTImageStorage, ImplicitVRLittleEndian)]) as third,
    ):
        wait_until(lambda: len(open_associations(ledger)) == 3)
        for position, number in enumerate(numbers):
            if position % 3 == 2:
                answer = third.store(scanner.ct_slice(number), ImplicitVRLittleEndian)
            else:
                answer = (first, second)[position % 3].store(scanner.ct_slice(number))
            assert answer.status == 0x0000
    assert len(stored(settings)) == len(instances(ledger)) == 24
    assert len({row["association_id"] for row in instances(ledger)}) == 3


# --- independent senders ---------------------------------------------------------------------


@one_database
@pytest.mark.parametrize("send", ["storescu", "dcmsend"])
def test_dcmtk_sends_what_it_has(port, settings, tmp_path, send):
    require(send)
    folder = tmp_path / "to-send"
    folder.mkdir()
    for name in ("CT_small.dcm", "MR_small_RLE.dcm", "SC_rgb_jpeg_gdcm.dcm", "JPEG2000.dcm"):
        (folder / name).write_bytes((FILES / name).read_bytes())
    if send == "storescu":  # proposes one compressed syntax, so one file at a time
        for name, syntax in (
            ("CT_small.dcm", "-xe"),
            ("MR_small_RLE.dcm", "-xr"),
            ("SC_rgb_jpeg_gdcm.dcm", "-xs"),
            ("JPEG2000.dcm", "-xw"),
        ):
            finished = dcmtk.storescu(port, [folder / name], syntax)
            assert finished.returncode == 0, finished.stderr
    else:
        finished = dcmtk.dcmsend(port, [folder])
        assert finished.returncode == 0, finished.stderr
    kept = {
        dcmread(path).SOPInstanceUID: dcmread(path)
        for path in map(Spool(settings.spool_folder).absolute, Spool(settings.spool_folder).files())
    }
    assert len(kept) == 4
    for path in folder.iterdir():
        sent = dcmread(path)
        mine = kept[sent.SOPInstanceUID]
        assert mine.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
        assert mine.PixelData == sent.PixelData


def test_an_instance_without_pixels_is_an_instance(port):
    dataset = Dataset()
    for element in scanner.ct_slice():
        if element.keyword != "PixelData":
            dataset.add(element)
    assert scanner.send(port, [dataset])[0].status == 0x0000
