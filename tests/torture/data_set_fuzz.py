"""Mutated data sets on the gate: whole C-STOREs, by the letter, of what is damaged inside."""

from __future__ import annotations

import random
import socket
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import UID

from tests.peers import by_hand, scanner
from tests.torture import survival
from tests.torture.echoes import echoing
from tests.torture.listeners import listeners
from tests.torture.mutate import mutated
from tests.torture.stores import Answers, Request, request_pdus
from tests.torture.subject import Figure, Size

if TYPE_CHECKING:
    from tests.torture.listeners import Listeners

HANG_S = 5.0
AT_ONCE = 8
SOURCES = (
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "693_J2KI.dcm",
    "liver_1frame.dcm",
    "test-SR.dcm",
    "rtplan.dcm",
    "image_dfl.dcm",
    "rtdose_rle_1frame.dcm",
    "SC_rgb_small_odd.dcm",
    "SC_rgb_rle_16bit_2frame.dcm",
    "reportsi.dcm",
)
"""Of pydicom's own files: both VRs, both byte orders, deflated, encapsulated, deep sequences."""

_NAME = "1.2.3.4.{}"
_FIRST = 5_000_000


def measure(seed: int, size: Size, folder: Path) -> list[Figure]:
    """Send them; some before the clock starts, so that what is pooled is there."""
    count = size.choose(quick=600, submission=10_000, long=2_000_000)
    with listeners(folder / "node", accept_deflated=True) as listening:
        fuzz(listening, count // 10, seed + 1)
        before = listening.use()
        with echoing(listening.port, listening.called_ae) as echoes:
            fuzzed = fuzz(listening, count, seed)
        wrong = fuzzed.answers.judge(listening)
        accepted = fuzzed.answers.statuses[0x0000]
        return [
            Figure("mutated data sets that hung for 5 s", fuzzed.hung, fuzzed.sent, at_most=0),
            Figure("associations that ended unanswered", fuzzed.ended, fuzzed.sent, at_most=0),
            Figure("wrong 0x0000", len(wrong), accepted, at_most=0, note="; ".join(wrong[:3])),
            *survival.figures(listening, before, echoes),
        ]


@dataclass(frozen=True)
class Base:
    """A sound data set, as the encoded elements that follow one another."""

    sop_class_uid: str
    transfer_syntax: str
    context_id: int
    elements: tuple[bytes, ...]


@dataclass
class Fuzzed:
    """What came of many mutated data sets.

    Attributes:
        ended: How many associations ended instead of answering.
        hung: How many requests had no answer after ``HANG_S``.
        slowest_s: Until the last answer that came.
    """

    answers: Answers = field(default_factory=Answers)
    sent: int = 0
    ended: int = 0
    hung: int = 0
    slowest_s: float = 0.0


@cache
def bases() -> tuple[Base, ...]:
    """Return what is damaged, each under the context ID of its place."""
    made = []
    for number, name in enumerate(SOURCES):
        source = dcmread(Path(str(get_testdata_file(name))))
        source.SOPInstanceUID = _NAME.format(_FIRST)
        syntax = str(source.file_meta.TransferSyntaxUID)
        elements = []
        for element in source:
            alone = Dataset()
            alone.add(element)
            elements.append(scanner.encode(alone, syntax))
        made.append(Base(str(source.SOPClassUID), syntax, 2 * number + 1, tuple(elements)))
    return tuple(made)


def fuzz(listening: Listeners, count: int, seed: int) -> Fuzzed:
    """Send ``count`` mutated data sets; case n of a seed is always the same."""
    shares = [range(start, count, AT_ONCE) for start in range(AT_ONCE)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        parts = list(pool.map(lambda share: _share(listening, share, seed), shares))
    whole = Fuzzed()
    for part in parts:
        whole.answers.statuses.update(part.answers.statuses)
        whole.answers.successes.update(part.answers.successes)
        whole.answers.wrong += part.answers.wrong
        whole.sent += part.sent
        whole.ended += part.ended
        whole.hung += part.hung
        whole.slowest_s = max(whole.slowest_s, part.slowest_s)
    return whole


def _share(listening: Listeners, numbers: range, seed: int) -> Fuzzed:
    fuzzed = Fuzzed()
    connection = _open(listening)
    for number in numbers:
        rng = random.Random(seed * 1_000_003 + number)
        base = rng.choice(bases())
        uid = _NAME.format(_FIRST + number)
        data_set = damaged(rng, base, uid)
        sent = Request(number & 0xFFFF, uid, data_set)
        pdus = request_pdus(sent, base.sop_class_uid, context_id=base.context_id)
        began = time.perf_counter()
        fuzzed.sent += 1
        answer = b""
        try:
            connection.sendall(b"".join(pdus))
            answer = by_hand.pdu(connection)
        except TimeoutError:
            fuzzed.hung += 1
        except OSError:
            pass
        status = by_hand.number_in(answer, 0x0900)
        fuzzed.answers.add(status, sent, base.transfer_syntax)
        fuzzed.slowest_s = max(fuzzed.slowest_s, time.perf_counter() - began)
        if status is None:
            fuzzed.ended += 1
            connection.close()
            connection = _open(listening)
    connection.close()
    return fuzzed


def damaged(rng: random.Random, base: Base, uid: str) -> bytes:
    """Return the data set of an instance of its own with damage: to bytes, or to its structure."""
    elements = list(base.elements)
    at = rng.randrange(len(elements))
    one = elements[at]
    match rng.randrange(6):
        case 0:
            elements[at : at + 1] = []
        case 1:
            elements.insert(rng.randrange(len(elements)), one)
        case 2:
            elements.insert(rng.randrange(len(elements)), elements.pop(at))
        case 3:
            elements[at] = mutated(rng, one)
    damaged = b"".join(elements).replace(_NAME.format(_FIRST).encode(), uid.encode())
    whole = rng.randrange(2) == 0
    if not UID(base.transfer_syntax).is_deflated:
        return mutated(rng, damaged) if whole else damaged
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = deflater.compress(damaged) + deflater.flush()
    return mutated(rng, deflated) if whole else deflated


def _open(listening: Listeners) -> socket.socket:
    contexts = [(base.sop_class_uid, base.transfer_syntax) for base in bases()]
    connection = socket.create_connection(("127.0.0.1", listening.port), timeout=HANG_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(by_hand.request(contexts, called_ae=listening.called_ae))
    if by_hand.pdu(connection)[:1] != bytes([by_hand.ASSOCIATE_AC]):
        raise ConnectionError("No association")
    return connection
