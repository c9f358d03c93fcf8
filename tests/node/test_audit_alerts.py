"""Alerts: whoever is turned away or logs in stands in the ledger, and a flood of them does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pynetdicom import AE
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.sop_class import Verification

from node.dimse import alerts
from node.dimse.alerts import tell
from node.dimse.identity import hashed
from tests.node.receiving import event_kinds, event_rows, listening
from tests.peers import wait_until

if TYPE_CHECKING:
    from node.settings import Settings
    from node.store.ledger import Ledger

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def call(port: int, calling_ae: str, *items: UserIdentityNegotiation) -> bool:
    entity = AE(calling_ae)
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", port, ae_title="RADNODE", ext_neg=list(items))
    established = bool(association.is_established)
    if established:
        association.release()
    return established


def named(name: bytes, passcode: bytes) -> UserIdentityNegotiation:
    item = UserIdentityNegotiation()
    item.user_identity_type = 2
    item.primary_field, item.secondary_field = name, passcode
    return item


def test_a_stranger_is_told_of_once_a_minute(settings: Settings, ledger: Ledger):
    listed = settings.listen.model_copy(update={"accept_from": {"CT1": "127.0.0.1"}})
    with listening(settings.model_copy(update={"listen": listed}), ledger) as port:
        assert not any(call(port, "EVIL") for _ in range(3))
        assert call(port, "CT1")
        wait_until(lambda: "association_rejected" in event_kinds(ledger))
    (told,) = event_rows(ledger, "association_rejected")
    assert told["subject"] == "EVIL"
    assert told["detail"] == "127.0.0.1: not in listen.accept_from"


def test_who_logs_in_is_told_of_by_name_and_who_may_not_without(settings: Settings, ledger: Ledger):
    asked = settings.listen.model_copy(update={"users": {"ct1": hashed("right")}})
    with listening(settings.model_copy(update={"listen": asked}), ledger) as port:
        assert call(port, "CT1", named(b"ct1", b"right"))
        assert not call(port, "CT1", named(b"a passcode by mistake", b"wrong"))
        wait_until(lambda: "login_refused" in event_kinds(ledger))
    (accepted,) = event_rows(ledger, "logged_in")
    (refused,) = event_rows(ledger, "login_refused")
    assert (accepted["subject"], accepted["detail"]) == ("ct1", "127.0.0.1: as CT1")
    assert refused["subject"] == "CT1"
    assert "mistake" not in repr(refused)


def test_a_flood_leaves_a_few_events_and_its_number(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    for number in range(10_000):
        tell(ledger, "association_rejected", f"EVIL{number}", "10.0.0.1: not in listen.accept_from")
    assert len(event_rows(ledger, "association_rejected")) == alerts.MOST
    monkeypatch.setattr(alerts, "SAME_S", 0.0)
    tell(ledger, "association_rejected", "EVIL", "10.0.0.1: not in listen.accept_from")
    last = event_rows(ledger, "association_rejected")[-1]
    assert f"{10_000 - alerts.MOST} alerts before it" in last["detail"]
