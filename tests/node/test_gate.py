"""The gate tells what a data set is, or refuses it; it never crashes, hangs or reads pixels."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pydicom.data
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)
from pynetdicom.dsutils import split_dataset

from node.dimse import elements, gate
from node.dimse.receive import answer_to
from node.domain import Role
from node.encode.identity import MANUFACTURER
from node.errors import RejectedInstance
from node.profiles import SOP_CLASSES
from node.spool import Spool
from tests.peers import scanner

if TYPE_CHECKING:
    from collections.abc import Callable

KNOWN_BAD = {"SC_rgb_jpeg.dcm"}  # states explicit VR, is implicit inside
PYDICOM_FILES = sorted((Path(pydicom.data.__file__).parent / "test_files").glob("*.dcm"))
CT = str(scanner.ct_slice().SOPClassUID)


@pytest.fixture
def identify(tmp_path: Path) -> Callable[..., gate.Identity]:
    return lambda encoded, syntax=ExplicitVRLittleEndian: identity_of(tmp_path, encoded, syntax)


def identity_of(folder: Path, encoded: bytes, syntax: str) -> gate.Identity:
    path = folder / "received"
    path.write_bytes(b"header" + encoded)
    return gate.identify(path, 6, syntax, Spool(folder / "spool"))


def rejection_of(identify: Callable[..., gate.Identity], *arguments: object) -> RejectedInstance:
    with pytest.raises(RejectedInstance) as refused:
        identify(*arguments)
    assert len(f"{refused.value.what} {refused.value.do}") <= 64
    return refused.value


def nested(depth: int, *, defined: bool) -> bytes:
    """A CT slice with sequences ``depth`` deep in front of its UIDs, in implicit VR."""
    inner = b""
    for _ in range(depth if defined else 0):
        item = struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner
        inner = struct.pack("<HHL", 0x0008, 0x1140, len(item)) + item
    if not defined:
        opened = struct.pack("<HHL", 8, 0x1140, 0xFFFFFFFF) + struct.pack(
            "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
        )
        closed = struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
        inner = opened * depth + closed * depth
    return inner + scanner.encode(scanner.ct_slice(), ImplicitVRLittleEndian)


# --- what it reads ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
)
@pytest.mark.parametrize("undefined", [False, True])
def test_it_reads_who_an_instance_is_in_every_encoding(identify, syntax, undefined):
    dataset = scanner.ct_slice(7)
    referenced = Dataset()
    referenced.SOPInstanceUID = "9.9.9"  # not this instance's
    referenced.StudyInstanceUID = "9.9"
    dataset.ReferencedImageSequence = [referenced, Dataset(), referenced]
    dataset["ReferencedImageSequence"].is_undefined_length = undefined
    referenced.is_undefined_length_sequence_item = undefined
    identity = identify(scanner.encode(dataset, syntax), syntax)
    assert identity == gate.Identity(CT, "1.2.3.4.7", "1.2.3", "1.2.3.4", "CT", made_here=False)


def test_it_reads_encapsulated_pixel_data(identify):
    dataset = scanner.ct_slice()
    dataset.PixelData = encapsulate([b"\xff\xd8 one", b"\xff\xd8 two!"])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    assert identify(scanner.encode(dataset), JPEGBaseline8Bit).sop_instance_uid == "1.2.3.4.1"


def test_it_reads_a_deflated_data_set(identify):
    deflater = zlib.compressobj(wbits=-15)
    deflated = deflater.compress(scanner.encode(scanner.ct_slice())) + deflater.flush()
    padded = deflated + b"\0" * (len(deflated) % 2)
    assert identify(padded, DeflatedExplicitVRLittleEndian).study_uid == "1.2.3"


def test_a_sequence_of_unknown_vr_is_implicit_inside(identify):
    inner = scanner.encode(Dataset(), ImplicitVRLittleEndian)
    unknown = struct.pack("<HH2sHL", 0x0009, 0x1010, b"UN", 0, 0xFFFFFFFF)
    item = struct.pack("<HHLHHL4s", 0xFFFE, 0xE000, 12, 9, 0x1011, 4, b"abcd") + inner
    end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    encoded = scanner.encode(scanner.ct_slice())
    at = encoded.index(struct.pack("<HH", 0x0010, 0x0010))
    assert identify(encoded[:at] + unknown + item + end + encoded[at:]).modality == "CT"


@pytest.mark.parametrize("path", PYDICOM_FILES, ids=lambda path: path.name)
def test_it_agrees_with_pydicom_on_files_of_many_makers(path, tmp_path):
    try:
        meta, offset = split_dataset(path)
        syntax = str(meta.TransferSyntaxUID)
        dataset = dcmread(path)
    except Exception:
        pytest.skip("not a Part 10 file")
    no_study = not (dataset.get("StudyInstanceUID") and dataset.get("SeriesInstanceUID"))
    if no_study or path.name in KNOWN_BAD or "truncated" in path.name:
        rejection_of(gate.identify, path, offset, syntax, Spool(tmp_path))
        return
    identity = gate.identify(path, offset, syntax, Spool(tmp_path))
    assert identity.sop_class_uid == dataset.SOPClassUID
    assert identity.sop_instance_uid == dataset.SOPInstanceUID
    assert identity.study_uid == dataset.StudyInstanceUID
    assert identity.series_uid == dataset.SeriesInstanceUID
    assert identity.modality == dataset.get("Modality", "")


def test_our_own_objects_are_recognised_by_their_maker_and_an_image_is_never_ours(identify):
    assert gate.MANUFACTURER == MANUFACTURER
    made = [(MANUFACTURER, sop_class, True) for sop_class in SOP_CLASSES.values()]
    for maker, sop_class, own in (
        (None, SOP_CLASSES[Role.SEG], False),
        ("Someone", SOP_CLASSES[Role.SR], False),
        (MANUFACTURER, CT, False),
        *made,
    ):
        dataset = scanner.ct_slice()
        dataset.Manufacturer, dataset.SOPClassUID = maker, sop_class
        assert identify(scanner.encode(dataset)).made_here is own


@pytest.mark.parametrize(
    ("maker", "image_type", "own"),
    [
        (MANUFACTURER, ["DERIVED", "SECONDARY", "AXIAL"], True),
        (MANUFACTURER, ["ORIGINAL", "PRIMARY", "AXIAL"], False),
        ("Someone", ["DERIVED", "SECONDARY", "AXIAL"], False),
    ],
)
def test_an_image_that_we_derived_is_recognised_when_an_archive_sends_it_back(
    identify, maker, image_type, own
):
    dataset = scanner.ct_slice()
    dataset.Manufacturer, dataset.ImageType = maker, image_type
    assert identify(scanner.encode(dataset)).made_here is own


def test_a_modality_that_is_no_code_string_is_left_out(identify):
    dataset = scanner.ct_slice()
    dataset.add_new("Modality", "CS", "<b>\r\n")
    assert identify(scanner.encode(dataset)).modality == ""


# --- what it refuses -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keyword", "status"),
    [
        ("SOPClassUID", gate.ILLEGAL_SOP_CLASS_UID),
        ("SOPInstanceUID", gate.ILLEGAL_SOP_INSTANCE_UID),
        ("StudyInstanceUID", gate.ILLEGAL_STUDY_UID),
        ("SeriesInstanceUID", gate.ILLEGAL_SERIES_UID),
    ],
)
@pytest.mark.parametrize(
    "value",
    [None, "", "1", "1..2", "1.02", ".1.2", "1.2.", "1.2.x", "../../../tmp/evil", "1.2" + ".3" * 40,
     "1.2/3", "1.2\n3", " 1.2", "1.2.3\\1.2.4", "1.2\x003"],
)  # fmt: skip
def test_a_missing_or_illegal_uid_is_refused(identify, keyword, value, status):
    dataset = scanner.ct_slice()
    del dataset[keyword]
    encoded = scanner.encode(dataset)
    if value is not None:
        tag = scanner.ct_slice()[keyword].tag
        raw = value.encode() + b"\0" * (len(value) % 2)
        element = struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, b"UI", len(raw)) + raw
        encoded = element + encoded
    assert rejection_of(identify, encoded).status == status


def test_padding_of_a_uid_is_not_part_of_it(identify):
    encoded = scanner.encode(scanner.ct_slice()).replace(b"1.2.3\0", b"1.2.3 ")
    assert identify(encoded).study_uid == "1.2.3"


def test_an_instance_with_two_study_uids_is_refused(identify):
    second = struct.pack("<HH2sH", 0x0020, 0x000D, b"UI", 4) + b"6.6\0"
    encoded = scanner.encode(scanner.ct_slice())
    assert rejection_of(identify, encoded + second).status == gate.MALFORMED


@pytest.mark.parametrize("defined", [False, True])
def test_sequences_may_nest_thirty_two_deep_and_no_deeper(identify, defined):
    assert identify(nested(32, defined=defined), ImplicitVRLittleEndian)
    for depth in (33, 400, 5_000) if defined else (33, 400, 5_000, 100_000):
        refused = rejection_of(identify, nested(depth, defined=defined), ImplicitVRLittleEndian)
        assert (refused.status, refused.what) == (0xC020, "Data set nests too deeply.")


def test_a_multi_frame_instance_of_ten_thousand_frames_passes(identify):
    frame = struct.pack("<HHL", 0xFFFE, 0xE000, 99 * 12)
    frame += b"".join(struct.pack("<HHL4s", 9, 0x1000 + n, 4, b"abcd") for n in range(99))
    per_frame = frame * 10_000
    groups = struct.pack("<HHL", 0x5200, 0x9230, len(per_frame)) + per_frame
    encoded = scanner.encode(scanner.ct_slice(), ImplicitVRLittleEndian)
    assert identify(encoded + groups, ImplicitVRLittleEndian).modality == "CT"


def test_more_elements_than_any_instance_has_are_refused(identify, monkeypatch):
    monkeypatch.setattr(gate, "MAXIMUM_ELEMENTS", 10)
    refused = rejection_of(identify, scanner.encode(scanner.ct_slice()))
    assert refused.what == "Data set has too many elements."


@pytest.mark.parametrize("group", [0x0000, 0x0002])
def test_command_and_file_meta_elements_do_not_belong_in_a_data_set(identify, group):
    stray = struct.pack("<HH2sH", group, 0x0010, b"UI", 4) + b"1.2\0"
    assert rejection_of(identify, stray + scanner.encode(scanner.ct_slice())).status == 0xC020


@pytest.mark.parametrize("encoded", [b"", b"\xff" * 1000, b"\0" * 1000, b"DICM", b"<xml/>" * 9])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_what_is_no_data_set_is_refused(identify, encoded, syntax):
    assert rejection_of(identify, encoded, syntax).status in (0xC002, 0xC020)


def test_a_value_longer_than_the_data_set_is_refused(identify):
    encoded = scanner.encode(scanner.ct_slice())
    claimed = encoded.replace(struct.pack("<L", 512), struct.pack("<L", 0xFFFFFFF0))
    assert claimed != encoded
    assert rejection_of(identify, claimed).what == "Data set has an element that overruns."
    assert rejection_of(identify, encoded[:-1]).status == 0xC020


def header_value(tag: int, vr: bytes, size_bytes: int) -> bytes:
    """One element in explicit VR with a length of four bytes."""
    head = struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr, 0, size_bytes)
    return head + b"A" * size_bytes


@pytest.mark.parametrize(
    ("keyword", "tag"),
    [
        ("ImageType", 0x00080008),
        ("RetrieveURL", 0x00081190),
        ("BodyPartExamined", 0x00180015),
        ("ImagePositionPatient", 0x00200032),
        ("RequestedProcedureDescription", 0x00321060),
    ],
)
@pytest.mark.parametrize("vr", [b"UT", b"UN", b"OB"])
def test_a_value_that_is_routed_by_may_not_be_of_any_size(identify, keyword, tag, vr):
    encoded = scanner.encode(scanner.ct_slice())
    limit = elements.MAXIMUM_HEADER_VALUE
    assert identify(header_value(tag, vr, limit) + encoded).modality == "CT"
    refused = rejection_of(identify, header_value(tag, vr, limit + 2) + encoded)
    assert (refused.status, refused.what) == (0xC020, "Data set has a header value too long.")


@pytest.mark.parametrize("vr", [b"SQ", b"UN", b"OB"])
def test_nor_come_in_items_of_undefined_length(identify, vr):
    opened = struct.pack("<HH2sHL", 0x0008, 0x0008, vr, 0, 0xFFFFFFFF)
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
    closed = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    encoded = opened + item + closed + scanner.encode(scanner.ct_slice())
    assert rejection_of(identify, encoded).what == "Data set has a header value too long."


def test_sequences_and_other_makers_elements_may_be_long(identify):
    dataset = scanner.ct_slice()
    referenced = Dataset()
    referenced.ReferencedSOPInstanceUID = "1.2.3.4.5.6.7.8.9"
    dataset.ReferencedImageSequence = [referenced] * 5_000
    dataset.add_new(0x00091010, "UT", "A" * 100_000)
    dataset.FrameTimeVector = ["33.333"] * 20_000
    for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian):
        assert identify(scanner.encode(dataset, syntax), syntax).modality == "CT"


def test_an_item_may_not_reach_beyond_its_sequence(identify):
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 100)
    sequence = struct.pack("<HHL", 0x0008, 0x1140, len(item)) + item
    encoded = sequence + scanner.encode(scanner.ct_slice(), ImplicitVRLittleEndian)
    assert rejection_of(identify, encoded, ImplicitVRLittleEndian).status == 0xC020


def test_a_deflate_bomb_is_refused_before_it_fills_disk_or_memory(identify, tmp_path):
    deflater = zlib.compressobj(9, wbits=-15)
    bomb = b"".join(deflater.compress(b"\0" * 1_000_000) for _ in range(250)) + deflater.flush()
    before = psutil.Process().memory_info().rss
    refused = rejection_of(identify, bomb, DeflatedExplicitVRLittleEndian)
    assert (refused.status, refused.what) == (0xC020, "Data set inflates without end.")
    assert psutil.Process().memory_info().rss - before < 64_000_000
    assert not list((tmp_path / "spool" / "tmp").iterdir())


@pytest.mark.parametrize("damage", [slice(None, 40), slice(0, 0)])
def test_a_broken_deflated_stream_is_refused(identify, damage):
    deflated = zlib.compress(scanner.encode(scanner.ct_slice()), wbits=-15)[damage]
    assert rejection_of(identify, deflated, DeflatedExplicitVRLittleEndian).status == 0xC020


def test_it_never_reads_pixels(tmp_path):
    size_bytes = 3_000_000_000
    dataset = scanner.ct_slice()
    del dataset.PixelData
    head = scanner.encode(dataset) + struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OW", 0, size_bytes)
    path = tmp_path / "received"
    path.write_bytes(head)
    os.truncate(path, len(head) + size_bytes)  # sparse: the pixels take no disk either
    before = psutil.Process().memory_info().rss
    assert gate.identify(path, 0, ExplicitVRLittleEndian, Spool(tmp_path)).modality == "CT"
    assert psutil.Process().memory_info().rss - before < 50_000_000


# --- and whatever else comes -----------------------------------------------------------------

SEED = scanner.ct_slice()
SEED.ReferencedImageSequence = [Dataset(), Dataset()]
SEED.ReferencedImageSequence[0].ReferencedSOPInstanceUID = "1.2.3.9"
SEED["ReferencedImageSequence"].is_undefined_length = True
SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]


@st.composite
def mutants(draw: st.DrawFn) -> tuple[bytes, str]:
    syntax = draw(st.sampled_from(SYNTAXES))
    encoded = bytearray(scanner.encode(SEED, syntax))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(encoded)))
        kind = draw(st.sampled_from(["set", "insert", "cut", "drop", "repeat"]))
        some = draw(st.binary(min_size=1, max_size=12))
        if kind == "set":
            encoded[at : at + len(some)] = some
        elif kind == "insert":
            encoded[at:at] = some
        elif kind == "cut":
            del encoded[at:]
        elif kind == "drop":
            del encoded[at : at + draw(st.integers(1, 64))]
        else:
            encoded[at:at] = encoded[at : at + 64]
    return bytes(encoded), draw(st.sampled_from([syntax, *SYNTAXES]))


@given(mutants())
@example((scanner.encode(SEED), ExplicitVRLittleEndian))
@settings(
    max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_mutated_data_set_is_identified_or_refused_and_nothing_else(identify, mutant):
    try:
        identity = identify(*mutant)
    except RejectedInstance as rejection:
        refused = rejection
    else:
        assert identity.study_uid
        assert identity.series_uid
        return
    assert refused.status >= 0xA900
    comment = answer_to(refused).comment
    assert comment == f"{refused.what} {refused.do}"
    assert len(comment) <= 64
    assert "Phantom" not in comment
