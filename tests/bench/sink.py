"""A peer that takes every instance, keeps nothing, and answers at once: the limit of sending."""

from __future__ import annotations

import argparse
import socket
import struct

from tests.peers import by_hand

BUFFER_BYTES = 1 << 20


def main() -> None:
    """Serve one association after another until killed. Prints its port once it listens."""
    parser = argparse.ArgumentParser(description="Takes all, keeps nothing.")
    parser.add_argument("--pdu-bytes", type=int, default=131_072)
    given = parser.parse_args()
    buffer = memoryview(bytearray(BUFFER_BYTES))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            with by_hand.accept(listener, maximum_bytes=given.pdu_bytes) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    _drain(connection, buffer)
                except OSError:
                    continue


def _drain(connection: socket.socket, buffer: memoryview) -> None:
    """Answer what comes until the peer releases the association or closes."""
    command, left, begin, end, control = b"", 0, 0, 0, 0
    while received := connection.recv_into(buffer[end:]):
        end += received
        while begin < end:
            if not left:
                if end - begin < 12 and buffer[begin] != by_hand.RELEASE_RQ:
                    break
                if buffer[begin] == by_hand.RELEASE_RQ:
                    connection.sendall(by_hand.header(by_hand.RELEASE_RP) + bytes(4))
                    return
                left, control = struct.unpack_from(">2xL5xB", buffer, begin)
                left -= 6
                begin += 12
            used = min(left, end - begin)
            if control & by_hand.COMMAND:
                command += bytes(buffer[begin : begin + used])
            begin += used
            left -= used
            if not left and control == by_hand.LAST:
                connection.sendall(by_hand.response(by_hand.message_id_of(command)))
                command = b""
        buffer[: end - begin] = bytes(buffer[begin:end])
        begin, end = 0, end - begin


if __name__ == "__main__":
    main()
