"""Retain: give up what is final and old, and what is final when the disk runs low.

First the ledger says that a study is released, then its files go (``remove``). What is not
analysed and delivered stays, whatever the disk says; then a person is told in time.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from node.crashpoint import reach
from node.deliver import reject_superseded
from node.log import get_logger, short
from node.remove import free_bytes, put_back, remove
from node.settings import DimseDestination
from node.store import events, removals, retention
from node.terms import DAY_S

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from sqlalchemy import Connection

    from node.settings import Settings
    from node.store.ledger import Ledger
    from node.store.retention import Released

    Find = Callable[[Connection], tuple[str, ...]]
    Release = Callable[[Connection, str], Released | None]

log = get_logger(__name__)

LOOK_S = 60.0
"""How often to look for what is old, and at the disk."""
REMOVE_S = 1.0
"""The same for files on their way out: one whose row comes again is back before its analysis."""
SETTLED_S = 120.0
"""Nothing goes sooner after it became final: by then all is planned that is to be sent of it."""
PAUSE_S = 0.02
"""Between two studies: others write too."""
AT_ONCE = 100
"""Studies that one question to the ledger is about."""
TELL_S = DAY_S
"""How often to say that the disk is low and nothing may go."""

LOW = (
    "Make room, or settle what waits for a person: 'radnode reconcile' counts it, 'radnode jobs "
    "--state quarantined' and 'radnode deliveries --state refused' list it."
)


def uncommitting(settings: Settings) -> tuple[str, ...]:
    """Return the destinations that have taken a result for good once they have accepted it."""
    return tuple(
        name
        for name, one in settings.destinations.items()
        if not (isinstance(one, DimseDestination) and one.commit)
    )


def run(settings: Settings, ledger: Ledger, stop: threading.Event) -> None:
    """Give up what may go until ``stop``. Nothing but ``stop`` ends it."""
    look_at = told_at = -TELL_S
    while not stop.is_set():
        wait_s = LOOK_S
        try:
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + LOOK_S
                run_once(settings, ledger, stop)
                if needed_bytes(settings, ledger) > 0 and time.monotonic() >= told_at + TELL_S:
                    told_at = time.monotonic()
                    tell_low(settings, ledger)
            wait_s = REMOVE_S if remove(settings, ledger) else LOOK_S
        except SQLAlchemyError:
            log.warning("ledger_away")
        except OSError as error:
            log.error("disk_failed", reason=error.strerror)
        stop.wait(wait_s)


def run_once(settings: Settings, ledger: Ledger, stop: threading.Event) -> int:
    """Give up what is old, then as much as the disk needs; the number of releases."""
    put_back(settings, ledger)
    reject_superseded(settings, ledger)
    terms, final = settings.retain, uncommitting(settings)
    with ledger.write() as db:
        retention.release_own_results(db, for_s=terms.studies_s)
    number = 0
    for find, release, days in (
        (retention.final_studies, retention.release_study, terms.studies_days),
        (retention.final_results, retention.release_results, terms.results_days),
    ):
        why, for_s = f"nothing has happened to it for {days:g} days", days * DAY_S
        number += _release(
            ledger,
            partial(find, uncommitting=final, for_s=for_s, limit=AT_ONCE),
            partial(release, uncommitting=final, for_s=for_s, why=why),
            lambda: not stop.is_set(),
        )
    return number + _make_room(settings, ledger, stop)


def _make_room(settings: Settings, ledger: Ledger, stop: threading.Event) -> int:
    """Give up final studies while the disk is low, the oldest first, then results; how many."""
    final, number = uncommitting(settings), 0
    for find, release in (
        (partial(retention.final_studies, analysed=True), retention.release_study),
        (retention.final_results, retention.release_results),
    ):
        number += _release(
            ledger,
            partial(find, uncommitting=final, for_s=SETTLED_S, limit=1),
            partial(release, uncommitting=final, for_s=SETTLED_S, why="the disk is low"),
            lambda: not stop.is_set() and needed_bytes(settings, ledger) > 0,
        )
    return number


def _release(ledger: Ledger, find: Find, release: Release, more: Callable[[], bool]) -> int:
    """Give up all that is found, one study a transaction, while there shall be more; how many."""
    number = 0
    while more():
        with ledger.read() as db:
            found = find(db)
        gone = 0
        for study_uid in found:
            with ledger.write() as db:
                released = release(db, study_uid)
            reach("retain.released")
            if released is not None:
                gone += 1
                log.info("released", study=short(study_uid), what=released.in_words)
            time.sleep(PAUSE_S)
        if not gone:
            break
        number += gone
    return number


def needed_bytes(settings: Settings, ledger: Ledger) -> int:
    """Return how many bytes too few are free once all is gone that is on its way out."""
    keep = max(settings.retain.keep_free_bytes, settings.spool.minimum_free_bytes)
    with ledger.read() as db:
        return keep - free_bytes(settings.data) - removals.waiting_bytes(db)


def tell_low(settings: Settings, ledger: Ledger) -> None:
    """Tell a person that the disk is low and that nothing on it may go."""
    free = free_bytes(settings.data) / 1e9
    what = f"{free:.2f} GB of the disk are free, and nothing more on it may be removed."
    log.error("disk_low", what=what, do=LOW)
    with ledger.write() as db:
        events.record(db, "disk_low", detail=f"{what} {LOW}")
