"""When the node, or a role of it that runs by itself, starts and stops: for the audit trail."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from node.log import get_logger
from node.store import events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.store.ledger import Ledger

log = get_logger(__name__)


@contextmanager
def told(ledger: Ledger, name: str) -> Iterator[None]:
    """Record that the application ``name`` starts, and that it stops. A kill leaves no stop."""
    _tell(ledger, "application_started", name)
    try:
        yield
    finally:
        _tell(ledger, "application_stopped", name)


def _tell(ledger: Ledger, kind: str, name: str) -> None:
    try:
        with ledger.write() as db:
            events.record(db, kind, subject=name)
    except SQLAlchemyError:  # every role waits for the ledger by itself
        log.warning("ledger_away")
