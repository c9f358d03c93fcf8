"""A PACS that stores and cuts the line, answers late, warns, is full, or understands nothing."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import TYPE_CHECKING

from node.domain import DeliveryState
from tests.node.results import rows
from tests.peers.pacs import Script, pacs
from tests.torture.deliveries import ROLES, delivering, held
from tests.torture.subject import Figure, Size

if TYPE_CHECKING:
    from pathlib import Path

    from tests.torture.deliveries import Delivering

MIXED = ("0xB000", "0xB006", "0xB007", "0xA700", "0xC000")
SHARES = {"cut_after": 0.35, "late": 0.05, "mixed": 0.20, "ok": 0.40}
"""Of all attempts."""
WARNINGS = (0xB000, 0xB006, 0xB007)
TIMEOUT_S = 1.0
LATE_S = 1.3
LOOK_S = 0.3


def measure(seed: int, size: Size, folder: Path) -> list[Figure]:
    """Deliver results until each is committed; time passes quickly for what waits."""
    results = size.choose(quick=20, submission=200, long=5_000)
    limit_s = 60.0 + results
    steps = tuple(_steps(random.Random(seed), 10 * results))
    with pacs(folder / "pacs", script=Script(store=steps, late_s=LATE_S)) as archive:
        archives = {"pacs": archive}
        with delivering(folder / "node", archives, commit=True, timeout_s=TIMEOUT_S) as node:
            made = [node.queue(f"study {number}") for number in range(results // len(ROLES))]
            retried = _until_committed(node, limit_s)
            states = node.states("pacs")
            warned = {row.sop_instance_uid for row in rows(node.ledger) if row.status in WARNINGS}
            kept = held(archive, node.settings, made)
        met = Counter(entry["step"] for entry in archive.journal("store"))
        last = {entry["sop_instance_uid"]: entry["step"] for entry in archive.journal("store")}
    finished = states[DeliveryState.COMMITTED]
    untold = sum(step in _HEX and uid not in warned for uid, step in last.items())
    tried = sum(met.values())
    faults = ", ".join(f"{met[step]} {step}" for step in ("cut_after", "late", *MIXED))
    return [
        Figure("results lost", kept.missing, results, at_most=0),
        Figure("second UIDs, or other bytes under one", kept.second, results, at_most=0),
        Figure("results committed", finished, results, at_least=results),
        Figure("warnings not on record", untold, results, at_most=0),
        Figure(
            "attempts that were not answered with success", tried - met["ok"], tried, note=faults
        ),
        Figure("0xC000 that a person sent again", retried),
    ]


_HEX = {f"0x{status:04X}" for status in WARNINGS}


def _steps(rng: random.Random, count: int) -> list[str]:
    steps = rng.choices([*SHARES], [*SHARES.values()], k=count)
    return [rng.choice(MIXED) if step == "mixed" else step for step in steps]


def _until_committed(node: Delivering, limit_s: float) -> int:
    """Let back-offs end and a person retry, until all is committed; how often they had to."""
    retried = 0
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        node.ring()
        time.sleep(LOOK_S)
        retried += node.retry_refused()
        node.let_back_offs_end()
        if not node.states("pacs").keys() - {DeliveryState.COMMITTED}:
            break
    return retried
