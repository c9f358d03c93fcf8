"""Success means durable, by the order of system calls, for every instance.

    write ─▶ fsync of the file ─▶ rename ─▶ fsync of its folder ─▶ the ledger's write ─▶ 0x0000

Each step must have ended before the next begins. One fsync of a folder, and one commit, may serve
several instances. Half of the instances come on one association, where nothing else happens
between; half on four at once.
"""

from __future__ import annotations

import hashlib
import random
import re
import socket
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.uid import CTImageStorage

from tests.peers import by_hand, scanner
from tests.torture import trace
from tests.torture.listeners import listeners
from tests.torture.stores import Request, request_pdus
from tests.torture.subject import Figure, Size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.torture.listeners import Listeners
    from tests.torture.trace import Call

TOGETHER = 4
SYNCS = ("fsync", "fdatasync")
RENAMES = ("rename", "renameat", "renameat2", "link", "linkat")
CONTENT = ("write", "writev", "pwrite64", "pwritev", "pwritev2", "sendfile", "splice", "ftruncate")
SENDS = ("sendto", "sendmsg", "write", "writev")
_DESCRIPTOR = re.compile(r"\d+<(/[^>]*)>")
_CONNECTION = re.compile(r"\d+<TCP(?:v6)?:\[.*?->.*?:(\d+)\]>")
_UID = "1.2.3.4.{}"
_FIRST = 5_000_000


@dataclass(frozen=True)
class Stored:
    """An instance that got 0x0000: its digest, and the port of its sender, and which there."""

    digest: str
    port: int
    place: int


def measure(seed: int, size: Size, folder: Path) -> list[Figure]:
    """Send instances of sizes that differ, and read the trace."""
    count = size.choose(quick=40, submission=500, long=20_000)
    output = folder / "trace"
    before = trace.tracer(output, {*SYNCS, *RENAMES, *CONTENT, *SENDS})
    with listeners(folder / "node", before=before, processes=1) as listening:
        stored = list(_send(listening, range(count // 2), seed))
        shares = [
            range(first, count, TOGETHER) for first in range(count // 2, count // 2 + TOGETHER)
        ]
        with ThreadPoolExecutor(TOGETHER) as pool:
            for share in pool.map(lambda numbers: list(_send(listening, numbers, seed)), shares):
                stored += share
        lost = listening.lost([one.digest for one in stored])
    wrong = violations(trace.read(output), stored)
    return [
        Figure("instances acknowledged", len(stored), count, at_least=count),
        Figure(
            "violations of write, fsync, rename, fsync, commit, 0x0000",
            len(wrong),
            len(stored),
            at_most=0,
            note="; ".join(wrong[:3]),
        ),
        Figure("acknowledged and lost", len(lost), len(stored), at_most=0),
    ]


def violations(calls: list[Call], stored: list[Stored]) -> list[str]:
    """Return in words what came before what it had to wait for."""
    renames = {
        call.strings[-1].decode(errors="replace")[-68:-4]: call
        for call in calls
        if call.name in RENAMES and call.succeeded and call.strings[-1].endswith(b".dcm")
    }
    by_path: dict[str, list[Call]] = defaultdict(list)
    answers: dict[int, list[Call]] = defaultdict(list)
    commits = []
    for call in calls:
        if call.name in SENDS and (port := _peer(call)) is not None:
            if _is_success(call):
                answers[port].append(call)
        elif call.name in CONTENT and "ledger.sqlite-wal>" in call.text:
            commits.append(call)
        elif call.name in (*SYNCS, *CONTENT):
            by_path[_path(call)].append(call)
    return [
        f"{one.digest[:8]}: {what}"
        for one in stored
        if (what := _violation(one, renames, by_path, commits, answers))
    ]


def _violation(
    one: Stored,
    renames: dict[str, Call],
    by_path: dict[str, list[Call]],
    commits: list[Call],
    answers: dict[int, list[Call]],
) -> str | None:
    """Go through the steps; each begins after the one before it has ended."""
    renamed = renames.get(one.digest)
    if renamed is None:
        return "no rename"
    part = renamed.strings[0].decode()
    written = trace.last([call for call in by_path[part] if call.name in CONTENT])
    if written is None:
        return "no write"
    if not _any_between(by_path[part], written.ended, renamed.begun, SYNCS):
        return "no fsync of the file between its last write and its rename"
    answer = answers[one.port][one.place]
    parent = renamed.strings[-1].decode().rpartition("/")[0]
    synced = _any_between(by_path[parent], renamed.ended, answer.begun, SYNCS)
    if synced is None:
        return "no fsync of the folder between the rename and 0x0000"
    if _any_between(commits, synced.ended, answer.begun, CONTENT) is None:
        return "no write of the ledger between the fsync of the folder and 0x0000"
    return None


def _any_between(
    calls: list[Call], begun_after: int, ended_before: int, names: tuple[str, ...]
) -> Call | None:
    """Return the first of these calls that succeeded within this stretch; None if none did."""
    return next(
        (
            call
            for call in calls
            if call.name in names
            and call.succeeded
            and call.begun > begun_after
            and call.ended < ended_before
        ),
        None,
    )


def _path(call: Call) -> str:
    """Return the file or folder of a call's first argument; nothing for another."""
    found = _DESCRIPTOR.match(call.text)
    return found.group(1) if found else ""


def _peer(call: Call) -> int | None:
    """Return the peer's port, if the first argument is a TCP connection."""
    found = _CONNECTION.match(call.text)
    return int(found.group(1)) if found else None


def _is_success(call: Call) -> bool:
    sent = b"".join(call.strings)
    kind = by_hand.number_in(sent, 0x0100)
    return kind == by_hand.C_STORE_RSP and by_hand.number_in(sent, 0x0900) == 0x0000


def _send(listening: Listeners, numbers: range, seed: int) -> Iterator[Stored]:
    connection = by_hand.call(listening.port, str(CTImageStorage), called_ae=listening.called_ae)
    port = connection.getsockname()[1]
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    place = 0
    with connection:
        for number in numbers:
            request = _request(number, seed)
            connection.sendall(b"".join(request_pdus(request, str(CTImageStorage))))
            if by_hand.number_in(by_hand.pdu(connection), 0x0900) == 0x0000:
                yield Stored(hashlib.sha256(request.data_set).hexdigest(), port, place)
                place += 1


def _request(number: int, seed: int) -> Request:
    rng = random.Random(seed * 1_000_003 + number)
    dataset = scanner.ct_slice()
    dataset.SOPInstanceUID = _UID.format(_FIRST + number)
    dataset.PixelData = rng.randbytes(2 * rng.randrange(100, 100_000))
    return Request(number + 1, dataset.SOPInstanceUID, scanner.encode(dataset))
