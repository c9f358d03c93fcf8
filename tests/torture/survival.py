"""What a listener must be able to say for itself after whatever was done to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.torture.subject import Figure

if TYPE_CHECKING:
    from tests.torture.echoes import Echoes
    from tests.torture.listeners import Listeners, Use

ECHO_GOAL_S = 1.0
GROWTH_GOAL_MB = 100.0
POOLED_THREADS = 2
POOLED_DESCRIPTORS = 2
"""May stay: a pool has grown, a log was opened."""


def figures(listeners: Listeners, before: Use, echoes: Echoes | None = None) -> list[Figure]:
    """Return crashes, leaks, what is damaged or left, and how an honest peer fared meanwhile.

    Args:
        listeners: Still running.
        before: What they used when they were warm, before the subject began.
        echoes: Of the honest peer, which has ended.
    """
    after = listeners.settled(before)
    damaged, left = listeners.damaged(), listeners.left()
    grown_mb = (after.resident_bytes - before.resident_bytes) / 1e6
    found = [
        Figure("listener processes that died", listeners.dead(), at_most=0),
        Figure("threads left", after.threads - before.threads, at_most=POOLED_THREADS),
        Figure(
            "descriptors left", after.descriptors - before.descriptors, at_most=POOLED_DESCRIPTORS
        ),
        Figure("growth of memory (MB)", round(grown_mb, 1), at_most=GROWTH_GOAL_MB),
        Figure("files of the spool that are damaged", len(damaged), at_most=0),
        Figure("parts, and open associations, that stay", len(left), at_most=0),
    ]
    if echoes is not None:
        tried = len(echoes.seconds) + echoes.failed
        p99_s = round(echoes.quantile(0.99), 3)
        found += [
            Figure("honest C-ECHO, p99 (s)", p99_s, tried, at_most=ECHO_GOAL_S),
            Figure("honest C-ECHO refused or unanswered", echoes.failed, tried, at_most=0),
        ]
    return found
