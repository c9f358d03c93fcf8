"""A thousand peers that stall or drip, and PDUs that claim to be huge; an honest peer beside them.

They come from 50 loopback addresses, 20 from each, and from all of them at once.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import ssl
import struct
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from node.tls import ListenTls
from tests.peers import by_hand, free_port, scanner
from tests.peers.certificates import Authority
from tests.torture import survival
from tests.torture.echoes import echo_s, echoing, echoing_over_tls
from tests.torture.listeners import listeners
from tests.torture.subject import Figure, Size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.torture.listeners import Listeners

ADDRESSES = 50
CLOSED_GOAL_S = 35.0
WAIT_S = 45.0
DRIP_S = 1.0
BOMB_GOAL_S = 1.0
BOMB_GROWTH_GOAL_MB = 10.0
BOMB_LENGTHS = (0, 1, 3, 0x80000000, 0xFFFFFFFF)
BOMB_TYPES = range(1, 8)
BOMB_BYTES = 2_000_000
IDLE_S = 10.0
"""How long the listener lets an association be silent."""

STALLS = ("nothing", "no handshake", "three bytes", "half a request", "a message half said")
DRIPS = ("a request", "a request", "a request", "a message")


def measure(seed: int, size: Size, folder: Path) -> list[Figure]:
    """Attack from everywhere at once, then with length bombs one after another."""
    each = size.choose(quick=60, submission=500, long=1_000)
    authority = Authority(folder)
    node, scanner_of_ours = authority.issue("localhost"), authority.issue("ct1.hospital.example")
    tls = ListenTls(
        port=free_port(), certificate=node.certificate, key=node.key, trusted=authority.certificate
    )
    client = ssl.create_default_context(cafile=authority.certificate)
    client.load_cert_chain(scanner_of_ours.certificate, scanner_of_ours.key)
    with listeners(folder / "node", network_timeout_s=IDLE_S, tls=tls) as listening:
        _warm_up(listening)
        echo_s(tls.port, listening.called_ae, client)
        before = listening.use()
        with (
            echoing(listening.port, listening.called_ae) as echoes,
            echoing_over_tls(tls.port, listening.called_ae, client) as over_tls,
            _peak(listening) as peak,
        ):
            ends = asyncio.run(_attack(listening, each, seed))
        grown_mb = (peak.resident_bytes - before.resident_bytes) / 1e6
        settled = listening.settled(before)
        slow, answered = _bombs(listening)
        bombed_mb = (listening.use().resident_bytes - settled.resident_bytes) / 1e6
        closed_s = [end for end in ends if end is not None]
        still = len(ends) - len(closed_s)
        return [
            Figure("hostile sockets that stay open", still, len(ends), at_most=0),
            Figure(
                "until the last of them was closed (s)",
                round(max(closed_s, default=0.0), 1),
                at_most=CLOSED_GOAL_S,
            ),
            Figure("growth of memory meanwhile (MB)", round(grown_mb, 1), at_most=100.0),
            Figure(
                "length bombs not cut within 1 s",
                len(slow),
                answered,
                at_most=0,
                note=", ".join(f"type {kind}, length {length}" for kind, length in slow),
            ),
            Figure(
                "growth of memory by the bombs (MB)",
                round(bombed_mb, 1),
                at_most=BOMB_GROWTH_GOAL_MB,
            ),
            Figure(
                "honest C-ECHO over TLS, p99 (s)",
                round(over_tls.quantile(0.99), 3),
                len(over_tls.seconds) + over_tls.failed,
                at_most=survival.ECHO_GOAL_S,
            ),
            *survival.figures(listening, before, echoes),
        ]


@dataclass
class Peak:
    """The most memory that a listener had."""

    resident_bytes: int = 0


@contextmanager
def _peak(listening: Listeners) -> Iterator[Peak]:
    peak, done = Peak(), threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            peak.resident_bytes = max(peak.resident_bytes, listening.use().resident_bytes)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def _warm_up(listening: Listeners) -> None:
    for number in range(20):
        scanner.send(listening.port, [scanner.ct_slice(number)], called_ae=listening.called_ae)


# --- stalling and dripping -------------------------------------------------------------------


async def _attack(listening: Listeners, each: int, seed: int) -> list[float | None]:
    """Return of each hostile peer after how long it was closed; None: it was not."""
    rng = random.Random(seed)
    kinds = [("stall", rng.choice(STALLS)) for _ in range(each)]
    kinds += [("drip", rng.choice(DRIPS)) for _ in range(each)]
    rng.shuffle(kinds)
    tasks = [_hostile(listening, number, way, what) for number, (way, what) in enumerate(kinds)]
    return list(await asyncio.gather(*tasks))


async def _hostile(listening: Listeners, number: int, way: str, what: str) -> float | None:
    address = f"127.0.0.{2 + number % ADDRESSES}"
    plain, secure = listening.settings.listen.ports
    began = time.monotonic()
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", secure if what == "no handshake" else plain, local_addr=(address, 0)
        )
    except OSError:
        return time.monotonic() - began
    try:
        await _say(listening, reader, writer, what)
        if way == "drip":
            await _drip(reader, writer, began)
        else:
            await _closed(reader, began + WAIT_S - time.monotonic())
    except OSError:
        pass
    except TimeoutError:
        return None
    finally:
        writer.close()
    return time.monotonic() - began


async def _say(
    listening: Listeners, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, what: str
) -> None:
    contexts = [(str(CTImageStorage), str(ExplicitVRLittleEndian))]
    request = by_hand.request(contexts, called_ae=listening.called_ae)
    if what in ("nothing", "no handshake"):
        return
    if what == "three bytes":
        writer.write(request[:3])
    elif what in ("half a request", "a request"):
        writer.write(request[: len(request) // 2])
    else:
        writer.write(request)
        await asyncio.wait_for(reader.read(10), WAIT_S)
        command = scanner.store_command(str(CTImageStorage), "1.2.3.4.1")
        pdv = by_hand.pdv(command, by_hand.COMMAND | by_hand.LAST)
        whole = by_hand.header(by_hand.P_DATA_TF, len(pdv)) + pdv
        writer.write(whole + by_hand.header(by_hand.P_DATA_TF, 10_000) + b"\0\0")
    await writer.drain()


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, began: float) -> None:
    """Send a byte a second until the peer closes.

    Raises:
        TimeoutError: It did not.
    """
    while time.monotonic() - began < WAIT_S:
        writer.write(b"\0")
        await writer.drain()
        with suppress(TimeoutError):
            await _closed(reader, DRIP_S)
            return
    raise TimeoutError


async def _closed(reader: asyncio.StreamReader, within_s: float) -> None:
    """Return once the peer has closed.

    Raises:
        TimeoutError: It did not.
    """
    end = time.monotonic() + within_s
    while await asyncio.wait_for(reader.read(4096), max(0.0, end - time.monotonic())):
        pass


# --- lengths ---------------------------------------------------------------------------------


def _bombs(listening: Listeners) -> tuple[list[tuple[int, int]], int]:
    """Return (type, length) of the PDUs that were not cut in time, and how many were sent.

    What is sent after the header is as long as it says, up to 2 MB. A P-DATA-TF of a length that
    is allowed is no bomb, but on a connection without an association it has no place.
    """
    slow, tried = [], 0
    for kind, length in itertools.product(BOMB_TYPES, BOMB_LENGTHS):
        for within in (False, True):
            if not within and kind == 1 and length < BOMB_BYTES:
                continue  # a request too short to be one is tried among the mutated PDUs
            tried += 1
            if _seconds_to_cut(listening, kind, length, within=within) > BOMB_GOAL_S:
                slow.append((kind, length))
    return slow, tried


def _seconds_to_cut(listening: Listeners, kind: int, length: int, *, within: bool) -> float:
    """Return how long it takes to an A-ABORT or the end, before or within an association."""
    address = ("127.0.0.1", listening.port)
    with socket.create_connection(address, timeout=2.0 * BOMB_GOAL_S) as connection:
        if within:
            contexts = [(str(CTImageStorage), str(ExplicitVRLittleEndian))]
            connection.sendall(by_hand.request(contexts, called_ae=listening.called_ae))
            by_hand.pdu(connection)
        began = time.monotonic()
        with suppress(OSError):
            connection.sendall(struct.pack(">BxL", kind, length))
            connection.sendall(bytes(min(length, BOMB_BYTES)))
            # After its A-ABORT the listener may wait for us to close (PS3.8 table 9-10, Sta13).
            while (answer := connection.recv(4096)) and answer[0] != by_hand.ABORT:
                pass
        return time.monotonic() - began
