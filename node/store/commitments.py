"""Storage commitment transactions: which are ours, and which were answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from node.store.tables import commitment

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection


def is_known(db: Connection, transaction_uid: str) -> bool:
    """Whether this node has ever asked under ``transaction_uid``."""
    found = select(commitment.c.transaction_uid).where(
        commitment.c.transaction_uid == transaction_uid
    )
    return db.execute(found).one_or_none() is not None


def unanswered(db: Connection, transaction_uids: Collection[str]) -> int:
    """Return how many of these transactions have had no answer."""
    return db.execute(
        select(func.count()).where(
            commitment.c.transaction_uid.in_(list(transaction_uids)),
            commitment.c.answered_at.is_(None),
        )
    ).scalar_one()
