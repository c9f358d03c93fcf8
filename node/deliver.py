"""Deliver: what the ledger calls due goes to its destination, for as long as it takes.

Each destination has a thread of its own, so that one that stalls delays no other. Whatever
happens to an object stands in its ledger row as soon as it is known.
"""

from __future__ import annotations

import hashlib
import random
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy.exc import InterfaceError, OperationalError

from node import folder, wake
from node.crashpoint import reach
from node.deidentify.files import Copy, copies
from node.dimse import sender
from node.domain import DeliveryState
from node.errors import (
    AssociationRejected,
    ClassRefused,
    DeliveryError,
    PeerBusy,
    PeerRefused,
    PeerUnreachable,
)
from node.log import get_logger, short
from node.profiles import FALLBACKS, kind_of
from node.settings import DimseDestination, FolderDestination
from node.store import deliveries, events, outages, rejections, timers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from threading import Event

    from node.domain import DueDelivery
    from node.settings import Destination, Settings
    from node.store.ledger import Ledger
    from node.store.outages import Waiting
    from node.wake import Alarm

log = get_logger(__name__)

LOOK_AGAIN_S = 0.5
"""Between two looks at what is due and cannot be had: it waits for another, or a process has it."""
LOOK_S = 60.0
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 900.0
AWAY_PAUSE_S = 30.0
"""Longest for a destination that cannot be reached: results are there within minutes of its return,
and two calls a minute do no harm, however long it is away."""
REJECTED_PAUSE_S = 3600.0
"""After a permanent rejection: only a person can mend it, but may do so at the other end."""
LEDGER_PAUSE_S = 1.0


def pause_s(attempts: int, longest_s: float = LONGEST_PAUSE_S) -> float:
    """Return how long to wait after ``attempts`` failed ones: 5 s doubling to 15 min, +-20 %.

    The jitter keeps nodes that lost the same PACS from all coming back to it at once.
    """
    # The exponent is capped because attempts go on for ever.
    doubled = FIRST_PAUSE_S * 2.0 ** min(max(attempts - 1, 0), 20)
    return min(doubled, longest_s) * random.uniform(0.8, 1.2)  # noqa: S311


def run(settings: Settings, ledger: Ledger, alarm: Alarm, stop: Event) -> None:
    """Deliver until ``stop`` is set. Raises what a destination's thread could not handle.

    Args:
        settings: Of the node.
        ledger: Migrated.
        alarm: Wakes this stage; rung by it when something was sent.
        stop: Ends it.
    """
    together(
        stop,
        partial(every_minute, stop, partial(_look, settings, ledger)),
        *(partial(_serve, settings, ledger, name, alarm, stop) for name in settings.destinations),
    )


def run_once(settings: Settings, ledger: Ledger) -> int:
    """Try one study of every destination; the number of objects tried where it was reached."""
    tried = 0
    for name in settings.destinations:
        with suppress(PeerUnreachable):
            tried += deliver_study(settings, ledger, name)
    return tried


def deliver_study(settings: Settings, ledger: Ledger, name: str, *, attempts: int = 1) -> int:
    """Try to hand over what is due of one study; the number of objects tried, 0: none was due.

    Raises:
        PeerUnreachable: The destination. Everything for it waits, for a pause that grows with
            ``attempts``.
    """
    with ledger.write() as db:
        due = deliveries.claim_due(db, name)
    if not due:
        return 0
    untried = {delivery.sop_instance_uid: delivery for delivery in due}
    reach("deliver.before_send")
    try:
        for sop_instance_uid, outcome in _hand_over(settings, name, due):
            reach("deliver.sent_unmarked")
            delivery = untried.pop(sop_instance_uid)
            if isinstance(outcome, ClassRefused) and _fell_back(ledger, delivery):
                break  # what is due now is something else
            _mark(ledger, delivery, outcome)
            reach("deliver.marked")
    except PeerUnreachable as error:
        _postpone(ledger, name, untried, error, attempts)
        raise
    if untried:
        with ledger.write() as db:
            deliveries.give_back(db, untried, name)
    return len(due) - len(untried)


def together(stop: Event, *tasks: Callable[[], None]) -> None:
    """Run each task in a thread of its own until they return.

    If one raises, ``stop`` is set for the others and its exception is raised: a supervisor
    starts the process again, whereas a silently missing thread would be a destination that
    nobody serves.
    """
    with ThreadPoolExecutor(len(tasks)) as pool:
        futures = [pool.submit(task) for task in tasks]
        wait(futures, return_when=FIRST_EXCEPTION)
        stop.set()
    for future in futures:
        future.result()


def every_minute(stop: Event, look: Callable[[], None]) -> None:
    """Run ``look`` now and once a minute until ``stop`` is set."""
    while not stop.is_set():
        try:
            look()
        except (OperationalError, InterfaceError):
            log.warning("ledger_away")
        stop.wait(LOOK_S)


def tell_waiting(ledger: Ledger, waiting: Sequence[Waiting]) -> None:
    """Tell a person what has waited for long."""
    if not waiting:
        return
    with ledger.write() as db:
        outages.tell(db, waiting)
    for one in waiting:
        log.error(
            one.kind,
            destination=one.destination,
            study=short(one.study_uid),
            objects=one.objects,
            waited_s=round(one.waited_s),
        )


