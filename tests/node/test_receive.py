"""C-STORE answers Success for what is durable and indexed, and only for that. Real sockets."""

from __future__ import annotations

import hashlib
import random
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom.data
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
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
    listening,
    open_associations,
    parts,
    stored,
)
from tests.node.test_gate import nested
from tests.peers import dcmtk, require, scanner, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.settings import Settings
    from node.store.ledger import Ledger

CT_EXPLICIT = (CTImageStorage, ExplicitVRLittleEndian)
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


def store(
    port: int,
    encoded: bytes,
    *,
    sop_class_uid: str = str(CTImageStorage),
    sop_instance_uid: str = "1.2.3.4.1",
    context_class: str = str(CTImageStorage),
    transfer_syntax: str = ExplicitVRLittleEndian,
) -> scanner.Answer:
    """Send bytes on an association of their own, as a CT instance if not told otherwise."""
    with scanner.associate(port, [(context_class, transfer_syntax)]) as ct1:
        return ct1.store_bytes(
            encoded,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            context_class=context_class,
            transfer_syntax=transfer_syntax,
        )


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
    answer = store(
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
    other_site.ManufacturerModelName = "radnode"
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
INSERT INTO job (id, study_uid, series_uid, revision, pipeline, pipeline_version, model_sha256,
    parameters, input_digest, send_to, priority, deadline_s, state, attempts, next_attempt_at,
    planned_at)
VALUES ('job', '1.2.3', '1.2.3.4', 1, 'p', '1', '', '', '', '', 5, 1, 'completed', 1, 0, 0)
"""


# --- what is refused, and how ----------------------------------------------------------------

SLICE = scanner.ct_slice()


def without(keyword: str) -> bytes:
    dataset = scanner.ct_slice()
    del dataset[keyword]
    return scanner.encode(dataset)


REFUSED = {
    "no SOP Instance UID": (without("SOPInstanceUID"), {}, 0xC003),
    "no SOP Class UID": (without("SOPClassUID"), {}, 0xC002),
    "no Study Instance UID": (without("StudyInstanceUID"), {}, 0xC004),
    "no Series Instance UID": (without("SeriesInstanceUID"), {}, 0xC005),
    "another instance than announced": (
        scanner.encode(SLICE), {"sop_instance_uid": "1.2.3.4.2"}, 0xC006,
    ),
    "a path for a UID": (
        scanner.encode(SLICE), {"sop_instance_uid": "../../../../tmp/evil"}, 0xC003,
    ),
    "a UID with a leading zero": (
        scanner.encode(SLICE), {"sop_instance_uid": "1.02.3"}, 0xC003,
    ),
    "another class than announced": (
        scanner.encode(SLICE),
        {"sop_class_uid": str(MRImageStorage), "context_class": str(MRImageStorage)},
        0xA900,
    ),
    "another class than the context's": (
        scanner.encode(SLICE), {"sop_class_uid": str(MRImageStorage)}, 0xA900,
    ),
    "C-STORE of the verification class": (
        scanner.encode(SLICE), {"sop_class_uid": "1.2.840.10008.1.1"}, 0xA900,
    ),
    "no data set at all": (b"", {}, 0xC002),
    "not a data set": (b"<xml>" * 20, {}, 0xC020),
    "cut short": (scanner.encode(SLICE)[:-100], {}, 0xC020),
    "another transfer syntax than negotiated": (
        scanner.encode(SLICE, ExplicitVRBigEndian), {}, 0xC020,
    ),
    "400 nested sequences": (
        nested(400, defined=False), {"transfer_syntax": str(ImplicitVRLittleEndian)}, 0xC020,
    ),
}  # fmt: skip


@one_database
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_refused_with_its_status_and_leaves_nothing(port, settings, ledger, case):
    encoded, claims, status = REFUSED[case]
    answer = store(port, encoded, **claims)
    assert answer.status == status
    assert 0 < len(answer.comment) <= 64
    assert "Phantom" not in answer.comment
    assert [instances(ledger), conflicts(ledger), [*parts(settings)]] == [[], [], []]
    assert stored(settings) == {}
    assert scanner.send(port, [SLICE])[0].status == 0x0000


@one_database
def test_no_uid_becomes_a_path(port, settings, tmp_path):
    before = sorted(path for path in tmp_path.rglob("*") if settings.data not in path.parents)
    for evil in ("../../evil", "/tmp/evil", "..", "1.2/../../evil", "a" * 64, "1.2.3\\..\\evil"):
        dataset = scanner.ct_slice()
        tag = b"\x08\x00\x18\x00UI" + len(evil + " " * (len(evil) % 2)).to_bytes(2, "little")
        encoded = scanner.encode(dataset)
        start = encoded.index(b"\x08\x00\x18\x00UI")
        end = start + 8 + int.from_bytes(encoded[start + 6 : start + 8], "little")
        encoded = encoded[:start] + tag + evil.encode() + b" " * (len(evil) % 2) + encoded[end:]
        assert store(port, encoded, sop_instance_uid=evil).status == 0xC003
        assert store(port, encoded).status == 0xC003
    after = sorted(path for path in tmp_path.rglob("*") if settings.data not in path.parents)
    assert before == after
    assert stored(settings) == {}


@one_database
def test_a_request_without_a_legal_command_ends_the_association(port, settings):
    for command in (
        scanner.command_set({0x0100: 1, 0x0110: 1, 0x0700: 0, 0x0800: 1}),  # no UIDs
        scanner.store_command(str(CTImageStorage), "1." + "2" * 70),
    ):
        with scanner.associate(port) as ct1:
            context_id = ct1.accepted[str(CTImageStorage), ExplicitVRLittleEndian]
            ct1.send_pdv(context_id, 3, command)
            ct1.send_pdv(context_id, 2, scanner.encode(SLICE))
            assert ct1.answer().status is None
    wait_until(lambda: parts(settings) == [])
    assert stored(settings) == {}
    assert scanner.send(port, [SLICE])[0].status == 0x0000


@one_database
def test_a_data_set_under_a_context_that_was_not_accepted_is_never_taken(port, settings):
    with scanner.associate(port) as ct1:
        ct1.send_pdv(77, 3, scanner.store_command(str(CTImageStorage), "1.2.3.4.1"))
        assert ct1.answer().status is None
    assert stored(settings) == {}


@one_database
def test_messages_that_would_be_held_in_memory_have_a_limit(port):
    def pour(ct1: scanner.Scanner, context_id: int) -> None:
        for _ in range(2000):
            ct1.send_pdv(context_id, 0, b"\0" * 65_536)

    with scanner.associate(port) as ct1:
        context_id = ct1.accepted[str(CTImageStorage), ExplicitVRLittleEndian]
        find = scanner.command_set({0x0002: "1.2", 0x0100: 0x0020, 0x0110: 1, 0x0800: 1})
        ct1.send_pdv(context_id, 3, find)
        with pytest.raises(ConnectionError):
            pour(ct1, context_id)
    assert scanner.send(port, [SLICE])[0].status == 0x0000


@one_database
@pytest.mark.parametrize("accept", [False, True])
def test_a_deflated_data_set_is_taken_only_where_configured(settings, ledger, accept):
    listen = settings.listen.model_copy(update={"accept_deflated": accept})
    configured = settings.model_copy(update={"listen": listen})
    name = FILES / "image_dfl.dcm"
    _, offset = split_dataset(name)
    encoded, dataset = name.read_bytes()[offset:], dcmread(name)
    context = (str(dataset.SOPClassUID), DeflatedExplicitVRLittleEndian)
    with listening(configured, ledger) as port:
        if not accept:
            with pytest.raises(scanner.Rejected):  # no context is left
                scanner.associate(port, [context]).__enter__()
            return
        claims = {
            "sop_class_uid": context[0],
            "context_class": context[0],
            "sop_instance_uid": str(dataset.SOPInstanceUID),
            "transfer_syntax": context[1],
        }
        assert store(port, encoded, **claims).status == 0x0000
    (path,) = map(Spool(settings.spool_folder).absolute, Spool(settings.spool_folder).files())
    assert path.read_bytes().endswith(encoded)
    assert dcmread(path) == dataset


# --- when something fails here ---------------------------------------------------------------


@one_database
def test_below_the_watermark_new_associations_are_put_off(settings, ledger):
    spool = settings.spool.model_copy(update={"minimum_free_bytes": 1 << 60})
    with listening(settings.model_copy(update={"spool": spool}), ledger) as port:
        with pytest.raises(scanner.Rejected) as rejected:
            scanner.send(port, [SLICE])
        assert rejected.value.why == (2, 3, 1)  # transient, temporary congestion


@one_database
def test_below_the_watermark_an_open_association_gets_out_of_resources(port, settings, monkeypatch):
    with scanner.associate(port) as ct1:
        assert ct1.store(scanner.ct_slice(1)).status == 0x0000
        monkeypatch.setattr(Spool, "has_room", lambda *_: False)
        answer = ct1.store(scanner.ct_slice(2))
        assert answer.status == 0xA700
        assert answer.comment == "The disk of the receiver is full. Try again later."
        monkeypatch.undo()
        assert ct1.store(scanner.ct_slice(2)).status == 0x0000
    assert len(stored(settings)) == 2
    assert parts(settings) == []


def test_without_a_ledger_nothing_is_acknowledged(port, settings, ledger):
    with ledger.write() as db:
        db.execute(text("ALTER TABLE conflict RENAME TO mislaid"))
        db.execute(text("ALTER TABLE instance RENAME TO conflict"))
    answer = scanner.send(port, [SLICE])[0]
    assert answer.status == 0xA700
    assert answer.comment == "The receiver's database does not answer. Try again later."
    with ledger.write() as db:
        db.execute(text("ALTER TABLE conflict RENAME TO instance"))
        db.execute(text("ALTER TABLE mislaid RENAME TO conflict"))
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
