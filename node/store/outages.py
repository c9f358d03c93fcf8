"""A destination that cannot be reached: everything for it waits together and goes together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import update

from node.clock import database_now
from node.domain import DeliveryState
from node.store.tables import delivery

if TYPE_CHECKING:
    from sqlalchemy import Connection


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
