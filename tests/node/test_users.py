"""User identity: a site may ask who uses the calling system (PS3.7 section D.3.3.7)."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydicom.data import get_testdata_file
from pynetdicom import AE
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.sop_class import Verification

from node.dimse.identity import hashed
from tests.node.receiving import instances, listening
from tests.peers import dcmtk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.settings import Settings
    from node.store.ledger import Ledger

PASSCODE = "correct horse"
SLICE = Path(str(get_testdata_file("CT_small.dcm")))


@pytest.fixture
def port(settings: Settings, ledger: Ledger) -> Iterator[int]:
    with asking(settings, ledger) as port:
        yield port


@contextmanager
def asking(settings: Settings, ledger: Ledger) -> Iterator[int]:
    users = settings.listen.model_copy(update={"users": {"ct1": hashed(PASSCODE)}})
    with listening(settings.model_copy(update={"listen": users}), ledger) as port:
        yield port


def answer(port: int, kind: int, name: bytes, passcode: bytes = b"", *, asks: bool = False):
    """Return what comes back: whether the association is there, and the answer it brings."""
    entity = AE("CT1")
    entity.add_requested_context(Verification)
    identity = UserIdentityNegotiation()
    identity.user_identity_type, identity.primary_field = kind, name
    identity.secondary_field, identity.positive_response_requested = passcode, asks
    association = entity.associate("127.0.0.1", port, ae_title="RADNODE", ext_neg=[identity])
    established = association.is_established
    said = association.acceptor.user_identity if established else None
    if established:
        association.release()
    return established, said and said.server_response, association.acceptor.primitive


def test_who_says_the_passcode_sends(port, ledger):
    named = ["-usr", "ct1", "-pwd", PASSCODE]
    assert dcmtk.storescu(port, [SLICE], *named).returncode == 0
    assert dcmtk.storescu(port, [SLICE], *named, "-rsp").returncode == 0
    assert len(instances(ledger)) == 1


@pytest.mark.parametrize(
    ("kind", "name", "passcode"),
    [
        (1, b"ct1", b""),
        (2, b"ct1", b"wrong"),
        (2, b"ct1", b"\xff\xfe\x00"),
        (2, b"nobody", PASSCODE.encode()),
        (2, b"\xff" * 200, PASSCODE.encode()),
        (3, b"a ticket", b""),
        (4, b"<saml/>", b""),
        (5, b"a.web.token", b""),
    ],
)
def test_whoever_else_is_rejected(port, kind, name, passcode):
    established, _, said = answer(port, kind, name, passcode)
    assert not established
    assert (said.result, said.result_source, said.diagnostic) == (1, 2, 1)


def test_who_names_nobody_is_rejected_too(port):
    assert dcmtk.storescu(port, [SLICE]).returncode != 0
    assert dcmtk.echoscu(port).returncode != 0


def test_a_right_passcode_stays_right_and_a_wrong_one_wrong(port):
    for _ in range(2):
        assert answer(port, 2, b"ct1", PASSCODE.encode(), asks=True)[:2] == (True, b"")
        assert not answer(port, 2, b"ct1", b"wrong")[0]


def test_a_hash_that_is_none_lets_nobody_in(settings, ledger):
    plain = settings.listen.model_copy(update={"users": {"ct1": PASSCODE}})
    with listening(settings.model_copy(update={"listen": plain}), ledger) as port:
        assert not answer(port, 2, b"ct1", PASSCODE.encode())[0]


def test_where_no_user_is_listed_none_is_asked_for(settings, ledger):
    with listening(settings, ledger) as port:
        assert answer(port, 2, b"whoever", b"whatever")[0]
