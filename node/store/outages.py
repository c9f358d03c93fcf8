"""What waits for a destination: together while nobody answers, and not without a word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import exists, func, select, update

from node.clock import database_now
from node.domain import DeliveryState
from node.store import events
from node.store.tables import delivery, event

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import ColumnElement, Connection

LONG_S = (4 * 3600.0, 15 * 60.0)
"""A person is told when something has waited for this long, the longest first."""


@dataclass(frozen=True)
class Waiting:
    """Objects of one study that have waited for long, and for which destination.

    Attributes:
        kind: Of the event that tells it: ``delivery_waits`` or ``commitment_waits``.
    """

    kind: str
    study_uid: str
    destination: str
    objects: int
    waited_s: float


def postpone(db: Connection, destination: str, *, what: str, retry_in_s: float) -> int:
    """Put off every object for ``destination`` that is due earlier; how many that were.

    One attempt learns for all of them that nobody answers. An object planned later is due at
    once, and tries again.
    """
    later = database_now() + retry_in_s
    return db.execute(
        update(delivery)
        .where(
            delivery.c.destination == destination,
            delivery.c.state == DeliveryState.PENDING,
            delivery.c.next_attempt_at < later,
        )
        .values(what=what, next_attempt_at=later)
    ).rowcount


def resume(db: Connection, destination: str) -> int:
    """Make every object that waits for ``destination`` due now; how many these are.

    That includes what another process has claimed: sending an object twice is harmless.
    """
    return db.execute(
        update(delivery)
        .where(
            delivery.c.destination == destination,
            delivery.c.state == DeliveryState.PENDING,
            delivery.c.next_attempt_at > database_now(),
        )
        .values(next_attempt_at=database_now())
    ).rowcount


def unsent(db: Connection, destinations: Collection[str]) -> tuple[Waiting, ...]:
    """Return what has been pending for one of ``LONG_S``, and nobody was told since then."""
    since = delivery.c.planned_at
    return _untold(db, "delivery_waits", DeliveryState.PENDING, destinations, since)


def uncommitted(db: Connection, destinations: Collection[str]) -> tuple[Waiting, ...]:
    """Return the same of what was sent to ``destinations`` and not committed to."""
    since = delivery.c.sent_at
    return _untold(db, "commitment_waits", DeliveryState.SENT, destinations, since)


def tell(db: Connection, waiting: Collection[Waiting]) -> None:
    """Record that this has waited for long."""
    for one in waiting:
        events.record(
            db,
            one.kind,
            study_uid=one.study_uid,
            subject=one.destination,
            detail=f"{one.objects} objects have waited for {one.waited_s / 60.0:.0f} min.",
        )


def _untold(
    db: Connection,
    kind: str,
    state: DeliveryState,
    destinations: Collection[str],
    since: ColumnElement[float],
) -> tuple[Waiting, ...]:
    found: dict[tuple[str, str], Waiting] = {}
    for long_s in LONG_S:
        told = exists().where(
            event.c.kind == kind,
            event.c.study_uid == delivery.c.study_uid,
            event.c.subject == delivery.c.destination,
            event.c.at >= since + long_s,
        )
        rows = db.execute(
            select(
                delivery.c.study_uid,
                delivery.c.destination,
                func.count(),
                database_now() - func.min(since),
            )
            .where(
                delivery.c.destination.in_(list(destinations)),
                delivery.c.state == state,
                since <= database_now() - long_s,
                ~told,
            )
            .group_by(delivery.c.study_uid, delivery.c.destination)
        )
        for row in rows:
            found.setdefault((row.study_uid, row.destination), Waiting(kind, *row))
    return tuple(found.values())
