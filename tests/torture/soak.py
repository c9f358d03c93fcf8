"""Study after study through the whole node: memory and descriptors stay where they are."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import psutil

from tests.peers import wait_until
from tests.torture import harm, oracle
from tests.torture.node_under_test import ROLES, node_under_test
from tests.torture.stream import Stream
from tests.torture.subject import Figure, Size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.torture.node_under_test import NodeUnderTest

AT_ONCE = 5
"""Studies on their way at most: the queue shall not be what grows."""
EACH = 10
"""Studies between two samples; at a sample, nothing is on its way."""
WARM = 0.34
"""Of all studies: until then caches fill."""
MOST_MB_PER_100 = 1.0
MOST_DESCRIPTORS = 2


@dataclass(frozen=True)
class Sample:
    """A process between two studies: resident memory, open descriptors, threads."""

    studies: int
    resident_mb: float
    descriptors: int
    threads: int


def measure(seed: int, size: Size, folder: Path) -> list[Figure]:
    """Send studies; the growth of each process, and what is left of everything."""
    studies = size.choose(quick=30, submission=300, long=10_000)
    samples: defaultdict[str, list[Sample]] = defaultdict(list)
    begun = time.monotonic()
    with node_under_test(folder, jobs_per_process=10 * studies) as tested:
        stream = Stream(tested.port)
        for number in range(1, studies + 1):
            stream.scan(harm.study(f"soak {seed} {number}"))
            most = 0 if number % EACH == 0 else AT_ONCE
            wait_until(partial(_at_most, tested, most), timeout_s=60.0, what="The work")
            if not most:
                for name, process in _processes(tested).items():
                    samples[name].append(_sample(number, process))
        verdict = oracle.verify_ledger(
            tested.settings, tested.ledger, stream.acknowledged, tested.pacs
        )
    warm = {
        name: [one for one in of if one.studies >= WARM * studies] for name, of in samples.items()
    }
    slopes = {name: _slope_mb_per_100(of) for name, of in warm.items()}
    return [
        Figure("studies", verdict.studies, studies, at_least=studies),
        Figure("studies per minute", 60.0 * studies / (time.monotonic() - begun)),
        *(
            Figure(f"memory of '{name}' (MB per 100 studies)", slope, at_most=MOST_MB_PER_100)
            for name, slope in slopes.items()
        ),
        Figure(
            "descriptors, largest drift",
            max(_drift([one.descriptors for one in of]) for of in warm.values()),
            at_most=MOST_DESCRIPTORS,
        ),
        Figure(
            "threads, largest drift",
            max(_drift([one.threads for one in of]) for of in warm.values()),
            at_most=MOST_DESCRIPTORS,
        ),
        Figure("files left behind", len(verdict.left_behind), at_most=0),
        Figure("lost instances or results", verdict.lost, studies, at_most=0, note=verdict.note),
        Figure("doubled results", verdict.doubled, studies, at_most=0),
    ]


def _at_most(tested: NodeUnderTest, most: int) -> bool:
    return tested.unfinished() <= most


def _processes(tested: NodeUnderTest) -> dict[str, psutil.Process]:
    """Return those of the roles, and the worker's child that runs the model."""
    found = {role: psutil.Process(tested.node.processes[role].pid) for role in ROLES}
    (found["inference"],) = found["work"].children()
    return found


def _sample(studies: int, process: psutil.Process) -> Sample:
    resident_mb = process.memory_info().rss / 1e6
    return Sample(studies, resident_mb, process.num_fds(), process.num_threads())


def _slope_mb_per_100(samples: Sequence[Sample]) -> float:
    """Return the slope of the straight line that fits best."""
    if len(samples) < 2:
        return 0.0
    studies = [one.studies for one in samples]
    slope, _ = np.polyfit(studies, [one.resident_mb for one in samples], 1)
    return float(100.0 * slope)


def _drift(counts: Sequence[int]) -> int:
    """Return how far the last counts are from the first: the medians of three each."""
    return abs(int(np.median(counts[-3:])) - int(np.median(counts[:3])))
