"""A syslog server over TLS (RFC 5425) that asks for a certificate, and keeps what it is told."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.peers.certificates import Identity

_LENGTH = re.compile(rb"([1-9][0-9]{0,5}) ")
_MESSAGE = re.compile(
    rb"<(\d+)>1 (\S+) (\S+) (\S+) (\S+) (\S+) (-|\[.+?\]) \xef\xbb\xbf(.*)", re.DOTALL
)
_SEQUENCE_ID = re.compile(rb'\[meta sequenceId="(\d+)"\]')


@dataclass(frozen=True)
class Told:
    """One message, taken apart as RFC 5424 says."""

    priority: int
    host: str
    application: str
    message_id: str
    sequence_id: int | None
    text: bytes


@dataclass
class Syslog:
    """The server. May be stopped and started again on its port.

    Attributes:
        told: What came, in order, over all connections.
        dies_after: Ends like a killed process once it has read so many bytes of a connection.
        polite: Whether it answers the end of a connection with its own.
    """

    identity: Identity
    trusted: str
    port: int = 0
    told: list[Told] = field(default_factory=list)
    dies_after: int | None = None
    polite: bool = True
    connections: int = 0
    _listening: socket.socket | None = None
    _open: dict[ssl.SSLSocket, threading.Thread] = field(default_factory=dict)

    def start(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.identity.certificate, self.identity.key)
        context.load_verify_locations(self.trusted)
        context.verify_mode = ssl.CERT_REQUIRED
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listening, context), daemon=True).start()

    def stop(self) -> None:
        """Vanish, as a killed process does: what it has not read is lost with it."""
        if self._listening is not None:
            # Closing alone would not wake the thread that waits for it.
            with suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
        for connection, serving in tuple(self._open.items()):
            del self._open[connection]
            _reset(connection)
            # Closed under a thread that reads, a connection would live until something comes.
            if serving is not threading.current_thread():
                serving.join()

    def _accept(self, listening: socket.socket, context: ssl.SSLContext) -> None:
        with suppress(OSError):
            while True:
                plain, _ = listening.accept()
                threading.Thread(target=self._serve, args=(plain, context), daemon=True).start()

    def _serve(self, plain: socket.socket, context: ssl.SSLContext) -> None:
        try:
            connection = context.wrap_socket(plain, server_side=True)
        except OSError:
            plain.close()
            return
        self.connections += 1
        self._open[connection] = threading.current_thread()
        buffer, read = b"", 0
        try:
            while received := connection.recv(65_536):
                read += len(received)
                buffer = self._take(buffer + received)
                if self.dies_after is not None and read >= self.dies_after:
                    self.dies_after = None
                    self.stop()
                    return
            if self.polite and connection in self._open:
                connection.unwrap()
        except OSError:
            pass
        finally:
            self._open.pop(connection, None)
            connection.close()

    def _take(self, buffer: bytes) -> bytes:
        while found := _LENGTH.match(buffer):
            end = found.end() + int(found[1])
            if len(buffer) < end:
                break
            self.told.append(_parsed(buffer[found.end() : end]))
            buffer = buffer[end:]
        return buffer


def _parsed(message: bytes) -> Told:
    found = _MESSAGE.fullmatch(message)
    assert found, message[:200]
    sequence_id = _SEQUENCE_ID.fullmatch(found[7])
    return Told(
        int(found[1]),
        found[3].decode(),
        found[4].decode(),
        found[6].decode(),
        None if sequence_id is None else int(sequence_id[1]),
        found[8],
    )


def _reset(connection: ssl.SSLSocket) -> None:
    """Wake whoever reads; what it then closes is reset, without a farewell."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RD)


@contextmanager
def syslog(identity: Identity, trusted: str) -> Iterator[Syslog]:
    """Start a server with this certificate, for those whose certificate is trusted."""
    server = Syslog(identity, trusted)
    server.start()
    yield server
    server.stop()
