"""Syslog over TLS: everything arrives, in its order, whatever happens to the server or to us."""

from __future__ import annotations

import socket
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from lxml import etree

from node.audit import outbox, syslog
from node.audit.chain import Chain
from node.audit.messages import Source
from node.audit.outbox import Outbox, Reader
from node.check import check
from node.errors import ConfigError, SyslogAway
from node.settings import Audit, Syslog
from tests.node.trails import body, places_in, written
from tests.peers import free_port, wait_until
from tests.peers import syslog as peer
from tests.peers.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from node.audit.chain import Places
    from node.settings import Settings

SOURCE = Source("radnode-1", "", "RADNODE", "node")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def server(authority: Authority) -> Iterator[peer.Syslog]:
    with peer.syslog(authority.issue("127.0.0.1"), str(authority.certificate)) as server:
        yield server


@pytest.fixture
def configured(server: peer.Syslog, authority: Authority) -> Syslog:
    node = authority.issue("node.hospital.lan")
    return Syslog(
        host="127.0.0.1",
        port=server.port,
        certificate=node.certificate,
        key=node.key,
        trusted=authority.certificate,
    )


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return places_in(tmp_path)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was away is asked again at once."""
    monkeypatch.setattr(outbox, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(outbox, "BATCH", 7)


def numbers(server: peer.Syslog) -> list[int]:
    """Return the numbers of the records that came, without those that came again."""
    came = [one.sequence_id for one in server.told if one.sequence_id is not None]
    return list(dict.fromkeys(came))


def work(sending: Outbox, chain: Chain, server: peer.Syslog, until: int) -> None:
    """Let an outbox work until the server has this many records."""
    wait_until(lambda: not sending.turn(chain.head) and len(numbers(server)) == until)


def send(places: Places, configured: Syslog, until: int, server: peer.Syslog) -> None:
    """Let an outbox work for one life of its process."""
    sending = Outbox(configured, places.folder, SOURCE)
    with Chain(places, segment_bytes=4_000) as chain:
        work(sending, chain, server, until)
        sending.finish(chain.head)


def test_a_message_is_framed_as_the_standards_ask(
    places: Places, configured: Syslog, server: peer.Syslog
):
    written(places, 1)
    send(places, configured, 1, server)
    told, head, last = server.told
    assert (told.priority, told.application, told.host) == (85, "radnode", "node")
    assert (told.message_id, told.sequence_id) == ("DICOM+RFC3881", 1)
    assert etree.fromstring(told.text).tag == "AuditMessage"
    with Chain(places, segment_bytes=4_000) as chain:
        assert head.message_id == last.message_id == "AUDIT-HEAD"
        assert head.text.decode() == str(chain.head)


def test_everything_that_waited_for_the_server_arrives_in_its_order(
    places: Places, configured: Syslog, server: peer.Syslog
):
    server.stop()
    sending = Outbox(configured, places.folder, SOURCE)
    written(places, 60)
    with Chain(places, segment_bytes=4_000) as chain:
        for _ in range(3):
            assert not sending.turn(chain.head)
        server.start()
        work(sending, chain, server, 60)
        sending.finish(chain.head)
    assert numbers(server) == list(range(1, 61))
    assert [one.sequence_id for one in server.told if one.sequence_id] == list(range(1, 61))


@pytest.mark.parametrize("dies_after", [1, 2_000, 9_000, 30_000])
def test_a_server_that_dies_while_it_is_told_misses_nothing(
    places: Places, configured: Syslog, server: peer.Syslog, dies_after: int
):
    written(places, 60)
    server.dies_after = dies_after
    sending = Outbox(configured, places.folder, SOURCE)
    with Chain(places, segment_bytes=4_000) as chain:

        def died() -> bool:
            sending.turn(chain.head)
            return server.dies_after is None

        wait_until(died)
        server.start()
        work(sending, chain, server, 60)
        sending.finish(chain.head)
    assert sorted(numbers(server)) == list(range(1, 61))
    came = [one.sequence_id for one in server.told if one.sequence_id]
    # Each connection tells in order, without a gap; the second begins where nobody can be sure.
    assert all(b == a + 1 or b <= a for a, b in pairwise(came))


def test_after_a_restart_only_the_rest_is_told(
    places: Places, configured: Syslog, server: peer.Syslog
):
    written(places, 20)
    send(places, configured, 20, server)
    written(places, 20)
    send(places, configured, 40, server)
    assert [one.sequence_id for one in server.told if one.sequence_id] == list(range(1, 41))
    assert server.connections == 2


def test_a_server_that_leaves_without_a_farewell_is_told_the_last_minute_again(
    places: Places, configured: Syslog, server: peer.Syslog
):
    server.polite = False
    written(places, 5)
    send(places, configured, 5, server)
    server.polite = True
    written(places, 5)
    send(places, configured, 10, server)
    came = [one.sequence_id for one in server.told if one.sequence_id]
    assert came == [*range(1, 6), *range(1, 11)]


def test_what_was_taken_long_ago_is_not_told_again(
    places: Places, configured: Syslog, server: peer.Syslog, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(syslog, "CERTAIN_S", 0.0)
    written(places, 30)
    sending = Outbox(configured, places.folder, SOURCE)
    with Chain(places, segment_bytes=4_000) as chain:
        work(sending, chain, server, 30)
        server.stop()
        chain.append([body(31)])
        wait_until(lambda: not sending.turn(chain.head))
        server.start()
        work(sending, chain, server, 31)
        sending.finish(chain.head)
    assert [one.sequence_id for one in server.told if one.sequence_id] == list(range(1, 32))


def test_a_server_that_takes_nothing_more_is_left_and_told_later(
    places: Places, configured: Syslog, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(syslog, "TIMEOUT_S", 0.2)
    deaf = configured.model_copy(update={"port": free_port()})
    with socket.create_server(("127.0.0.1", deaf.port)), pytest.raises(SyslogAway):
        syslog.Connection(deaf).send(1, [b"1 x"])


def test_a_server_with_another_name_or_authority_is_not_told(
    places: Places, configured: Syslog, authority: Authority, tmp_path: Path
):
    written(places, 3)
    stranger = Authority(tmp_path / "stranger")
    for server in (authority.issue("elsewhere.lan"), stranger.issue("127.0.0.1")):
        with peer.syslog(server, str(authority.certificate)) as impostor:
            there = configured.model_copy(update={"port": impostor.port})
            with pytest.raises(SyslogAway, match=r"certificate|mismatch|IP address"):
                syslog.Connection(there).send(1, [b"1 x"])
            assert impostor.told == []


def test_a_node_that_the_server_does_not_know_is_told_so(
    configured: Syslog, server: peer.Syslog, tmp_path: Path
):
    stranger = Authority(tmp_path / "stranger").issue("node.hospital.lan")
    unknown = configured.model_copy(
        update={"certificate": stranger.certificate, "key": stranger.key}
    )
    connection = syslog.Connection(unknown)

    def refused() -> bool:
        """Of TLS 1.3 the refusal comes after the handshake."""
        try:
            connection.send(1, [b"1 x"])
        except SyslogAway:
            return True
        return False

    wait_until(refused)
    assert server.told == []


def test_a_certificate_that_is_not_there_is_an_error_of_the_configuration(
    configured: Syslog, tmp_path: Path
):
    with pytest.raises(ConfigError, match=r"audit\.syslog"):
        syslog.Connection(configured.model_copy(update={"key": tmp_path / "none"}))


def test_a_reader_follows_a_chain_through_its_segments(places: Places):
    written(places, 10, segment_bytes=500)
    reader = Reader(places.folder, 3)
    came: list[int] = []
    for more in (0, 5, 1):
        written(places, more, segment_bytes=500)
        while taken := reader.take(2):
            came += [one.number for one in taken]
    assert came == list(range(4, 17))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_check_asks_whether_the_server_answers(
    settings: Settings, configured: Syslog, server: peer.Syslog
):
    told = settings.model_copy(update={"audit": Audit(syslog=configured)})
    assert [one.ok for one in check(told) if "syslog server" in one.what] == [True]
    server.stop()
    assert [one.ok for one in check(told) if "syslog server" in one.what] == [False]
