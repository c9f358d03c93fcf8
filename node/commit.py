"""Commit: ask each destination to answer for what it was sent, until it has; and answer others.

An answer is taken wherever it arrives: on the association that asked, or by the listener.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy.exc import InterfaceError, OperationalError

from node import pledge, wake
from node.crashpoint import reach
from node.deliver import (
    LEDGER_PAUSE_S,
    LOOK_AGAIN_S,
    REJECTED_PAUSE_S,
    every_minute,
    pause_s,
    tell_waiting,
    together,
)
from node.dimse import commitment
from node.errors import AssociationRejected, DeliveryError, PeerRefused
from node.log import get_logger, short
from node.settings import DimseDestination
from node.store import commitments, events, outages, timers

if TYPE_CHECKING:
    from threading import Event

    from node.domain import Commitment
    from node.settings import Settings
    from node.store.ledger import Ledger
    from node.wake import Alarm

log = get_logger(__name__)

ANSWER_POLL_S = 0.25
"""An answer that comes to the listener, a process of its own, is looked for this often."""
HOLD_S = 5.0
"""How long an association stays open for an answer on it (PS3.4 section J.3.3)."""
SHORT_HOLD_S = 0.5
"""The same, for a destination that took longer last time: it answers on a new association."""
LONGEST_REST_S = 60.0
"""Between attempts at a destination that cannot be asked, whatever waits for it."""


def run(settings: Settings, ledger: Ledger, alarm: Alarm, stop: Event) -> None:
    """Ask until ``stop`` is set. Raises what a destination's thread could not handle.

    Args:
        settings: Of the node.
        ledger: Migrated.
        alarm: Wakes this stage; rung by it when a destination has answered.
        stop: Ends it.
    """
    together(
        stop,
        partial(every_minute, stop, partial(_look, settings, ledger)),
        partial(pledge.run, settings, ledger, alarm, stop),
        *(partial(_serve, settings, ledger, one, alarm, stop) for one in _committing(settings)),
    )


def run_once(settings: Settings, ledger: Ledger, *, hold_s: float = HOLD_S) -> int:
    """Ask every destination for all that is due; the number of transactions opened.

    Raises:
        DeliveryError: The first destination that could not be asked. What it should have
            answered for is due again later.
    """
    asked = 0
    for name in _committing(settings):
        while ask(settings, ledger, name, attempts=1, hold_s=hold_s) is not None:
            asked += 1
    return asked


def ask(
    settings: Settings, ledger: Ledger, name: str, *, attempts: int, hold_s: float
) -> bool | None:
    """Ask one destination to commit to what it was sent of one study.

    One request an association: an archive that reports on it while the next request arrives
    takes the one for the other's response (pynetdicom's does).

    Returns:
        Whether the answer came within ``hold_s``, on this association or to the listener; None
        if nothing was due.

    Raises:
        DeliveryError: It could not be asked. What was claimed is due again after a pause that
            grows with ``attempts``.
    """
    destination = settings.destination(name)
    if not isinstance(destination, DimseDestination):
        return None
    with ledger.write() as db:
        claimed = commitments.claim_uncommitted(db, name, timeout_s=destination.commit_timeout_s)
    if claimed is None:
        return None
    reach("commit.row_written")
    arrived = threading.Event()
    try:
        with commitment.associate_for_commitment(
            settings, destination, ledger, arrived
        ) as association:
            commitment.request(association, claimed, timeout_s=destination.timeout_s)
            reach("commit.requested")
            log.info("commitment_requested", **_fields(claimed))
            return _answered(ledger, claimed, arrived, hold_s)
    except DeliveryError as error:
        _abandon(ledger, claimed, error, attempts)
        raise


def _committing(settings: Settings) -> dict[str, DimseDestination]:
    return {
        name: destination
        for name, destination in settings.destinations.items()
        if isinstance(destination, DimseDestination) and destination.commit
    }


def _look(settings: Settings, ledger: Ledger) -> None:
    """Tell a person what nobody has answered for."""
    with ledger.read() as db:
        waiting = outages.uncommitted(db, _committing(settings))
    tell_waiting(ledger, waiting)


def _serve(settings: Settings, ledger: Ledger, name: str, alarm: Alarm, stop: Event) -> None:
    failures, hold_s = 0, HOLD_S
    timeout_s = _committing(settings)[name].commit_timeout_s
    while not stop.is_set():
        heard, answered = alarm.rung, None
        try:
            with ledger.read() as db:
                wait_s = timers.commitment_due_in_s(db, name, timeout_s=timeout_s)
            if not wait_s:
                answered = ask(settings, ledger, name, attempts=failures + 1, hold_s=hold_s)
        except DeliveryError:
            failures += 1
            stop.wait(min(pause_s(failures), LONGEST_REST_S))
        except (OperationalError, InterfaceError):
            log.warning("ledger_away", destination=name)
            stop.wait(LEDGER_PAUSE_S)
        else:
            if answered is None:
                alarm.wait(heard, min(wake.POLL_S, wait_s or LOOK_AGAIN_S))
                continue
            alarm.ring()  # what it has lost is due again, after a while
            failures, hold_s = 0, HOLD_S if answered else SHORT_HOLD_S


def _answered(ledger: Ledger, claimed: Commitment, arrived: Event, hold_s: float) -> bool:
    until = time.monotonic() + hold_s
    while True:
        arrived.clear()
        with ledger.read() as db:
            if commitments.is_answered(db, claimed.transaction_uid):
                reach("commit.answered")
                return True
        if time.monotonic() >= until:
            return False
        arrived.wait(ANSWER_POLL_S)


def _abandon(ledger: Ledger, claimed: Commitment, error: DeliveryError, attempts: int) -> None:
    told = isinstance(error, AssociationRejected | PeerRefused)
    retry_in_s = REJECTED_PAUSE_S if told else pause_s(attempts)
    with ledger.write() as db:
        commitments.abandon_commitment(
            db, claimed.transaction_uid, what=error.what, retry_in_s=retry_in_s
        )
        if told:
            detail = f"{error.what} {error.do}"
            events.record(db, "not_asked", subject=claimed.destination, detail=detail)
    log.warning(
        "commitment_not_requested",
        **_fields(claimed),
        what=error.what,
        retry_in_s=round(retry_in_s, 1),
    )


def _fields(claimed: Commitment) -> dict[str, str | int]:
    return {
        "destination": claimed.destination,
        "transaction": short(claimed.transaction_uid),
        "objects": len(claimed.references),
    }
