"""A listener under fire, a little of it; and instruments that are not blind."""

from __future__ import annotations

import hashlib
import random
import socket
from typing import TYPE_CHECKING

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from tests.peers import by_hand, scanner
from tests.torture import aborts, data_set_fuzz, fsync_order, hostile_names, pdu_fuzz, trace
from tests.torture.echoes import echo_s
from tests.torture.listeners import listeners
from tests.torture.mutate import mutated
from tests.torture.stores import Answers, Request, identifiers, request_pdus, requests_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.torture.listeners import Listeners

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI", "ignore:The value length")

SYNTAX = str(ExplicitVRLittleEndian)
SLICE = scanner.encode(scanner.ct_slice())


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listeners]:
    folder = tmp_path_factory.mktemp("hostile") / "node"
    with listeners(folder, processes=1, accept_deflated=True) as running:
        yield running
        assert running.dead() == 0
        assert running.damaged() == []
        assert running.left() == []


def test_damaged_pdus_end_their_association_and_are_never_a_wrong_success(listening: Listeners):
    fuzzed = pdu_fuzz.fuzz(listening, 150, seed=1)
    assert fuzzed.hung == 0
    assert fuzzed.answers.judge(listening) == []


def test_damaged_data_sets_are_answered_and_never_a_wrong_success(listening: Listeners):
    fuzzed = data_set_fuzz.fuzz(listening, 150, seed=1)
    assert (fuzzed.hung, fuzzed.ended) == (0, 0)
    assert fuzzed.answers.statuses[0x0000] > 0
    assert fuzzed.answers.judge(listening) == []


def test_what_was_acknowledged_before_an_association_broke_off_stays(listening: Listeners):
    sent = [aborts._modality(listening, 20, 1, number) for number in range(3)]
    assert sum(one.aborted for one in sent) > 0
    acknowledged = [digest for one in sent for digest in one.acknowledged]
    assert len(acknowledged) == 60
    assert listening.lost(acknowledged) == []


@pytest.mark.parametrize("place", hostile_names.PLACES)
def test_a_name_that_wants_to_be_a_path_is_a_name(listening: Listeners, place: str):
    answers = Answers()
    hostile_names._say(listening, hostile_names.PLACES.index(place), place, "../../evil", answers)
    assert answers.judge(listening) == []
    home = listening.settings.data.parent
    assert [path for path in home.parent.rglob("*") if hostile_names.MARK in path.name] == []


@pytest.mark.parametrize("contexts", [128, 1_000, 10_000])
def test_a_request_of_ten_thousand_contexts_keeps_nobody_waiting(
    listening: Listeners, contexts: int
):
    """D9: there are 128 legal IDs; what says more has some of them twice."""
    context = (str(CTImageStorage), SYNTAX)
    one = by_hand.request([context], called_ae=listening.called_ae)
    two = by_hand.request([context, context], called_ae=listening.called_ae)
    item_bytes = len(two) - len(one)
    at = one.index(b"\x20\x00", 74)
    body = one[6:at] + one[at : at + item_bytes] * contexts + one[at + item_bytes :]
    with socket.create_connection(("127.0.0.1", listening.port), timeout=10.0) as connection:
        try:
            connection.sendall(by_hand.header(1, len(body)) + body)
            answer = by_hand.pdu(connection)
        except ConnectionError:  # it was cut before all was said
            answer = b""
    assert answer[:1] in (b"", bytes([by_hand.ASSOCIATE_AC]), b"\x03", bytes([by_hand.ABORT]))
    echo_s(listening.port, listening.called_ae)  # raises unless it is answered


# --- instruments -----------------------------------------------------------------------------


def test_a_success_for_what_is_not_kept_or_was_no_request_is_seen(listening: Listeners):
    answers = Answers()
    answers.add(0x0000, Request(1, "1.2.3", b"never sent"), SYNTAX)
    answers.add(0x0000, None, SYNTAX)
    answers.add(0xC020, None, SYNTAX)
    assert len(answers.judge(listening)) == 2


