"""What pynetdicom 3.0.4 leaves open on the acceptor's side, closed. By subclass, nothing patched.

* Every connection costs it two threads that look for work every millisecond, and a place among
  the associations, whether it asks for one or not. A peer that sends three bytes and stops, or
  drips, holds them for ever. Here pynetdicom hears of a connection when its request has come whole,
  in time; until then one thread waits for it in the kernel.
* It believes the length that a PDU states: 4 GiB are buffered before any check.
* What is malformed in a request may kill the thread that would have said so.
* Five connections may wait to be accepted, and everyone gets a thread. Here it is 128; an address
  that nobody may call from gets none, nor does one that holds too many connections.
* It does the TLS handshake in the thread that accepts: one silent peer, and nobody else comes in.
  Here it is done in the connection's own thread, in time.

This is the time before an association is established; then ``acceptor`` reads. The subclasses
rely on internals, hence the check of the version.
"""

from __future__ import annotations

import select
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from socketserver import BaseServer
from typing import TYPE_CHECKING, Any

import pynetdicom
from pynetdicom import evt
from pynetdicom.fsm import StateMachine
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from node.dimse import alerts
from node.dimse.acceptor import PDU_S, AcceptedAssociation, shut
from node.dimse.admission import is_within
from node.dimse.pdata import (
    ABORT_INVALID_PARAMETER,
    ASSOCIATE_RQ,
    PDU_HEADER_BYTES,
    Ended,
    InvalidPdu,
)
from node.errors import ConfigError
from node.log import get_logger
from node.malformed import MALFORMED

if TYPE_CHECKING:
    from collections.abc import Callable
    from ipaddress import IPv4Network, IPv6Network

    from pynetdicom import AE
    from pynetdicom.presentation import PresentationContext

    from node.dimse.receive import Receiver

if pynetdicom.__version__ != "3.0.4":
    raise ConfigError(
        f"pynetdicom {pynetdicom.__version__} is installed; the listener is made for 3.0.4.",
        do="Install radnode with its pinned requirements: pipx install radnode.",
    )

log = get_logger(__name__)

ASSOCIATE_BYTES = 131_072
"""Of an A-ASSOCIATE-RQ after its header."""
ASSOCIATE_S = 5.0
"""Seconds that a new connection has to ask for its association."""
HANDSHAKE_S = 5.0
"""Seconds that a new connection has for its TLS handshake."""


@dataclass(frozen=True)
class Door:
    """Where connections come in, and how many.

    Attributes:
        address: Host and port; port 0 for any.
        networks: Where they may come from; empty: anywhere.
        share_port: Whether other processes listen on the same port (SO_REUSEPORT).
        most: Connections at once.
        most_per_address: The same, of one address.
        encryption: Of a port for TLS.
    """

    address: tuple[str, int]
    networks: tuple[IPv4Network | IPv6Network, ...]
    share_port: bool
    most: int
    most_per_address: int
    encryption: ssl.SSLContext | None = None


class RequestedSocket(AssociationSocket):
    """Hands pynetdicom the request that has come whole. Replaces the class of a stock socket.

    What follows is only looked at, to see that the peer has closed: nothing is waited for.

    Attributes:
        request: What is left of it.
    """

    request = b""

    @property
    def ready(self) -> bool:
        """Whether there is something to read, or the end of the connection.

        Stock, a process with a thousand files open takes every connection for closed (select(2)).
        """
        connection = self.socket
        if self.request or connection is None:
            return bool(self.request)
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return True
        looks = select.poll()
        looks.register(connection, select.POLLIN)
        return bool(looks.poll(0))

    def recv(self, nr_bytes: int) -> bytearray:
        """Return at most ``nr_bytes`` of what there is."""
        if self.request:
            taken, self.request = self.request[:nr_bytes], self.request[nr_bytes:]
            return bytearray(taken)
        connection = self.socket
        at_most = min(nr_bytes, ASSOCIATE_BYTES)  # of the 4 GiB that a header may claim
        return bytearray() if connection is None else bytearray(connection.recv(at_most))


class GuardedStates(StateMachine):
    """Ends an association whose request cannot be; stock, its thread dies and nobody is told."""

    def do_action(self, event: str) -> None:
        """Do what the standard's table of states says (PS3.8 section 9.2)."""
        try:
            super().do_action(event)
        except MALFORMED:
            transport: Any = self.dul.socket
            transport.send(ABORT_INVALID_PARAMETER)
            self.dul.kill_dul()
            waiting: Any = self.dul.to_user_queue
            waiting.put(None)  # what the association's wait for its request returns after a time


def request_of(connection: socket.socket) -> bytes:
    """Read the first PDU of a connection, which must be an A-ASSOCIATE-RQ.

    Raises:
        InvalidPdu: It is something else, or too long.
        OSError: It was not there after ``ASSOCIATE_S`` in all, or the peer closed.
    """
    until = time.monotonic() + ASSOCIATE_S
    request = bytearray()
    wanted = PDU_HEADER_BYTES
    while len(request) < wanted:
        connection.settimeout(max(0.001, until - time.monotonic()))
        piece = connection.recv(wanted - len(request))
        if not piece:
            raise Ended("The peer has closed the connection")
        request += piece
        if len(request) == PDU_HEADER_BYTES:
            wanted += int.from_bytes(request[2:], "big")
            if request[0] != ASSOCIATE_RQ or wanted > PDU_HEADER_BYTES + ASSOCIATE_BYTES:
                raise InvalidPdu("No A-ASSOCIATE-RQ, or too long a one")
        if time.monotonic() > until:
            raise TimeoutError("An A-ASSOCIATE-RQ was not complete in time")
    return bytes(request)


