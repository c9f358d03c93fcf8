"""Pledge: call back the peers that asked this node to answer for what they sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import InterfaceError, OperationalError

from node import wake
from node.crashpoint import reach
from node.deliver import LEDGER_PAUSE_S, pause_s
from node.dimse.pledges import call_back, judge, tell
from node.errors import DeliveryError
from node.log import get_logger, short
from node.spool import Spool
from node.store import pledges

if TYPE_CHECKING:
    from threading import Event

    from node.settings import Settings
    from node.store.ledger import Ledger
    from node.wake import Alarm

log = get_logger(__name__)

LEASE_S = 30.0
"""More than the time-out of the peer: how long telling it may take."""


def run(settings: Settings, ledger: Ledger, alarm: Alarm, stop: Event) -> None:
    """Call back until ``stop`` is set.

    Args:
        settings: Of the node.
        ledger: Migrated.
        alarm: Wakes this stage.
        stop: Ends it.
    """
    callers = list(settings.peers)
    while not stop.is_set():
        heard = alarm.rung
        try:
            if run_once(settings, ledger):
                continue
            with ledger.read() as db:
                due_in_s = pledges.due_in_s(db, callers)
        except (OperationalError, InterfaceError):
            log.warning("ledger_away")
            stop.wait(LEDGER_PAUSE_S)
            continue
        alarm.wait(heard, wake.POLL_S if due_in_s is None else min(due_in_s, wake.POLL_S))


def run_once(settings: Settings, ledger: Ledger) -> bool:
    """Call back the peer that has waited longest; False if none is due."""
    known = settings.peers
    with ledger.write() as db:
        pledge = pledges.claim(db, list(known), lease_s=LEASE_S)
    if pledge is None:
        return False
    destination = known[pledge.calling_ae]
    verdict = judge(ledger, Spool(settings.spool_folder), pledge)
    try:
        call_back(settings, destination, pledge, verdict)
    except DeliveryError as error:
        log.warning(
            "pledge_not_told",
            calling_ae=pledge.calling_ae,
            transaction=short(pledge.transaction_uid),
            what=error.what,
        )
        with ledger.write() as db:
            pledges.postpone(db, pledge, pause_s(pledges.attempts(db, pledge)))
        return True
    reach("pledge.told")
    tell(ledger, pledge, verdict)
    return True
