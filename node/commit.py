"""Commit: ask each destination to answer for what it was sent, until it has.

An answer is taken wherever it arrives: on the association that asked, or by the listener.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from sqlalchemy.exc import OperationalError

from node.crashpoint import reach
from node.deliver import LEDGER_PAUSE_S, REJECTED_PAUSE_S, for_each_destination, pause_s
from node.dimse import commitment
from node.dimse.association import AssociationRejected
from node.errors import DeliveryError, PeerRefused
from node.log import get_logger, short
from node.settings import DimseDestination
from node.store import commitments, deliveries, events

if TYPE_CHECKING:
    from threading import Event

    from node.domain import Commitment
    from node.settings import Settings
    from node.store.ledger import Ledger

log = get_logger(__name__)

POLL_S = 0.25
HOLD_S = 5.0
"""How long an association stays open for an answer on it (PS3.4 section J.3.3)."""
LONGEST_REST_S = 60.0
"""Between attempts at a destination that cannot be asked, whatever waits for it."""


def run(settings: Settings, ledger: Ledger, stop: Event) -> None:
    """Ask until ``stop`` is set. Raises what a destination's thread could not handle."""
    for_each_destination(
        _committing(settings), stop, lambda name: _serve(settings, ledger, name, stop)
    )


def run_once(settings: Settings, ledger: Ledger, *, hold_s: float = HOLD_S) -> int:
    """Ask every destination once for all that is due; the number of transactions opened.

    Raises:
        DeliveryError: The first destination that could not be asked. What it should have
            answered for is due again later.
    """
    stop = threading.Event()
    return sum(
        ask(settings, ledger, name, stop, attempts=1, hold_s=hold_s)
        for name in _committing(settings)
    )


def ask(
    settings: Settings,
    ledger: Ledger,
    name: str,
    stop: Event,
    *,
    attempts: int,
    hold_s: float = HOLD_S,
) -> int:
    """Ask one destination, on one association, for all that is due; how many transactions.

    Raises:
        DeliveryError: It could not be asked. What was claimed is due again after a pause that
            grows with ``attempts``.
    """
    destination = settings.destination(name)
    if not isinstance(destination, DimseDestination):
        return 0
    claimed = _claim(ledger, name, destination.commit_timeout_s)
    if claimed is None:
        return 0
    asked: set[str] = set()
    arrived = threading.Event()
    try:
        with commitment.associate_for_commitment(
            settings, destination, ledger, arrived
        ) as association:
            while claimed is not None and not stop.is_set():
                reach("commit.row_written")
                commitment.request(
                    association, claimed, len(asked) + 1, timeout_s=destination.timeout_s
                )
                reach("commit.requested")
                log.info("commitment_requested", **_fields(claimed))
                asked.add(claimed.transaction_uid)
                claimed = _claim(ledger, name, destination.commit_timeout_s)
            _wait_for_answers(ledger, asked, arrived, stop, hold_s)
    except DeliveryError as error:
        if claimed is not None:
            _abandon(ledger, claimed, error, attempts)
        raise
    return len(asked)


def _committing(settings: Settings) -> list[str]:
    return [
        name
        for name, destination in settings.destinations.items()
        if isinstance(destination, DimseDestination) and destination.commit
    ]


def _serve(settings: Settings, ledger: Ledger, name: str, stop: Event) -> None:
    failures = 0
    while not stop.is_set():
        try:
            asked = ask(settings, ledger, name, stop, attempts=failures + 1)
        except DeliveryError:
            failures += 1
            stop.wait(min(pause_s(failures), LONGEST_REST_S))
        except OperationalError:
            log.warning("ledger_away", destination=name)
            stop.wait(LEDGER_PAUSE_S)
        else:
            failures = 0
            if not asked:
                stop.wait(POLL_S)


def _claim(ledger: Ledger, name: str, timeout_s: float) -> Commitment | None:
    with ledger.write() as db:
        return deliveries.claim_uncommitted(db, name, timeout_s=timeout_s)


def _wait_for_answers(
    ledger: Ledger, asked: set[str], arrived: Event, stop: Event, hold_s: float
) -> None:
    """Return when all is answered, here or to the listener, or after ``hold_s``."""
    until = time.monotonic() + hold_s
    while not stop.is_set() and time.monotonic() < until:
        arrived.clear()
        with ledger.read() as db:
            if not commitments.unanswered(db, asked):
                reach("commit.answered")
                return
        arrived.wait(POLL_S)


def _abandon(ledger: Ledger, claimed: Commitment, error: DeliveryError, attempts: int) -> None:
    told = isinstance(error, AssociationRejected | PeerRefused)
    retry_in_s = REJECTED_PAUSE_S if told else pause_s(attempts)
    with ledger.write() as db:
        deliveries.abandon_commitment(
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
