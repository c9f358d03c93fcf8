"""Alerts: who was turned away and who has logged in, as events for the audit trail.

A stranger may try thousands of times a second; the ledger must not feel it. The same is recorded
once a minute, and not more than a few different ones; the log has them all.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from sqlalchemy.exc import SQLAlchemyError

from node.log import get_logger
from node.store import events

if TYPE_CHECKING:
    from node.store.ledger import Ledger

log = get_logger(__name__)

SAME_S = 60.0
MOST = 20
"""In ``SAME_S``, whatever comes."""


class _Lately:
    """What this process has recorded in one ledger in the last minute."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str, str], float] = {}
        self._untold = 0

    def admit(self, alert: tuple[str, str, str]) -> int | None:
        """Return how many were not recorded before this one; None: nor shall it be."""
        now = time.monotonic()
        self._told = {one: at for one, at in self._told.items() if at > now - SAME_S}
        if alert in self._told or len(self._told) >= MOST:
            self._untold += 1
            return None
        self._told[alert] = now
        untold, self._untold = self._untold, 0
        return untold


_lately: WeakKeyDictionary[Ledger, _Lately] = WeakKeyDictionary()
_turn = threading.Lock()


def tell(ledger: Ledger, kind: str, subject: str, detail: str) -> None:
    """Record an event, unless there were too many; how many those are stands in the next.

    Args:
        ledger: Migrated.
        kind: Of the event.
        subject: Calling AE title, or the user who has logged in.
        detail: Address, ": ", and why.
    """
    with _turn:
        untold = _lately.setdefault(ledger, _Lately()).admit((kind, subject, detail))
    if untold is None:
        return
    if untold:
        detail = f"{detail}; {untold} alerts before it are in the log alone"
    try:
        with ledger.write() as db:
            events.record(db, kind, subject=subject, detail=detail)
    except SQLAlchemyError:  # who was turned away stays so
        log.warning("ledger_away")
