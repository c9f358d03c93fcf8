"""Mutated PDUs on the live listener: each on a connection of its own, with one of them damaged."""

from __future__ import annotations

import random
import socket
import struct
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.sop_class import Verification

from tests.peers import by_hand, scanner
from tests.torture import survival
from tests.torture.echoes import echoing
from tests.torture.listeners import listeners
from tests.torture.mutate import mutated
from tests.torture.stores import Answers, Request, request_pdus, requests_in
from tests.torture.subject import Figure, Size

if TYPE_CHECKING:
    from pathlib import Path

    from tests.torture.listeners import Listeners

HANG_S = 5.0
AT_ONCE = 8
STRANGE_TYPES = (0, 1, 2, 3, 5, 6, 7, 8, 255)
_CONTEXTS = (
    (str(CTImageStorage), str(ExplicitVRLittleEndian)),
    (str(Verification), str(ImplicitVRLittleEndian)),
)
_FIRST = 5_000_000
_NAME = "1.2.3.4.{}"
_TEMPLATE = scanner.ct_slice()
_TEMPLATE.SOPInstanceUID = _NAME.format(_FIRST)
_DATA_SET = scanner.encode(_TEMPLATE)


def measure(seed: int, size: Size, folder: Path) -> list[Figure]:
    """Send them; some before the clock starts, so that what is pooled is there."""
    count = size.choose(quick=600, submission=20_000, long=1_000_000)
    with listeners(folder / "node") as listening:
        fuzz(listening, count // 10, seed + 1)
        before = listening.use()
        with echoing(listening.port, listening.called_ae) as echoes:
            fuzzed = fuzz(listening, count, seed)
        wrong = fuzzed.answers.judge(listening)
        answered = sum(fuzzed.answers.statuses.values())
        return [
            Figure("mutated PDUs that hung for 5 s", fuzzed.hung, fuzzed.sent, at_most=0),
            Figure("wrong 0x0000", len(wrong), answered, at_most=0, note="; ".join(wrong[:3])),
            *survival.figures(listening, before, echoes),
        ]


@dataclass
class Fuzzed:
    """What came of many mutated PDUs.

    Attributes:
        sent: How many.
        ends: How the connections ended, in words.
        hung: How many connections were neither answered nor closed within ``HANG_S``.
    """

    answers: Answers = field(default_factory=Answers)
    ends: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    hung: int = 0


def fuzz(listening: Listeners, count: int, seed: int) -> Fuzzed:
    """Send ``count`` mutated PDUs; case n of a seed is always the same."""
    fuzzed = Fuzzed()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for end, sent, replies in pool.map(
            lambda number: _one(listening.port, listening.called_ae, number, seed), range(count)
        ):
            fuzzed.sent += 1
            fuzzed.ends[end] += 1
            fuzzed.hung += end == "hung"
            left = requests_in(sent)
            for message_id, status in replies:
                match = next((one for one in left if one.message_id == message_id), None)
                if match is not None:
                    left.remove(match)
                fuzzed.answers.add(status, match, str(ExplicitVRLittleEndian))
    return fuzzed


def _one(
    port: int, called_ae: str, number: int, seed: int
) -> tuple[str, bytes, list[tuple[int, int]]]:
    """Run one connection; how it ended, what was sent as P-DATA, (message ID, status) of answers.

    The sending side is closed after the last byte: what a wrong length promises never comes, and
    the listener knows.
    """
    rng = random.Random(seed * 1_000_003 + number)
    request = by_hand.request(_CONTEXTS, called_ae=called_ae)
    with socket.create_connection(("127.0.0.1", port), timeout=HANG_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = b""
        try:
            if number % 3 == 0:
                connection.sendall(mutated(rng, request))
            else:
                connection.sendall(request)
                if by_hand.pdu(connection)[:1] != bytes([by_hand.ASSOCIATE_AC]):
                    return "rejected", b"", []
                stream = _damaged(rng, _conversation(number))
                connection.sendall(stream)
            connection.shutdown(socket.SHUT_WR)
            return _read_to_the_end(connection, stream)
        except TimeoutError:
            return "hung", stream, []
        except OSError:  # also of the shutdown, where the listener was faster
            return "reset", stream, []


def _read_to_the_end(
    connection: socket.socket, stream: bytes
) -> tuple[str, bytes, list[tuple[int, int]]]:
    end, replies = "closed", []
    while answer := by_hand.pdu(connection):
        end = f"PDU type {answer[0]}"
        if by_hand.number_in(answer, 0x0100) == by_hand.C_STORE_RSP:
            message_id, status = (by_hand.number_in(answer, element) for element in (0x120, 0x900))
            replies.append((message_id or 0, -1 if status is None else status))
    return end, stream, replies


def _conversation(number: int) -> list[bytes]:
    """Return what would be a C-STORE, and the end of its association."""
    uid = _NAME.format(_FIRST + number)
    data_set = _DATA_SET.replace(_NAME.format(_FIRST).encode(), uid.encode())
    pdus = request_pdus(Request(7, uid, data_set), str(CTImageStorage), piece_bytes=400)
    return [*pdus, by_hand.header(by_hand.RELEASE_RQ) + bytes(4)]


def _damaged(rng: random.Random, pdus: list[bytes]) -> bytes:
    """Return a conversation in which one PDU is changed, lost, doubled, moved or foreign."""
    at = rng.randrange(len(pdus))
    one = pdus[at]
    match rng.randrange(8):
        case 0:
            pdus[at : at + 1] = []
        case 1:
            pdus[at : at + 1] = [one, one]
        case 2:
            pdus.insert(rng.randrange(len(pdus)), pdus.pop(at))
        case 3:
            pdus[at] = bytes([rng.choice(STRANGE_TYPES)]) + one[1:]
        case 4:
            foreign = struct.pack(">BxL", rng.choice(STRANGE_TYPES), rng.choice((0, 4, 68)))
            pdus.insert(at, foreign + bytes(rng.choice((0, 4, 68))))
        case _:
            pdus[at] = mutated(rng, one)
    return b"".join(pdus)
