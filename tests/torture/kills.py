"""``kill -9`` at random: of every process of the node, of the broker and of the database, while
studies stream in. What was killed starts again at once; leases and pauses are waited for.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from tests.torture import oracle
from tests.torture.durable_postgres import DurablePostgres
from tests.torture.node_under_test import LEASE_S, node_under_test
from tests.torture.stream import streaming
from tests.torture.subject import Figure, Size

if TYPE_CHECKING:
    from pathlib import Path

    from tests.torture.node_under_test import NodeUnderTest

PROCESSES = {"listener": "listen", "worker": "work", "deliverer": "deliver", "relay": "relay"}
TARGETS = (*PROCESSES, "Valkey", "PostgreSQL")
SHORTEST_S, LONGEST_S = 0.3, 2.5
"""Between two kills."""
PACE_S = 1.5
"""Between two studies: the node keeps up with them while nobody is killed."""
LONGEST_RECOVERY_S = 90.0


def measure(seed: int, size: Size, folder: Path) -> list[Figure]:
    """Kill each in turn, in random order, at random times."""
    chances = random.Random(seed)
    each = size.choose(quick=1, submission=12, long=200)
    targets = [target for target in TARGETS for _ in range(each)]
    chances.shuffle(targets)
    with (
        DurablePostgres() as postgres,
        node_under_test(folder, database=postgres.url) as tested,
        tested.kept_alive(),
    ):
        with streaming(tested.port, f"kills {seed}", pace_s=PACE_S) as stream:
            for target in targets:
                time.sleep(chances.uniform(SHORTEST_S, LONGEST_S))
                _kill(target, tested, postgres, with_disk=chances.random() < 0.5)
        recovery_s = tested.wait_finished("The recovery from all kills", 2 * LEASE_S + 60.0)
        verdict = oracle.verify_ledger(
            tested.settings, tested.ledger, stream.acknowledged, tested.pacs
        )
    kills, wanted = len(targets), size.choose(quick=1, submission=60, long=1000)
    return [
        Figure("kills at random", kills, at_least=wanted),
        Figure("acknowledged instances", verdict.instances),
        Figure("associations cut by a kill", stream.broken),
        Figure("lost instances or results", verdict.lost, kills, at_most=0, note=verdict.note),
        Figure("doubled results", verdict.doubled, kills, at_most=0),
        Figure("all done after the last kill (s)", recovery_s, at_most=LONGEST_RECOVERY_S),
    ]


def _kill(
    target: str, tested: NodeUnderTest, postgres: DurablePostgres, *, with_disk: bool
) -> None:
    """Kill one; broker and database start again here, the broker with or without what it held."""
    if target == "Valkey":
        tested.broker.kill(with_disk=with_disk)
        tested.broker.start()
    elif target == "PostgreSQL":
        postgres.kill()
        postgres.start()
    else:
        tested.node.processes[PROCESSES[target]].kill()
