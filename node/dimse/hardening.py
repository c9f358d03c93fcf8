"""What pynetdicom 3.0.4 leaves open on the acceptor's side, closed. By subclass, nothing patched.

* It has no effective read time-out: a peer that sends three bytes and stops, or drips, holds its
  place for ever. Here a PDU that has begun must be complete in time.
* It believes the length that a PDU states: 4 GiB are buffered before any check. Here a PDU longer
  than its type allows ends the association.
* A connection that ends before it asked for an association keeps its place until a time-out. Here
  it gives it up at once.
* Five connections may wait to be accepted, and everyone gets a thread. Here it is 128, and an
  address that nobody may call from gets none.

This is the time before an association is established; then ``acceptor`` reads. The subclasses
rely on internals, hence the check of the version.
"""

from __future__ import annotations

import socket
import sys
import time
from contextlib import suppress
from socketserver import BaseServer
from typing import TYPE_CHECKING, Any

import pynetdicom
from pynetdicom import evt
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from node.dimse.acceptor import PDU_S, AcceptedAssociation
from node.dimse.admission import is_within
from node.dimse.pdata import ABORT_INVALID_PARAMETER, PDU_HEADER_BYTES
from node.errors import ConfigError
from node.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
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
MAXIMUM_PDU_BYTES = {1: ASSOCIATE_BYTES, 2: ASSOCIATE_BYTES, 3: 4, 5: 4, 6: 4, 7: 4}
"""By PDU type (PS3.8 section 9.3). P-DATA-TF has no place here."""


class DeadlineSocket(AssociationSocket):
    """Reads PDUs within a length and a time. Replaces the class of a stock socket."""

    _pdu_type = 0

    def recv(self, nr_bytes: int) -> bytearray:
        """Read ``nr_bytes``, or what came before the peer closed.

        Raises:
            OSError: Too long, or not there in time; pynetdicom takes the connection for closed.
        """
        connection = self.socket
        if connection is None:
            return bytearray()
        allowed_bytes = MAXIMUM_PDU_BYTES.get(self._pdu_type, 0)
        if nr_bytes != PDU_HEADER_BYTES and nr_bytes > allowed_bytes:
            self.send(ABORT_INVALID_PARAMETER)
            raise OSError(f"A PDU of {nr_bytes} bytes is too long")
        allowed_s = min(PDU_S, self.assoc.network_timeout or PDU_S)
        until = time.monotonic() + allowed_s
        received = bytearray()
        while len(received) < nr_bytes:
            connection.settimeout(max(0.001, until - time.monotonic()))
            piece = connection.recv(min(65_536, nr_bytes - len(received)))
            if not piece:
                return received
            received += piece
            if time.monotonic() > until:
                raise TimeoutError("A PDU was not complete in time")
        connection.settimeout(allowed_s)  # for send: a peer that stops reading
        if nr_bytes == PDU_HEADER_BYTES:
            self._pdu_type = received[0]
        return received


def on_connection_closed(event: evt.Event) -> None:
    """Wake the association if it still waits for its A-ASSOCIATE-RQ (EVT_CONN_CLOSE)."""
    if event.assoc.requestor.primitive is None:
        waiting: Any = event.assoc.dul.to_user_queue
        waiting.put(None)  # what the wait for it returns after its time-out


class Acceptor(RequestHandler):
    """Runs one association from its connection to its end."""

    server: Server

    def handle(self) -> None:
        """Accept and serve the association; return when it has ended, in whatever way."""
        association: Any = self._create_association()
        association.bind(evt.EVT_CONN_CLOSE, on_connection_closed)
        association.dul.socket.__class__ = DeadlineSocket
        AcceptedAssociation.adopt(association, self.server.receiver)
        evt.trigger(association, evt.EVT_CONN_OPEN, {"address": self.client_address})
        association.start()
        association.join()
        self.server.ended(association)


class Server(ThreadedAssociationServer):
    """Accepts connections, each in a thread.

    Args:
        ae: Whose associations they are.
        address: Host and port; port 0 for any.
        contexts: What is accepted.
        handlers: Of pynetdicom's events.
        networks: Where connections may come from; empty: anywhere.
        share_port: Whether other processes listen on the same port (SO_REUSEPORT).
        receiver: Where instances go.
        ended: Called with each association after its last event.
    """

    request_queue_size = 128

    def __init__(  # noqa: PLR0913 - what pynetdicom asks for, and ours by name
        self,
        ae: AE,
        address: tuple[str, int],
        contexts: list[PresentationContext],
        handlers: list[Any],
        *,
        networks: Sequence[IPv4Network | IPv6Network],
        share_port: bool,
        receiver: Receiver,
        ended: Callable[[AcceptedAssociation], None],
    ) -> None:
        self._networks = networks
        self._share_port = share_port
        self.receiver = receiver
        self.ended = ended
        super().__init__(
            ae, address, ae.ae_title, contexts, evt_handlers=handlers, request_handler=Acceptor
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
                with suppress(OSError):  # the peer was faster
                    transport.socket.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def server_bind(self) -> None:
        """Bind, together with other processes if so configured."""
        if self._share_port and self.socket is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

    def verify_request(self, _request: Any, client_address: Any) -> bool:
        """Whether anyone may call from this address."""
        if not self._networks or is_within(client_address[0], self._networks):
            return True
        log.warning("connection_refused", address=client_address[0])
        return False

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept one connection; answers go out at once, not with the next one."""
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def service_actions(self) -> None:
        """Do nothing each time round; pynetdicom collects garbage, which stops every thread."""

    def handle_error(self, _request: Any, client_address: Any) -> None:
        """Log that a connection failed before its association began."""
        error = type(sys.exception()).__name__
        log.error("connection_failed", address=client_address[0], error=error)