class Acceptor(RequestHandler):
    """Runs one association from its connection to its end."""

    server: Server

    def handle(self) -> None:
        """Accept and serve the association; return when it has ended, in whatever way.

        Raises:
            OSError: There is none: no agreement on encryption, or no request, or not in time.
        """
        if self.server.door.encryption is not None:
            self.request = encrypted(self.request, self.server.door.encryption)
        try:
            request = self.server.request_on(self.request)
        except InvalidPdu:
            self.request.sendall(ABORT_INVALID_PARAMETER)
            raise
        self.request.settimeout(PDU_S)  # for send: a peer that does not read
        association: Any = self._create_association()
        transport = association.dul.socket
        transport.__class__, transport.request = RequestedSocket, request
        association.dul.state_machine.__class__ = GuardedStates
        AcceptedAssociation.adopt(association, self.server.receiver)
        evt.trigger(association, evt.EVT_CONN_OPEN, {"address": self.client_address})
        association.start()
        association.join()
        self.server.ended(association)

    def finish(self) -> None:
        """Close what encryption was agreed on for: the server knows only what it accepted."""
        if isinstance(self.request, ssl.SSLSocket):
            self.request.close()


def encrypted(connection: socket.socket, how: ssl.SSLContext) -> ssl.SSLSocket:
    """Do the handshake of a connection that was accepted.

    Raises:
        OSError: It failed, or took longer than ``HANDSHAKE_S`` in all.
    """
    wrapped = how.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
    try:
        wrapped.settimeout(HANDSHAKE_S)  # of the whole, not of a step
        wrapped.do_handshake()
    except BaseException:
        wrapped.close()
        raise
    return wrapped


class Server(ThreadedAssociationServer):
    """Accepts connections, each in a thread.

    Args:
        ae: Whose associations they are.
        door: Where they come in.
        contexts: What is accepted.
        handlers: Of pynetdicom's events.
        receiver: Where instances go.
        ended: Called with each association after its last event.
    """

    request_queue_size = 128

    def __init__(  # noqa: PLR0913 - what pynetdicom asks for, and ours by name
        self,
        ae: AE,
        door: Door,
        contexts: list[PresentationContext],
        handlers: list[Any],
        *,
        receiver: Receiver,
        ended: Callable[[AcceptedAssociation], None],
    ) -> None:
        self.door = door
        self.receiver = receiver
        self.ended = ended
        self._open: Counter[str] = Counter()
        self._waiting: set[socket.socket] = set()
        self._counting = threading.Lock()
        super().__init__(
            ae, door.address, ae.ae_title, contexts, evt_handlers=handlers, request_handler=Acceptor
        )

    def end(self) -> None:
        """Accept nothing more, abort what is open, and return when all of it has ended."""
        if self.socket is not None:
            with suppress(OSError):  # wakes the accepting thread, where the system allows it
                self.socket.shutdown(socket.SHUT_RDWR)
        BaseServer.shutdown(self)
        for association in self.active_associations:
            if association.is_established:
                association.abort()
            elif (transport := association.dul.socket) and transport.socket:
                shut(transport.socket, socket.SHUT_RDWR)
        for connection in tuple(self._waiting):
            shut(connection, socket.SHUT_RDWR)
        self.server_close()

    def request_on(self, connection: socket.socket) -> bytes:
        """Read a connection's request, unless the end comes first. See ``request_of``."""
        self._waiting.add(connection)
        try:
            return request_of(connection)
        finally:
            self._waiting.discard(connection)

    def server_bind(self) -> None:
        """Bind, together with other processes if so configured."""
        if self.door.share_port and self.socket is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

    def verify_request(self, _request: Any, client_address: Any) -> bool:
        """Whether anyone may call from this address, and there is a place for it."""
        address = client_address[0]
        if self.door.networks and not is_within(address, self.door.networks):
            log.warning("connection_refused", address=address, reason="not in listen.accept_from")
            return False
        with self._counting:
            full = (
                self._open[address] >= self.door.most_per_address
                or self._open.total() >= self.door.most
            )
        if full:
            log.warning("connection_refused", address=address, reason="too many connections")
        return not full

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection a thread, and count it until that ends."""
        with self._counting:
            self._open[client_address[0]] += 1
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread is to be had
            self._left(client_address[0])
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._left(client_address[0])

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept one connection; answers go out at once, not with the next one."""
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def service_actions(self) -> None:
        """Do nothing each time round; pynetdicom collects garbage, which stops every thread."""

    def handle_error(self, _request: Any, client_address: Any) -> None:
        """Log that a connection failed before its association began."""
        error = sys.exception()
        if isinstance(error, ssl.SSLError):
            address = client_address[0]
            log.warning("tls_failed", address=address, reason=error.reason)
            said = f"{address}: TLS handshake failed"
            alerts.tell(self.receiver.ledger, "association_rejected", address, said)
            return
        if isinstance(error, OSError):  # a port scanner, say
            log.warning("no_association", address=client_address[0], reason=str(error))
            return
        log.error("connection_failed", address=client_address[0], error=type(error).__name__)

    def _left(self, address: str) -> None:
        with self._counting:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]