def _look(settings: Settings, ledger: Ledger) -> None:
    """Tell a person what nobody will accept, and what nobody has accepted for long."""
    with ledger.read() as db:
        lost = deliveries.without_destination(db, settings.destinations)
        waiting = outages.unsent(db, settings.destinations)
    for sop_instance_uid, name in lost:
        what = f"There is no destination '{name}' any more."
        do = "Put it back and 'radnode retry', or 'radnode cancel'."
        with ledger.write() as db:
            deliveries.mark_refused(db, sop_instance_uid, name, what=what, do=do, status=None)
        log.error("refused", destination=name, object=short(sop_instance_uid), what=what, do=do)
    tell_waiting(ledger, waiting)
    reject_superseded(settings, ledger)


def reject_superseded(settings: Settings, ledger: Ledger) -> int:
    """Plan the rejection notes whose time has come, where a site asks for them; how many."""
    planned = 0
    for name, destination in settings.destinations.items():
        if destination.reject_superseded:
            commits = isinstance(destination, DimseDestination) and destination.commit
            with ledger.write() as db:
                planned += rejections.plan_due(db, name, commits=commits)
    return planned


def _serve(settings: Settings, ledger: Ledger, name: str, alarm: Alarm, stop: Event) -> None:
    """Deliver to one destination. What waits for it is due at once when the node starts."""
    failures = 0
    _resume(ledger, name, stop)
    while not stop.is_set():
        heard, tried = alarm.rung, 0
        try:
            with ledger.read() as db:
                wait_s = timers.delivery_due_in_s(db, name, DeliveryState.PENDING)
            if not wait_s:
                tried = deliver_study(settings, ledger, name, attempts=failures + 1)
        except PeerUnreachable:
            failures += 1
        except (OperationalError, InterfaceError):
            log.warning("ledger_away", destination=name)
            stop.wait(LEDGER_PAUSE_S)
        else:
            if not tried:
                alarm.wait(heard, min(wake.POLL_S, wait_s or LOOK_AGAIN_S))
                continue
            alarm.ring()  # there is something to ask commitment for
            if failures:
                failures = 0
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
    changed = {one.sop_instance_uid for one in due if _has_changed(settings, one)}
    for sop_instance_uid in changed:
        yield sop_instance_uid, _changed()
    due = [one for one in due if one.sop_instance_uid not in changed]
    paths = {one.sop_instance_uid: settings.artifact_folder / one.path for one in due}
    if not paths:
        return
    if destination.deidentify:
        with copies(settings, paths) as (made, refused):
            yield from refused.items()
            yield from _send(settings, destination, made)
        return
    whole = {
        uid: Copy(path, one.study_uid, uid)
        for one, (uid, path) in zip(due, paths.items(), strict=True)
    }
    yield from _send(settings, destination, whole)


def _send(
    settings: Settings, destination: Destination, files: Mapping[str, Copy]
) -> Iterator[tuple[str, int | DeliveryError | None]]:
    """Yield as ``_hand_over`` what becomes of files, by the UIDs that the ledger knows."""
    if not isinstance(destination, FolderDestination):
        paths = {uid: one.path for uid, one in files.items()}
        yield from sender.send(settings, destination, paths)
        return
    for uid, one in files.items():
        outcome: DeliveryError | None = None
        try:
            folder.copy(
                one.path,
                destination.path,
                study_uid=one.study_uid,
                sop_instance_uid=one.sop_instance_uid,
            )
        except (PeerBusy, PeerRefused) as error:
            outcome = error
        yield uid, outcome


def _has_changed(settings: Settings, due: DueDelivery) -> bool:
    """Whether the file is not, to the byte, what passed the publish gate."""
    try:
        with (settings.artifact_folder / due.path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() != due.digest
    except OSError:
        return False  # it is told as what it is when it is read to be sent


def _changed() -> PeerRefused:
    return PeerRefused(
        "The file of this object has changed on the disk since it was made: it is not sent.",
        do="Check the disk and put the file back from a backup, then 'radnode retry'.",
    )


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
        retry_in_s = pause_s(delivery.attempts)
        deliveries.mark_unsent(db, uid, name, what=outcome.what, retry_in_s=retry_in_s)
        log.warning("unsent", **fields, what=outcome.what, retry_in_s=round(retry_in_s, 1))


def _fell_back(ledger: Ledger, refused: DueDelivery) -> bool:
    """Whether other objects go instead of one whose SOP class the destination does not know."""
    way_out = FALLBACKS.get(kind_of(refused.role))
    if way_out is None:
        return False
    with ledger.write() as db:
        fell_back = deliveries.fall_back(db, refused, way_out.withdrawn, way_out.instead)
    if fell_back:
        log.warning(
            "fell_back",
            destination=refused.destination,
            study=short(refused.study_uid),
            role=refused.role,
        )
    return fell_back


def _postpone(
    ledger: Ledger,
    name: str,
    untried: Collection[str],
    error: PeerUnreachable,
    attempts: int,
) -> None:
    fields = {"destination": name, "what": error.what, "do": error.do}
    rejected = isinstance(error, AssociationRejected)
    retry_in_s = REJECTED_PAUSE_S if rejected else pause_s(attempts, AWAY_PAUSE_S)
    with ledger.write() as db:
        deliveries.give_back(db, untried, name)
        outages.postpone(db, name, what=error.what, retry_in_s=retry_in_s)
        if rejected:
            events.record(db, "rejected", subject=name, detail=f"{error.what} {error.do}")
    if rejected:
        log.error("rejected", **fields)
    else:
        log.warning("unreachable", **fields, retry_in_s=round(retry_in_s, 1))
