"""Deliver: what the ledger calls due goes to its destination, for as long as it takes.

Each destination has a thread of its own, so that one that stalls delays no other. Whatever
happens to an object stands in its ledger row as soon as it is known.
"""

from __future__ import annotations

import random
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from sqlalchemy.exc import InterfaceError, OperationalError

from node import folder
from node.crashpoint import reach
from node.dimse import sender
from node.errors import AssociationRejected, DeliveryError, PeerRefused, PeerUnreachable
from node.log import get_logger, short
from node.settings import FolderDestination
from node.store import deliveries, events, outages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from threading import Event

    from node.domain import DueDelivery
    from node.settings import Settings
    from node.store.ledger import Ledger

log = get_logger(__name__)

POLL_S = 0.2
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 900.0
REJECTED_PAUSE_S = 3600.0
"""After a permanent rejection: only a person can mend it, but may do so at the other end."""
LEDGER_PAUSE_S = 1.0


def pause_s(attempts: int) -> float:
    """Return how long to wait after ``attempts`` failed ones: 5 s doubling to 15 min, +-20 %.

    The jitter keeps nodes that lost the same PACS from all coming back to it at once.
    """
    # The exponent is capped because attempts go on for ever.
    doubled = FIRST_PAUSE_S * 2.0 ** min(max(attempts - 1, 0), 20)
    return min(doubled, LONGEST_PAUSE_S) * random.uniform(0.8, 1.2)  # noqa: S311


def run(settings: Settings, ledger: Ledger, stop: Event) -> None:
    """Deliver until ``stop`` is set. Raises what a destination's thread could not handle."""
    for_each_destination(
        tuple(settings.destinations), stop, lambda name: _serve(settings, ledger, name, stop)
    )


def run_once(settings: Settings, ledger: Ledger) -> int:
    """Try the longest waiting study of every destination once; the number of objects tried."""
    return sum(len(deliver_study(settings, ledger, name)) for name in settings.destinations)


def deliver_study(
    settings: Settings, ledger: Ledger, name: str
) -> tuple[DeliveryError | None, ...]:
    """Try to hand over what is due of one study; per object None, or why not. Empty: no work."""
    with ledger.write() as db:
        due = deliveries.claim_due(db, name)
    if not due:
        return ()
    waiting = {delivery.sop_instance_uid: delivery for delivery in due}
    errors: list[DeliveryError | None] = []
    reach("deliver.before_send")
    for sop_instance_uid, outcome in _hand_over(settings, name, due):
        reach("deliver.sent_unmarked")
        _mark(ledger, waiting[sop_instance_uid], outcome)
        errors.append(outcome if isinstance(outcome, DeliveryError) else None)
        reach("deliver.marked")
    rejection = next((e for e in errors if isinstance(e, AssociationRejected)), None)
    if rejection is not None:
        with ledger.write() as db:
            detail = f"{rejection.what} {rejection.do}"
            events.record(db, "rejected", study_uid=due[0].study_uid, subject=name, detail=detail)
        log.error("rejected", destination=name, what=rejection.what, do=rejection.do)
    return tuple(errors)


def for_each_destination(names: Sequence[str], stop: Event, serve: Callable[[str], None]) -> None:
    """Run ``serve(name)`` in a thread for each name until they return.

    If one raises, the others are stopped and its exception is raised: a supervisor starts the
    process again, whereas a silently missing thread would be a destination nobody serves.
    """
    if not names:
        stop.wait()
        return
    with ThreadPoolExecutor(len(names), thread_name_prefix="destination") as pool:
        futures = [pool.submit(serve, name) for name in names]
        wait(futures, return_when=FIRST_EXCEPTION)
        stop.set()
    for future in futures:
        future.result()


def _serve(settings: Settings, ledger: Ledger, name: str, stop: Event) -> None:
    """Deliver to one destination. What waits for it is due at once when the node starts."""
    reachable = False
    _resume(ledger, name, stop)
    while not stop.is_set():
        try:
            errors = deliver_study(settings, ledger, name)
        except (OperationalError, InterfaceError):
            log.warning("ledger_away", destination=name)
            stop.wait(LEDGER_PAUSE_S)
            continue
        if not errors:
            stop.wait(POLL_S)
        elif all(isinstance(error, PeerUnreachable) for error in errors):
            reachable = False
        elif not reachable:
            reachable = True
            _resume(ledger, name, stop)


def _resume(ledger: Ledger, name: str, stop: Event) -> None:
    while not stop.is_set():
        try:
            with ledger.write() as db:
                outages.resume(db, name)
        except (OperationalError, InterfaceError):
            log.warning("ledger_away", destination=name)
            stop.wait(LEDGER_PAUSE_S)
        else:
            return


def _hand_over(
    settings: Settings, name: str, due: Sequence[DueDelivery]
) -> Iterator[tuple[str, int | DeliveryError | None]]:
    """Yield each object's outcome: a status, None where there is no such thing, or an error."""
    destination = settings.destination(name)
    paths = {one.sop_instance_uid: settings.artifact_folder / one.path for one in due}
    if not isinstance(destination, FolderDestination):
        yield from sender.send(settings, destination, paths)
        return
    for one in due:
        try:
            folder.copy(
                paths[one.sop_instance_uid],
                destination.path,
                study_uid=one.study_uid,
                sop_instance_uid=one.sop_instance_uid,
            )
        except PeerUnreachable as error:
            yield one.sop_instance_uid, error
        else:
            yield one.sop_instance_uid, None


def _mark(ledger: Ledger, delivery: DueDelivery, outcome: int | DeliveryError | None) -> None:
    uid, name = delivery.sop_instance_uid, delivery.destination
    fields = {"destination": name, "study": short(delivery.study_uid), "object": short(uid)}
    with ledger.write() as db:
        if not isinstance(outcome, DeliveryError):
            deliveries.mark_sent(db, uid, name, status=outcome)
            log.info("sent", **fields, status=outcome)
            return
        if isinstance(outcome, PeerRefused):
            what, do, status = outcome.what, outcome.do, outcome.status
            deliveries.mark_refused(db, uid, name, what=what, do=do, status=status)
            log.error("refused", **fields, what=what, do=do)
            return
        rejected = isinstance(outcome, AssociationRejected)
        retry_in_s = REJECTED_PAUSE_S if rejected else pause_s(delivery.attempts)
        deliveries.mark_unsent(db, uid, name, what=outcome.what, retry_in_s=retry_in_s)
        if isinstance(outcome, PeerUnreachable):
            outages.postpone(db, name, what=outcome.what, retry_in_s=retry_in_s)
        log.warning("unsent", **fields, what=outcome.what, retry_in_s=round(retry_in_s, 1))
