"""A connection before its association: what is no request ends at once, and costs little."""

from __future__ import annotations

import os
import resource
import socket
import struct
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from node import confine
from node.dimse import hardening
from tests.node.receiving import listening
from tests.peers import by_hand, dcmtk, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SLICE = Path(str(get_testdata_file("CT_small.dcm")))
CONTEXTS = [(str(CTImageStorage), str(ExplicitVRLittleEndian))]
FIRST_CONTEXT_ID = 4
"""Bytes after the type of the item."""


@pytest.fixture
def port(settings, ledger) -> Iterator[int]:
    with listening(settings, ledger) as port:
        yield port


def request() -> bytearray:
    return bytearray(by_hand.request(CONTEXTS, called_ae="RADNODE"))


def answer(connection: socket.socket) -> bytes:
    connection.settimeout(30.0)
    return connection.recv(100)


@pytest.mark.parametrize("context_id", [0, 2, 254])
def test_a_context_id_that_cannot_be_is_aborted_at_once(port, context_id):
    asked = request()
    asked[asked.index(b"\x20\x00", 74) + FIRST_CONTEXT_ID] = context_id
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(asked)
        assert answer(connection)[0] == by_hand.ABORT
        assert answer(connection) == b""
    assert dcmtk.echoscu(port).returncode == 0


@pytest.mark.parametrize("pdu_type", [0, 2, 3, 4, 5, 6, 7, 255])
def test_what_is_no_request_is_aborted(port, pdu_type):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(struct.pack(">BxL", pdu_type, 4))
        assert answer(connection)[0] == by_hand.ABORT
        assert answer(connection) == b""


def test_a_request_may_come_in_pieces(port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request():
            connection.sendall(bytes([byte]))
        assert answer(connection)[0] == by_hand.ASSOCIATE_AC


@pytest.mark.parametrize("said", [0, 3, 100], ids=["nothing", "half a header", "half a request"])
def test_who_does_not_ask_in_time_is_let_go(port, monkeypatch, said):
    monkeypatch.setattr(hardening, "ASSOCIATE_S", 0.5)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request()[:said])
        assert answer(connection) == b""


def test_who_has_not_asked_yet_is_one_thread_that_waits(port):
    before = threading.active_count()
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
    wait_until(lambda: threading.active_count() == before + 20, what="A thread for each")
    for connection in held:
        connection.close()
    wait_until(lambda: threading.active_count() == before, what="The end of them")


def test_a_pdu_without_anything_in_it_ends_the_association(port):
    with by_hand.call(port, str(CTImageStorage), called_ae="RADNODE") as connection:
        connection.sendall(struct.pack(">BxL", by_hand.P_DATA_TF, 0))
        assert answer(connection)[0] == by_hand.ABORT


def test_a_process_with_more_than_a_thousand_files_open_takes_connections(port):
    confine.open_many_files()
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2000:
        pytest.skip("this user may not open so many files")
    with Path(os.devnull).open("rb") as one, ExitStack() as held:
        for _ in range(1100):
            held.callback(os.close, os.dup(one.fileno()))
        assert dcmtk.storescu(port, [SLICE]).returncode == 0
        assert dcmtk.echoscu(port, called_ae="ELSEWHERE").returncode != 0
