"""The sending side: one process, a thread an association, as little Python an instance as can be.

It negotiates and warms up before the clock starts. All associations start at once; each sends the
next instance as soon as the last one is answered, as C-STORE on an association is.
"""

from __future__ import annotations

import math
import multiprocessing
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, build_context
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)

from tests.bench.instances import KINDS, Instances
from tests.peers import by_hand

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

HOST = "127.0.0.1"
PATIENCE_S = 60.0
ACCEPTED = 2
"""PDU type of A-ASSOCIATE-AC (PS3.8 9.3.3)."""
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}

_context = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Load:
    """What to send.

    Attributes:
        port: Of the receiver.
        called_ae: Its AE title.
        kind: Of the instances.
        associations: Open at once.
        run: Another for each load, so that every instance is new.
        seconds: No instance is begun after that.
        warm_up: Instances an association sends before the clock starts.
    """

    port: int
    called_ae: str
    kind: str
    associations: int
    run: int
    seconds: float
    warm_up: int = 2


@dataclass
class Sender:
    """One association, and what it saw."""

    connection: socket.socket
    instances: Instances
    latencies_s: list[float] = field(default_factory=list)
    acknowledged: int = 0
    refused: int = 0
    broken: bool = False
    first_at: float = 0.0
    last_at: float = 0.0

    def send(self, count: float, until: float) -> None:
        """Send ``count`` instances, or until it is ``until``; a broken association sends none."""
        connection, head, tail = self.connection, self.instances.head, self.instances.tail
        now = time.perf_counter
        self.first_at = self.last_at = now()
        try:
            while count > 0 and not self.broken and now() < until:
                count -= 1
                message_id = self.instances.next()
                begun = now()
                connection.sendall(head)
                connection.sendall(tail)
                if _status(by_hand.pdu(connection), message_id):
                    self.refused += 1
                    continue
                self.last_at = now()
                self.latencies_s.append(self.last_at - begun)
                self.acknowledged += 1
        except OSError:
            self.broken = True

    def close(self) -> None:
        """Release the association; one that was aborted has been counted as broken."""
        with suppress(OSError):
            self.connection.sendall(by_hand.header(by_hand.RELEASE_RQ) + bytes(4))
            by_hand.pdu(self.connection)
        self.connection.close()


class Client:
    """A process that sends; used for one load after another."""

    def __init__(self) -> None:
        self._pipe, other = _context.Pipe()
        self._process = _context.Process(target=_serve, args=(other,), daemon=True)
        self._process.start()
        other.close()  # or nobody would hear that it died

    def open(self, load: Load) -> int:
        """Open the associations and warm up; return how many the receiver accepted."""
        self._pipe.send(load)
        return int(self._pipe.recv())

    def go(self) -> dict[str, Any]:
        """Send, and return what was measured; the associations stay open.

        Returns:
            ``MB_per_s`` of what was acknowledged; ``instances``, ``instance_bytes`` and
            ``seconds`` it comes from; ``latency_s`` from the first byte of an instance to its
            Success; how many instances were ``acknowledged`` with the warm-up and ``refused``;
            how many associations were refused and broken.
        """
        self._pipe.send("go")
        result: dict[str, Any] = self._pipe.recv()
        return result

    def release(self) -> None:
        """Release the associations."""
        self._pipe.send("release")
        self._pipe.recv()

    def stop(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(PATIENCE_S)


def _serve(pipe: Connection) -> None:
    with suppress(EOFError):
        while True:
            _serve_one(pipe, pipe.recv())


def _serve_one(pipe: Connection, load: Load) -> None:
    senders = [one for number in range(load.associations) if (one := _associate(load, number))]
    _together(senders, count=load.warm_up)
    pipe.send(len(senders))
    while pipe.recv() == "go":
        for sender in senders:
            sender.latencies_s.clear()
        _together(senders, until=time.perf_counter() + load.seconds)
        pipe.send(_summary(load, senders))
    for sender in senders:
        sender.close()
    pipe.send("released")


def _together(
    senders: list[Sender], *, count: float = float("inf"), until: float = float("inf")
) -> None:
    threads = [threading.Thread(target=one.send, args=(count, until)) for one in senders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _status(answer: bytes, message_id: int) -> int:
    """Return the status that a PDU answers to a C-STORE-RQ.

    Raises:
        ConnectionError: It is not that answer.
    """
    # PDU header, PDV header, then the command set in Implicit VR Little Endian (PS3.7 6.3.1).
    if answer[:1] != b"\x04" or answer[11] != by_hand.COMMAND | by_hand.LAST:
        raise ConnectionError
    at, values = 12, {}
    while at < len(answer):
        _, element, length = struct.unpack_from("<HHI", answer, at)
        values[element] = int.from_bytes(answer[at + 8 : at + 8 + length], "little")
        at += 8 + length
    if values[0x0100] != by_hand.C_STORE_RSP or values[0x0120] != message_id:
        raise ConnectionError
    return values[0x0900]


def _associate(load: Load, number: int) -> Sender | None:
    """Open one association; None if it is refused."""
    connection = socket.create_connection((HOST, load.port), timeout=PATIENCE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(_request(load))
    answer = by_hand.pdu(connection)
    if answer[:1] == bytes([ACCEPTED]):
        accepted = A_ASSOCIATE_AC()
        accepted.decode(answer)
        if accepted.presentation_context[0].result == 0:
            longest = accepted.user_information.maximum_length or 0
            return Sender(connection, Instances(load.kind, longest, load.run, number))
    connection.close()
    return None


def _request(load: Load) -> bytes:
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16_384
    implementation.implementation_class_uid = PYNETDICOM_IMPLEMENTATION_UID
    context = build_context(KINDS[load.kind].sop_class_uid, ExplicitVRLittleEndian)
    context.context_id = 1
    asked = A_ASSOCIATE()
    asked.application_context_name = "1.2.840.10008.3.1.1.1"
    asked.calling_ae_title, asked.called_ae_title = "CT1", load.called_ae
    asked.user_information = [length, implementation]
    asked.presentation_context_definition_list = [context]
    request = A_ASSOCIATE_RQ()
    request.from_primitive(asked)
    return request.encode()


def _summary(load: Load, senders: list[Sender]) -> dict[str, Any]:
    latencies_s = sorted(latency for one in senders for latency in one.latencies_s)
    if not latencies_s:
        raise SystemExit("The receiver took nothing at all.")
    seconds = max(one.last_at for one in senders) - min(one.first_at for one in senders)
    size_bytes = senders[0].instances.size_bytes
    return {
        "MB_per_s": len(latencies_s) * size_bytes / seconds / 1e6,
        "instances": len(latencies_s),
        "instance_bytes": size_bytes,
        "seconds": seconds,
        "latency_s": {name: _quantile(latencies_s, share) for name, share in QUANTILES.items()},
        "acknowledged": sum(one.acknowledged for one in senders),
        "refused": sum(one.refused for one in senders),
        "refused_associations": load.associations - len(senders),
        "broken": sum(one.broken for one in senders),
    }


def _quantile(ordered: list[float], share: float) -> float:
    """Return the smallest value that ``share`` of all do not exceed."""
    return ordered[math.ceil(share * len(ordered)) - 1]
