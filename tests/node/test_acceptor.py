"""An established association: stores and other messages on it, many at once, and its ends."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.sop_class import Verification
from sqlalchemy.exc import SQLAlchemyError

from node.dimse.gate import Identity
from node.dimse.receive import Receiver, Sender, received
from node.domain import Receipt
from node.spool import Spool
from tests.node.receiving import instances, listening, open_associations, parts, stored
from tests.peers import scanner, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.settings import Settings
    from node.store.ledger import Ledger

one_database = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

CT = (CTImageStorage, ExplicitVRLittleEndian)
ECHO = (Verification, ExplicitVRLittleEndian)


@pytest.fixture
def port(settings: Settings, ledger: Ledger) -> Iterator[int]:
    with listening(settings, ledger) as port:
        yield port


@one_database
def test_stores_and_echoes_share_an_association(port, settings):
    with scanner.associate(port, [CT, ECHO]) as ct1:
        for number in range(1, 4):
            assert ct1.echo() == 0x0000
            assert ct1.store(scanner.ct_slice(number)).status == 0x0000
        assert ct1.echo() == 0x0000
    assert len(stored(settings)) == 3


@one_database
def test_a_message_nobody_serves_ends_its_association_and_no_other(port, settings):
    find = scanner.command_set({0x0002: str(CTImageStorage), 0x0100: 0x0020, 0x0110: 1, 0x0800: 1})
    with scanner.associate(port, [CT]) as other, scanner.associate(port, [CT]) as ct1:
        context_id = ct1.accepted[str(CTImageStorage), ExplicitVRLittleEndian]
        ct1.send_pdv(context_id, 3, scanner.command_set({0x0100: 0x7777, 0x0110: 1}))
        assert ct1.answer().status is None
        other.send_pdv(context_id, 3, find)
        other.send_pdv(context_id, 2, b"")
        assert other.answer().status != 0x0000
    assert scanner.send(port, [scanner.ct_slice()])[0].status == 0x0000
    assert len(stored(settings)) == 1


@one_database
def test_two_messages_must_not_be_mixed(port, settings, ledger):
    store = scanner.store_command(str(CTImageStorage), "1.2.3.4.1")
    mixed = {
        "a data set without a command": [(0, 2, b"ab")],
        "a command within a data set": [(0, 3, store), (0, 0, b"ab"), (0, 3, store)],
        "a data set in another context": [(0, 3, store), (2, 2, b"ab")],
        "a command in two contexts": [(0, 1, store[:20]), (2, 3, store[20:])],
        "a command without end": [(0, 1, b"\0" * 40_000), (0, 1, b"\0" * 40_000)],
    }
    for pdvs in mixed.values():
        with scanner.associate(port, [CT, ECHO]) as ct1:
            first = ct1.accepted[str(CTImageStorage), ExplicitVRLittleEndian]
            for offset, control, content in pdvs:
                ct1.send_pdv(first + offset, control, content)
            assert ct1.answer().status is None
    wait_until(lambda: open_associations(ledger) == [])
    assert parts(settings) == []
    assert stored(settings) == {}


@one_database
def test_a_command_may_come_in_pieces(port, settings):
    with scanner.associate(port, [CT]) as ct1:
        context_id = ct1.accepted[str(CTImageStorage), ExplicitVRLittleEndian]
        dataset = scanner.ct_slice()
        command = scanner.store_command(str(CTImageStorage), dataset.SOPInstanceUID)
        for at in range(0, len(command) - 10, 10):
            ct1.send_pdv(context_id, 1, command[at : at + 10])
        ct1.send_pdv(context_id, 3, command[(len(command) - 1) // 10 * 10 :])
        ct1.send_pdv(context_id, 0, scanner.encode(dataset)[:100])
        ct1.send_pdv(context_id, 2, scanner.encode(dataset)[100:])
        assert ct1.answer().status == 0x0000
    assert list(stored(settings).values()) == [scanner.encode(dataset)]


def test_many_associations_at_once_lose_nothing(port, settings, ledger):
    start = threading.Barrier(24)

    def send(number: int) -> list[int | None]:
        with scanner.associate(port, [CT]) as ct1:
            start.wait(60)
            slices = [
                scanner.ct_slice(100 * number + n, series=f"1.2.3.{number % 5}") for n in range(8)
            ]
            return [ct1.store(one).status for one in (*slices, slices[0])]

    with ThreadPoolExecutor(24) as pool:
        statuses = list(pool.map(send, range(24)))
    assert statuses == [[0x0000] * 9] * 24
    assert len(stored(settings)) == len(instances(ledger)) == 24 * 8
    assert sum(row["resends"] for row in instances(ledger)) == 24


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_row_that_the_database_refuses_takes_no_other_with_it(settings, ledger):
    receiver = Receiver(Spool(settings.spool_folder), ledger, 0)
    good = received(
        Identity(str(CTImageStorage), "1.2.3.4.5", "1.2.3", "1.2.3.4", "CT", made_here=False),
        transfer_syntax_uid=str(ExplicitVRLittleEndian),
        digest="ab" * 32,
        path="ab/ab.dcm",
        size_bytes=1,
        sender=Sender("CT1", "association"),
    )
    bad = replace(good, sop_instance_uid="1.2.3.4.6", calling_ae="CT\0001")
    first, refused, last = receiver._index([good, bad, replace(good, sop_instance_uid="1.2.3.4.7")])
    assert (first, last) == (Receipt.NEW, Receipt.NEW)
    assert isinstance(refused, SQLAlchemyError)
    assert {row["sop_instance_uid"] for row in instances(ledger)} == {"1.2.3.4.5", "1.2.3.4.7"}
