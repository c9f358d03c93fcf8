"""Time: what is due, by the database's clock, even after it was set back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Double, bindparam, select

from node.clock import LONGEST_WAIT_S, database_now, is_due
from node.store import commitments, deliveries
from node.store.tables import delivery
from tests.node.results import waiting_result

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from node.settings import Settings
    from node.store.ledger import Ledger


def test_the_database_tells_the_time_of_its_host(ledger: Ledger) -> None:
    before = time.time()
    with ledger.read() as db:
        now = db.execute(select(database_now())).scalar_one()
    assert before - 0.01 <= now <= time.time() + 0.01  # SQLite counts in milliseconds


@pytest.mark.parametrize(
    ("in_s", "longest_wait_s", "due"),
    [
        (-86_400.0, LONGEST_WAIT_S, True),
        (-1.0, LONGEST_WAIT_S, True),
        (10.0, LONGEST_WAIT_S, False),
        (3600.0, LONGEST_WAIT_S, False),
        (86_400.0, LONGEST_WAIT_S, True),
        (110.0, 120.0, False),
        (130.0, 120.0, True),
    ],
)
def test_what_lies_further_ahead_than_anyone_waits_is_due(
    ledger: Ledger, in_s: float, longest_wait_s: float, due: bool
) -> None:
    at = bindparam(None, in_s, Double) + database_now()
    with ledger.read() as db:
        found = db.execute(select(is_due(at, longest_wait_s=longest_wait_s))).scalar_one()
    assert bool(found) is due


@pytest.mark.parametrize("commit_timeout_s", [600.0, 36_000.0])
def test_results_are_sent_and_asked_for_although_the_clock_was_set_back_by_a_day(
    settings: Settings, ledger: Ledger, commit_timeout_s: float
) -> None:
    (made,) = waiting_result(settings, ledger, ["pacs"], roles=("sr",))
    with ledger.write() as db:
        assert deliveries.claim_due(db, "pacs")
        assert not deliveries.claim_due(db, "pacs")
        _set_back(db)
        assert deliveries.claim_due(db, "pacs")
        deliveries.mark_sent(db, made.sop_instance_uid, "pacs", status=0)
        _set_back(db)
        assert commitments.claim_uncommitted(db, "pacs", timeout_s=commit_timeout_s)
        assert not commitments.claim_uncommitted(db, "pacs", timeout_s=commit_timeout_s)
        _set_back(db)
        assert commitments.claim_uncommitted(db, "pacs", timeout_s=commit_timeout_s)


def _set_back(db: Connection) -> None:
    db.execute(delivery.update().values(next_attempt_at=delivery.c.next_attempt_at + 86_400.0))
