"""Time: what is due, by the database's clock, even after it was set back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Double, bindparam, select

from node.clock import LONGEST_WAIT_S, database_now, is_due

if TYPE_CHECKING:
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
