"""Many associations at once, of which some break off in the middle: what was acknowledged stays."""

from __future__ import annotations

import hashlib
import random
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from pydicom.uid import CTImageStorage

from tests.peers import by_hand, scanner
from tests.torture import survival
from tests.torture.listeners import listeners
from tests.torture.stores import Request, request_pdus
from tests.torture.subject import Figure, Size

if TYPE_CHECKING:
    from pathlib import Path

    from tests.torture.listeners import Listeners

ASSOCIATIONS = 64
ABORTED = 0.05
"""Of all instances."""
SIDE = 128
PIECE_BYTES = 16_000
PATIENCE_S = 60.0
_ABORT = by_hand.header(by_hand.ABORT) + bytes(4)
_NAME = "1.2.3.4.{}.{}"
_FIRST = 5_000_000


def measure(seed: int, size: Size, folder: Path) -> list[Figure]:
    """Send 100 instances on each of 64 associations; each instance until it is acknowledged."""
    instances = size.choose(quick=6, submission=100, long=1_000)
    with (
        listeners(folder / "node") as listening,
        ThreadPoolExecutor(ASSOCIATIONS) as pool,
    ):
        # Once before, so that what is pooled is there.
        list(pool.map(partial(_modality, listening, 1, seed), range(-ASSOCIATIONS, 0)))
        before = listening.use()
        sent = list(pool.map(partial(_modality, listening, instances, seed), range(ASSOCIATIONS)))
        acknowledged = [digest for one in sent for digest in one.acknowledged]
        lost = listening.lost(acknowledged)
        tried = ASSOCIATIONS * instances
        never = tried - len(acknowledged)
        latencies_s = sorted(latency for one in sent for latency in one.latencies_s)
        p99_s = round(latencies_s[int(0.99 * len(latencies_s))], 3) if latencies_s else 0.0
        return [
            Figure("instances that were acknowledged and lost", len(lost), tried, at_most=0),
            Figure("instances that were never acknowledged", never, tried, at_most=0),
            Figure("associations broken off", sum(one.aborted for one in sent), tried),
            Figure("answer to an instance, p99 (s)", p99_s, len(latencies_s)),
            *survival.figures(listening, before),
        ]


@dataclass
class Sent:
    """What one modality knows.

    Attributes:
        acknowledged: Digests.
        aborted: How often it broke off.
    """

    acknowledged: list[str] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    aborted: int = 0


def _modality(listening: Listeners, instances: int, seed: int, number: int) -> Sent:
    rng = random.Random(seed * 1_000_003 + number)
    known = Sent()
    connection = _open(listening)
    for instance in range(instances):
        request = _request(number, instance)
        stream = b"".join(request_pdus(request, str(CTImageStorage), piece_bytes=PIECE_BYTES))
        if rng.random() < ABORTED:
            known.aborted += 1
            _break_off(rng, connection, stream)
            connection = _open(listening)
        began = time.perf_counter()
        try:
            connection.sendall(stream)
            status = by_hand.number_in(by_hand.pdu(connection), 0x0900)
        except OSError:
            connection = _open(listening)
            continue
        if status == 0x0000:
            known.latencies_s.append(time.perf_counter() - began)
            known.acknowledged.append(hashlib.sha256(request.data_set).hexdigest())
    with suppress(OSError):
        connection.sendall(by_hand.header(by_hand.RELEASE_RQ) + bytes(4))
        by_hand.pdu(connection)
    connection.close()
    return known


def _open(listening: Listeners) -> socket.socket:
    connection = by_hand.call(listening.port, str(CTImageStorage), called_ae=listening.called_ae)
    connection.settimeout(PATIENCE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _break_off(rng: random.Random, connection: socket.socket, stream: bytes) -> None:
    """Send some of an instance, or all of it, and end: politely, by A-ABORT, or by a reset."""
    how = rng.choice(("close", "abort", "reset"))
    with suppress(OSError):
        connection.sendall(stream[: rng.randrange(len(stream) + 1)])
        if how == "abort":
            connection.sendall(_ABORT)
        elif how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _template() -> bytes:
    dataset = scanner.ct_slice()
    dataset.SOPInstanceUID = _NAME.format(_FIRST, _FIRST)
    dataset.Rows = dataset.Columns = SIDE
    dataset.PixelData = random.Random(0).randbytes(2 * SIDE * SIDE)
    return scanner.encode(dataset)


_TEMPLATE = _template()


def _request(number: int, instance: int) -> Request:
    """Return an instance of its own; all are of one size."""
    uid = _NAME.format(_FIRST + number, _FIRST + instance)
    head, tail = _TEMPLATE[:2000], _TEMPLATE[2000:]
    head = head.replace(_NAME.format(_FIRST, _FIRST).encode(), uid.encode())
    return Request(instance + 1, uid, head + tail)