def test_pydicom_reads_the_identifiers_whatever_the_character_set_says():
    wanted = (CTImageStorage, "1.2.3.4.1", "1.2.3", "1.2.3.4")
    assert identifiers(SLICE, SYNTAX) == wanted
    damaged = b"\x08\x00\x05\x00CS\x06\x00evil\0x" + SLICE
    assert identifiers(damaged, SYNTAX) == wanted


def test_requests_are_read_by_the_letter_up_to_the_first_mistake():
    sent = Request(7, "1.2.3.4.1", SLICE)
    pdus = request_pdus(sent, CTImageStorage, piece_bytes=400)
    assert requests_in(b"".join(pdus)) == [sent]
    assert requests_in(b"".join([*pdus, *pdus])) == [sent, sent]
    assert requests_in(b"".join(pdus[:-1])) == []
    longer = pdus[0][:9] + bytes([pdus[0][9] + 1]) + pdus[0][10:]
    assert requests_in(b"".join([longer, *pdus[1:]])) == []


def test_damage_is_done_and_is_the_same_for_the_same_seed():
    damaged = [mutated(random.Random(seed), SLICE) for seed in range(100)]
    assert SLICE not in damaged
    assert damaged == [mutated(random.Random(seed), SLICE) for seed in range(100)]
    assert len(set(damaged)) > 90


DIGEST = hashlib.sha256(b"an instance").hexdigest()
PART, FOLDER = "/spool/tmp/1.part", f"/spool/{DIGEST[:2]}"
STEPS = (
    'write(7<{part}>, "{bytes}", 4) = 4',
    "fsync(7<{part}>) = 0",
    'rename("{part_text}", "{kept_text}") = 0',
    "fsync(8<{folder}>) = 0",
    'pwrite64(9</data/ledger.sqlite-wal>, "{bytes}", 4, 0) = 4',
    'sendto(5<TCP:[127.0.0.1:104->127.0.0.1:4000]>, "{answer}", 90, 0, NULL, 0) = 90',
)


def escaped(text: str | bytes) -> str:
    return "".join(f"\\x{one:02x}" for one in (text.encode() if isinstance(text, str) else text))


def steps() -> list[str]:
    return [
        "12 "
        + step.format(
            part=escaped(PART),
            folder=escaped(FOLDER),
            bytes=escaped(b"data"),
            part_text=escaped(PART),
            kept_text=escaped(f"{FOLDER}/{DIGEST}.dcm"),
            answer=escaped(by_hand.response(1)),
        )
        for step in STEPS
    ]


def violations(lines: list[str], output: Path) -> list[str]:
    output.write_text("\n".join(lines) + "\n")
    return fsync_order.violations(trace.read(output), [fsync_order.Stored(DIGEST, 4000, 0)])


def test_the_right_order_of_system_calls_is_no_violation(tmp_path: Path):
    assert violations(steps(), tmp_path / "trace") == []


@pytest.mark.parametrize("first", range(len(STEPS) - 1))
def test_two_steps_in_the_wrong_order_are_seen(tmp_path: Path, first: int):
    lines = steps()
    lines[first : first + 2] = reversed(lines[first : first + 2])
    assert violations(lines, tmp_path / "trace")


def test_a_step_that_has_begun_but_not_ended_is_not_done(tmp_path: Path):
    lines = steps()
    lines[1:2] = [lines[1].replace(") = 0", " <unfinished ...>")]
    lines.insert(4, "12 <... fsync resumed>) = 0")
    assert violations(lines, tmp_path / "trace")


def test_an_fsync_that_failed_is_none(tmp_path: Path):
    lines = steps()
    lines[1] = lines[1].replace("= 0", "= -1 EIO (Input/output error)")
    assert violations(lines, tmp_path / "trace")


def test_files_that_are_made_or_changed_are_seen_and_those_that_are_read_are_not(tmp_path: Path):
    output = tmp_path / "trace"
    output.write_text(
        f'1 openat(AT_FDCWD, "{escaped("/etc/hosts")}", O_RDONLY|O_CLOEXEC) = 3\n'
        f'1 openat(AT_FDCWD, "{escaped("/tmp/evil")}", O_WRONLY|O_CREAT, 0666) = 3\n'
        f'1 unlink("{escaped("/tmp/old")}") = 0\n'
    )
    assert hostile_names.touched(trace.read(output)) == ["/tmp/evil", "/tmp/old"]
