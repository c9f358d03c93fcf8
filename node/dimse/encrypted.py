"""pynetdicom's connections over TLS, on the caller's side, without what makes them hang.

A TLS 1.3 server sends session tickets once the handshake is done. pynetdicom sees that something
can be read, waits for a whole PDU, and so never sends its own A-ASSOCIATE-RQ.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from pynetdicom.transport import AssociationSocket

from node.errors import ConfigError, PeerUnreachable
from node.tls import client_context

if TYPE_CHECKING:
    from pynetdicom import evt

    from node.settings import DimseDestination, Settings

AHEAD_BYTES = 65_536
"""Read at once; a TLS record has at most 16 384."""


class _TellingSocket(ssl.SSLSocket):
    """Leaves with its context why there is no connection; pynetdicom keeps it to itself."""

    def connect(self, addr: Any) -> None:
        try:
            super().connect(addr)
        except ssl.SSLCertVerificationError as error:
            self.context.why_not = error.verify_message  # type: ignore[attr-defined]
            raise
        except ssl.SSLError as error:
            self.context.why_not = error.reason or "TLS failed"  # type: ignore[attr-defined]
            raise


class Encryption(ssl.SSLContext):
    """How one destination is spoken to, once.

    Attributes:
        server_name: Whom its certificate must be for.
        why_not: What was wrong with it or with this node; empty: nothing, as far as TLS goes.
    """

    server_name = ""
    why_not = ""
    sslsocket_class = _TellingSocket


def encryption_of(settings: Settings, destination: DimseDestination) -> Encryption | None:
    """Return how a destination is spoken to; None: without TLS.

    Raises:
        PeerUnreachable: The files that this needs cannot be used.
    """
    if destination.tls is None:
        return None
    try:
        made = client_context(destination.tls, settings.name_of(destination), Encryption)
    except ConfigError as error:
        raise PeerUnreachable(error.what, do=error.do) from error
    made.server_name = destination.tls.server_name or destination.host
    return made


class ReadingAhead(AssociationSocket):
    """Says that there is something to read only where there is. Replaces the class of a stock one.

    Attributes:
        ahead: What was read and not asked for yet.
    """

    ahead = b""

    @property
    def ready(self) -> bool:
        """Whether some of a PDU can be read without waiting, or the end of the connection."""
        if self.ahead:
            return True
        connection = self.socket
        if connection is None or not super().ready:
            return False
        timeout_s = connection.gettimeout()
        connection.setblocking(False)
        try:
            self.ahead = connection.recv(AHEAD_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError:
            self.event_queue.put("Evt17")
            return False
        finally:
            connection.settimeout(timeout_s)
        return True  # of nothing, too: then recv tells that the connection is closed

    def recv(self, nr_bytes: int) -> bytearray:
        """Read ``nr_bytes``, or what came before the peer closed."""
        taken = bytearray(self.ahead[:nr_bytes])
        self.ahead = self.ahead[nr_bytes:]
        if len(taken) < nr_bytes:
            taken += super().recv(nr_bytes - len(taken))
        return taken


def read_ahead(event: evt.Event) -> None:
    """Take the place of pynetdicom's socket, where it is over TLS (EVT_CONN_OPEN)."""
    transport: Any = event.assoc.dul.socket
    if transport is not None and isinstance(transport.socket, ssl.SSLSocket):
        transport.__class__ = ReadingAhead
