"""Inputs that crash the model, hang it, or fill the memory: set aside after three attempts.

Honest studies come right behind each, and go through the one worker that there is.
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

from node.domain import JobState
from node.store.jobs import MAXIMUM_ATTEMPTS
from tests.peers import wait_until
from tests.torture import harm, oracle
from tests.torture.harm import Harm
from tests.torture.node_under_test import node_under_test
from tests.torture.stream import Stream
from tests.torture.subject import Figure, Size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydicom import Dataset

    from tests.torture.node_under_test import NodeUnderTest

HONEST = 2
"""Studies right behind each poison."""
LONGEST_DELAY_S = 60.0
POISONS = tuple(one for one in Harm if one not in {Harm.NONE, Harm.SLOW})


def measure(seed: int, size: Size, folder: Path) -> list[Figure]:
    """Send poison of every kind, in random order, each with honest studies right behind it."""
    chances = random.Random(seed)
    times = size.choose(quick=1, submission=1, long=6)
    harms = [*POISONS] * times
    if size is Size.QUICK:
        harms = [Harm.SEGFAULT, Harm.SLEEP]
    chances.shuffle(harms)
    poisoned: dict[str, Harm] = {}
    with node_under_test(folder, deadline_s=harm.SHORT_DEADLINE_S) as tested:
        listener = tested.node.processes["listen"]
        stream = Stream(tested.port)
        for number, harmful in enumerate(harms):
            poison, *honest = (
                harm.study(f"poison {seed} {number} {which}", harmful if not which else Harm.NONE)
                for which in range(1 + HONEST)
            )
            poisoned[str(poison[0].StudyInstanceUID)] = harmful
            for study in (poison, *honest):
                stream.scan(study)
            wait_until(partial(_are_done, tested, honest), timeout_s=180.0, what="An honest study")
        tested.wait_finished("The end of every job", 60.0 * len(harms) + 60.0)
        jobs = tested.jobs()
        verdict = oracle.verify_ledger(
            tested.settings,
            tested.ledger,
            stream.acknowledged,
            tested.pacs,
            quarantined=frozenset(poisoned),
        )
        unharmed = listener.poll() is None and not stream.broken
    aside = [
        one
        for one in jobs
        if one["study_uid"] in poisoned
        and one["state"] == JobState.QUARANTINED
        and one["attempts"] == MAXIMUM_ATTEMPTS
        and one["what"]
        and one["do"]
    ]
    missing = poisoned.keys() - {one["study_uid"] for one in aside}
    waited_s = [
        one["finished_at"] - one["planned_at"] for one in jobs if one["study_uid"] not in poisoned
    ]
    return [
        Figure(
            "poison set aside after three attempts",
            len(aside),
            len(harms),
            at_least=len(harms),
            note=", ".join(sorted(f"{poisoned[uid].name.lower()} is not" for uid in missing)),
        ),
        Figure("others: from planned to done, longest (s)", max(waited_s), at_most=LONGEST_DELAY_S),
        Figure(
            "lost instances or results", verdict.lost, verdict.studies, at_most=0, note=verdict.note
        ),
        Figure("doubled results", verdict.doubled, verdict.studies, at_most=0),
        Figure("listeners unharmed", unharmed, 1, at_least=1),
    ]


def _are_done(tested: NodeUnderTest, honest: Sequence[Sequence[Dataset]]) -> bool:
    done = {one["study_uid"] for one in tested.jobs() if one["state"] == JobState.COMPLETED}
    return done.issuperset(str(study[0].StudyInstanceUID) for study in honest)
