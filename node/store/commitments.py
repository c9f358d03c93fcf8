"""Storage commitment transactions: which are ours, and which were answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from node.store.tables import commitment

if TYPE_CHECKING:
    from sqlalchemy import Connection


def is_known(db: Connection, transaction_uid: str) -> bool:
    """Whether this node has ever asked under ``transaction_uid``."""
    found = select(commitment.c.transaction_uid).where(
        commitment.c.transaction_uid == transaction_uid
    )
    return db.execute(found).one_or_none() is not None


def is_answered(db: Connection, transaction_uid: str) -> bool:
    """Whether a report under ``transaction_uid`` has come, by whatever way."""
    answered_at = select(commitment.c.answered_at).where(
        commitment.c.transaction_uid == transaction_uid
    )
    return db.execute(answered_at).scalar_one_or_none() is not None
