"""A PACS that is away while results queue up, beside one that is there."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from node.domain import DeliveryState
from tests.node.results import rows
from tests.peers.pacs import Pacs
from tests.torture.deliveries import ROLES, delivering, held
from tests.torture.subject import Figure, Size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from node.domain import Artifact
    from tests.torture.deliveries import Delivering

AWAY, THERE = "away", "there"
DELIVERED_GOAL_S = 120.0
DELAY_GOAL_S = 2.0
"""Whoever waits for a dead peer waits for its time-out, 5 s: less than this is the machine."""
PAUSE_S = 0.1
TIMEOUT_S = 5.0
GIVEN_UP_S = 240.0


def measure(seed: int, size: Size, folder: Path) -> list[Figure]:
    """Deliver a few, switch one off, queue many, deliver a few more, switch it on again."""
    del seed  # nothing here is left to chance
    queued = size.choose(quick=60, submission=1_200, long=20_000)
    few = size.choose(quick=5, submission=20, long=100)
    with (
        _archives(folder) as archives,
        delivering(folder / "node", archives, commit=False, timeout_s=TIMEOUT_S) as node,
    ):
        made = _trickle(node, "first", 1)  # the deliverer starts meanwhile
        early = _trickle(node, "before", few)
        _until_sent(node, AWAY)
        before_s = _p95_s(node, early)
        archives[AWAY].close()
        many = [node.queue(f"queued {number}") for number in range(queued // len(ROLES))]
        node.ring()
        _until_sent(node, THERE)
        later = _trickle(node, "meanwhile", few)
        during_s = _p95_s(node, later)
        waiting = node.states(AWAY)[DeliveryState.PENDING]
        archives[AWAY] = Pacs(folder / AWAY, port=archives[AWAY].port)
        began = time.monotonic()
        _until_sent(node, AWAY)
        took_s = time.monotonic() - began
        made += early + many + later
        kept, other = (held(archives[name], node.settings, made) for name in (AWAY, THERE))
    objects = len(ROLES) * len(made)
    delay_s = round(max(0.0, during_s - before_s), 3)
    return [
        Figure("results that waited for the PACS", waiting, at_least=queued),
        Figure(
            "until all were delivered after its return (s)",
            round(took_s, 1),
            waiting,
            at_most=DELIVERED_GOAL_S,
        ),
        Figure("lost", kept.missing + other.missing, 2 * objects, at_most=0),
        Figure("second UIDs, or other bytes under one", kept.second + other.second, at_most=0),
        Figure(
            "studies whose order was not kept",
            kept.out_of_order + other.out_of_order,
            2 * len(made),
            at_most=0,
        ),
        Figure(
            "delay of the other destination, p95 (s)",
            delay_s,
            few,
            at_most=DELAY_GOAL_S,
            note=f"{before_s:.3f} s before, {during_s:.3f} s meanwhile",
        ),
    ]


@contextmanager
def _archives(folder: Path) -> Iterator[dict[str, Pacs]]:
    """Run two PACSs; whichever stands for a name at the end is closed."""
    archives = {name: Pacs(folder / name) for name in (AWAY, THERE)}
    try:
        yield archives
    finally:
        for one in archives.values():
            one.close()


def _trickle(node: Delivering, name: str, count: int) -> list[tuple[Artifact, ...]]:
    """Queue results one after another, and wait until what is there has them."""
    made = []
    for number in range(count):
        made.append(node.queue(f"{name} {number}"))
        node.ring()
        time.sleep(PAUSE_S)
    _until_sent(node, THERE)
    return made


def _until_sent(node: Delivering, destination: str) -> None:
    """Return once nothing waits for a destination, or patience is at its end."""
    end = time.monotonic() + GIVEN_UP_S
    while node.states(destination)[DeliveryState.PENDING] and time.monotonic() < end:
        time.sleep(PAUSE_S)


def _p95_s(node: Delivering, made: list[tuple[Artifact, ...]]) -> float:
    """Return how long these results waited for the destination that was there."""
    uids = {one.sop_instance_uid for result in made for one in result}
    waited_s = sorted(
        row.sent_at - row.planned_at
        for row in rows(node.ledger, THERE)
        if row.sop_instance_uid in uids and row.sent_at is not None
    )
    return float(waited_s[int(0.95 * len(waited_s))]) if waited_s else GIVEN_UP_S
