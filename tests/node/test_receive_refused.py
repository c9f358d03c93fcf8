"""What a C-STORE may not be: refused with its status and a comment, and nothing of it is kept."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom.data
import pytest
from pydicom import dcmread
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
)
from pynetdicom.dsutils import split_dataset

from node.spool import Spool
from tests.node.receiving import conflicts, instances, listening, parts, stored
from tests.node.test_gate import nested
from tests.peers import scanner, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.settings import Settings
    from node.store.ledger import Ledger

pytestmark = [
    pytest.mark.parametrize("database", ["sqlite"], indirect=True),
    pytest.mark.filterwarnings("ignore:Invalid value for VR UI", "ignore:The value length"),
]

FILES = Path(pydicom.data.__file__).parent / "test_files"


@pytest.fixture
def port(settings: Settings, ledger: Ledger) -> Iterator[int]:
    with listening(settings, ledger) as port:
        yield port


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


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_refused_with_its_status_and_leaves_nothing(port, settings, ledger, case):
    encoded, claims, status = REFUSED[case]
    answer = scanner.send_bytes(port, encoded, **claims)
    assert answer.status == status
    assert 0 < len(answer.comment) <= 64
    assert "Phantom" not in answer.comment
    assert [instances(ledger), conflicts(ledger), [*parts(settings)]] == [[], [], []]
    assert stored(settings) == {}
    assert scanner.send(port, [SLICE])[0].status == 0x0000


def test_no_uid_becomes_a_path(port, settings, tmp_path):
    before = sorted(path for path in tmp_path.rglob("*") if settings.data not in path.parents)
    for evil in ("../../evil", "/tmp/evil", "..", "1.2/../../evil", "a" * 64, "1.2.3\\..\\evil"):
        dataset = scanner.ct_slice()
        tag = b"\x08\x00\x18\x00UI" + len(evil + " " * (len(evil) % 2)).to_bytes(2, "little")
        encoded = scanner.encode(dataset)
        start = encoded.index(b"\x08\x00\x18\x00UI")
        end = start + 8 + int.from_bytes(encoded[start + 6 : start + 8], "little")
        encoded = encoded[:start] + tag + evil.encode() + b" " * (len(evil) % 2) + encoded[end:]
        assert scanner.send_bytes(port, encoded, sop_instance_uid=evil).status == 0xC003
        assert scanner.send_bytes(port, encoded).status == 0xC003
    after = sorted(path for path in tmp_path.rglob("*") if settings.data not in path.parents)
    assert before == after
    assert stored(settings) == {}


def test_a_request_without_a_legal_command_ends_the_association(port, settings):
    for command in (
        scanner.command_set({0x0100: 1, 0x0110: 1, 0x0700: 0, 0x0800: 1}),  # no UIDs
        scanner.store_command(str(CTImageStorage), "1." + "2" * 70),
    ):
        with scanner.associate(port) as ct1:
            context_id = ct1.accepted[str(CTImageStorage), ExplicitVRLittleEndian]
            ct1.send_pdv(context_id, 3, command)
            with suppress(ConnectionError):  # it may have ended already
                ct1.send_pdv(context_id, 2, scanner.encode(SLICE))
            assert ct1.answer().status is None
    wait_until(lambda: parts(settings) == [])
    assert stored(settings) == {}
    assert scanner.send(port, [SLICE])[0].status == 0x0000


def test_a_data_set_under_a_context_that_was_not_accepted_is_never_taken(port, settings):
    with scanner.associate(port) as ct1:
        ct1.send_pdv(77, 3, scanner.store_command(str(CTImageStorage), "1.2.3.4.1"))
        assert ct1.answer().status is None
    assert stored(settings) == {}


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
        assert scanner.send_bytes(port, encoded, **claims).status == 0x0000
    (path,) = map(Spool(settings.spool_folder).absolute, Spool(settings.spool_folder).files())
    assert path.read_bytes().endswith(encoded)
    assert dcmread(path) == dataset
