"""An honest peer: it asks for C-ECHO again and again, and says how long each took."""

from __future__ import annotations

import multiprocessing
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.sop_class import Verification

from tests.peers import by_hand, scanner

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

TIMEOUT_S = 20.0
PAUSE_S = 0.05
TLS_PAUSE_S = 0.5
_context = multiprocessing.get_context("spawn")
_ECHO = scanner.command_set({0x0002: Verification, 0x0100: 0x0030, 0x0110: 1, 0x0800: 0x0101})
_ECHO_RSP = 0x8030


@dataclass
class Echoes:
    """What the peer saw.

    Attributes:
        seconds: From opening the connection to the answer, of each that came.
        failed: How many were rejected, aborted or never answered.
    """

    seconds: list[float] = field(default_factory=list)
    failed: int = 0

    def quantile(self, share: float) -> float:
        """Return the time that this share did not exceed; of failures it is endless."""
        ordered = [*sorted(self.seconds), *[float("inf")] * self.failed]
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def echo_s(port: int, called_ae: str, tls: ssl.SSLContext | None = None) -> float:
    """Ask for one C-ECHO on an association of its own; the seconds until its answer.

    Raises:
        OSError: The answer was another, or none.
    """
    began = time.perf_counter()
    wanted = [(str(Verification), str(ImplicitVRLittleEndian))]
    with ExitStack() as stack:
        connection = stack.enter_context(
            socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        )
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            wrapped = tls.wrap_socket(connection, server_hostname="localhost")
            connection = stack.enter_context(wrapped)
        connection.sendall(by_hand.request(wanted, called_ae=called_ae))
        if by_hand.pdu(connection)[:1] != bytes([by_hand.ASSOCIATE_AC]):
            raise ConnectionError("No association")
        pdv = by_hand.pdv(_ECHO, by_hand.COMMAND | by_hand.LAST)
        connection.sendall(by_hand.header(by_hand.P_DATA_TF, len(pdv)) + pdv)
        answer = by_hand.pdu(connection)
        if by_hand.number_in(answer, 0x0100) != _ECHO_RSP:
            raise ConnectionError("No answer")
        seconds = time.perf_counter() - began
        connection.sendall(by_hand.header(by_hand.RELEASE_RQ) + bytes(4))
        by_hand.pdu(connection)
    return seconds


@contextmanager
def echoing_over_tls(port: int, called_ae: str, tls: ssl.SSLContext) -> Iterator[Echoes]:
    """Echo over TLS in a thread until the block ends; what it saw is known then."""
    seen, done = Echoes(), threading.Event()

    def echo() -> None:
        while not done.wait(TLS_PAUSE_S):
            try:
                seen.seconds.append(echo_s(port, called_ae, tls))
            except OSError:
                seen.failed += 1

    thread = threading.Thread(target=echo)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


@contextmanager
def echoing(port: int, called_ae: str) -> Iterator[Echoes]:
    """Echo in a process of its own until the block ends; what it saw is known then."""
    ours, theirs = _context.Pipe()
    process = _context.Process(target=_echo, args=(theirs, port, called_ae), daemon=True)
    process.start()
    theirs.close()
    seen = Echoes()
    try:
        ours.recv()
        yield seen
    finally:
        ours.send("stop")
        seen.seconds, seen.failed = ours.recv()
        process.join()


def _echo(pipe: Connection, port: int, called_ae: str) -> None:
    seconds: list[float] = []
    failed = 0
    while not pipe.poll(PAUSE_S):
        try:
            seconds.append(echo_s(port, called_ae))
        except OSError:
            failed += 1
        if len(seconds) + failed == 1:
            pipe.send("begun")
    pipe.recv()
    pipe.send((seconds, failed))
