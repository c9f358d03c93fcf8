"""The broker forgets everything, and is away for minutes: the work goes on from the ledger."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from tests.torture import oracle
from tests.torture.node_under_test import node_under_test
from tests.torture.stream import streaming
from tests.torture.subject import Figure, Size

if TYPE_CHECKING:
    from pathlib import Path

PACE_S = 2.0
AWAY_PACE_S = 6.0
LONGEST_WAIT_S = 10.0
"""From planned to started without a broker: workers look into the ledger every 5 s."""


def measure(seed: int, size: Size, folder: Path) -> list[Figure]:
    """FLUSHALL again and again under load, then stop the broker under load."""
    chances = random.Random(seed)
    flushes = size.choose(quick=3, submission=20, long=200)
    away_s = size.choose(quick=15, submission=300, long=1200)
    with node_under_test(folder) as tested:
        with streaming(tested.port, f"flushed {seed}", pace_s=PACE_S) as flushed:
            for _ in range(flushes):
                time.sleep(chances.uniform(0.2, PACE_S))
                tested.broker.client().flushall()
        tested.wait_finished("The work after the last FLUSHALL")
        before = len(tested.jobs())
        tested.broker.stop()
        with streaming(tested.port, f"away {seed}", pace_s=AWAY_PACE_S) as away:
            time.sleep(away_s)
        tested.wait_finished("The work without a broker")
        without = tested.jobs()[before:]
        tested.broker.start()
        with streaming(tested.port, f"back {seed}", pace_s=PACE_S) as back:
            time.sleep(PACE_S)
        tested.wait_finished("The work with the broker again")
        acknowledged = flushed.acknowledged + away.acknowledged + back.acknowledged
        verdict = oracle.verify_ledger(tested.settings, tested.ledger, acknowledged, tested.pacs)
    wanted = size.choose(quick=1, submission=20, long=200)
    longest_s = max(one["started_at"] - one["planned_at"] for one in without)
    return [
        Figure("FLUSHALL under load", flushes, at_least=wanted),
        Figure("broker away (s)", away_s),
        Figure("jobs done meanwhile", len(without), at_least=away_s // (2 * AWAY_PACE_S)),
        Figure("from planned to started meanwhile, longest (s)", longest_s, at_most=LONGEST_WAIT_S),
        Figure(
            "lost instances or results",
            verdict.lost,
            verdict.instances,
            at_most=0,
            note=verdict.note,
        ),
        Figure("doubled results", verdict.doubled, verdict.studies, at_most=0),
    ]
