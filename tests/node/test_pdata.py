"""Fragments are read from a connection as they come, whatever way their bytes are cut."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import closing, contextmanager
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.dimse.pdata import Ended, FragmentReader, InvalidPdu, Released

MAXIMUM_BYTES = 4096
RELEASE_RQ = b"\x05\x00\x00\x00\x00\x04\x00\x00\x00\x00"
ABORT = b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00"


def pdv(content: bytes, *, context_id: int = 1, control: int = 0) -> bytes:
    return struct.pack(">LBB", len(content) + 2, context_id, control) + content


def pdu(*pdvs: bytes) -> bytes:
    return struct.pack(">BxL", 4, len(b"".join(pdvs))) + b"".join(pdvs)


@contextmanager
def connected(*, pdu_s: float = 30.0, idle_s: float | None = 30.0):
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        reader = FragmentReader(ours, maximum_bytes=MAXIMUM_BYTES, pdu_s=pdu_s, idle_s=idle_s)
        yield reader, theirs


def read(*pieces: bytes, then: type[BaseException] = Ended):
    """Return [context, command?, content, last?] put together again, and how it ended."""
    whole: list[list[Any]] = []
    with connected() as (reader, peer):

        def send() -> None:
            for piece in pieces:
                peer.sendall(piece)
            peer.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        fresh = True
        with pytest.raises(then):  # noqa: PT012 - fragments are valid one by one
            for fragment in reader.fragments():
                content = bytes(fragment.content)
                if fresh:
                    whole.append([fragment.context_id, fragment.is_command, content, False])
                else:
                    whole[-1][2] += content
                fresh = whole[-1][3] = fragment.is_last
        sender.join()
    return whole


messages = st.lists(
    st.tuples(st.integers(0, 255), st.integers(0, 1), st.binary(max_size=300)), max_size=6
)


@settings(max_examples=60, deadline=None)
@given(messages, st.booleans(), st.lists(st.integers(1, 400), max_size=12))
def test_the_same_fragments_come_out_however_they_are_packed_and_cut(sent, together, cuts):
    pdvs = [pdv(content, context_id=n, control=kind | 2) for n, kind, content in sent]
    stream = pdu(*pdvs) if together and pdvs else b"".join(map(pdu, pdvs))
    ends = [0, *sorted({cut for cut in cuts if cut < len(stream)}), len(stream)]
    got = read(*(stream[a:b] for a, b in pairwise(ends)))
    assert got == [[n, bool(kind), content, True] for n, kind, content in sent]


def test_a_data_set_in_many_fragments_is_last_once():
    content = bytes(range(256)) * 16
    pieces = [content[at : at + 100] for at in range(0, len(content), 100)]
    stream = b"".join(pdu(pdv(one, control=2 * (one is pieces[-1]))) for one in pieces)
    assert read(stream) == [[1, False, content, True]]


def test_an_empty_last_fragment_ends_a_message():
    assert read(pdu(pdv(b"ab")), pdu(pdv(b"", control=2))) == [[1, False, b"ab", True]]


@pytest.mark.parametrize(
    ("stream", "how"),
    [
        (RELEASE_RQ, Released),
        (ABORT, Ended),
        (b"\x05\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00", InvalidPdu),
        (b"\x06\x00\x00\x00\x00\x04\x00\x00\x00\x00", InvalidPdu),
        (b"\x01\x00\x00\x00\x00\x04\x00\x00\x00\x00", InvalidPdu),
        (b"\xff\x00\x00\x00\x00\x04\x00\x00\x00\x00", InvalidPdu),
        (struct.pack(">BxL", 4, MAXIMUM_BYTES + 1), InvalidPdu),
        (struct.pack(">BxL", 4, 5) + b"\0" * 5, InvalidPdu),  # less than a PDV's header
        (struct.pack(">BxLLBB", 4, 6, 0, 1, 0), InvalidPdu),  # a PDV without room for its header
        (struct.pack(">BxLLBB", 4, 6, 1, 1, 0), InvalidPdu),
        (struct.pack(">BxLLBB", 4, 6, 0xFFFFFFFF, 1, 0), InvalidPdu),
        (struct.pack(">BxLLBB", 4, 8, 5, 1, 0), InvalidPdu),  # a PDV beyond its PDU
        (pdu(pdv(b"abc"))[:-1], Ended),
    ],
)
def test_what_ends_an_association(stream, how):
    assert read(pdu(pdv(b"before", control=3)), stream, then=how)[0] == [1, True, b"before", True]


def test_a_pdu_that_stops_and_a_peer_that_is_silent_time_out():
    for pdu_s, idle_s, sent in (
        (0.05, None, b"\x04\x00"),
        (30.0, 0.05, pdu(pdv(b"ab", control=2))),
    ):
        with connected(pdu_s=pdu_s, idle_s=idle_s) as (reader, peer):
            peer.sendall(sent)
            with pytest.raises(TimeoutError):
                list(reader.fragments())


def test_a_pdu_that_drips_times_out():
    with connected(pdu_s=0.2, idle_s=None) as (reader, peer):
        stop = threading.Event()

        def drip() -> None:
            peer.sendall(struct.pack(">BxL", 4, 4000))
            while not stop.wait(0.01):
                peer.send(b"\0")

        dripping = threading.Thread(target=drip)
        dripping.start()
        with pytest.raises((TimeoutError, InvalidPdu)):
            list(reader.fragments())
        stop.set()
        dripping.join()
