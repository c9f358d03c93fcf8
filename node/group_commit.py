"""Group commit: what many threads want done durably at once is done together by one of them.

A disk and a database take a dozen small changes in hardly more time than one. Whoever comes
while nobody works does what has gathered, its own among it; the others wait. So a thread alone
is never handed over to another, and the more there are, the more each turn does.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class _Turn(Generic[Item, Outcome]):
    """One item on its way."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.come = threading.Event()  # it is done, or its thread shall do what has gathered
        self.done = False
        self.outcome: Outcome
        self.error: Exception | None = None

    def result(self) -> Outcome:
        if self.error is not None:
            raise self.error
        return self.outcome


class GroupCommit(Generic[Item, Outcome]):
    """Does ``commit`` for the items of all threads, one group after the other.

    Args:
        commit: Takes the items of a group, in the order of their coming, and returns the outcome
            of each. What it raises is raised for every item of the group.
    """

    def __init__(self, commit: Callable[[Sequence[Item]], Sequence[Outcome]]) -> None:
        self._commit = commit
        self._lock = threading.Lock()
        self._gathered: list[_Turn[Item, Outcome]] = []
        self._at_work = False

    def __call__(self, item: Item) -> Outcome:
        """Return the outcome of ``item`` once its group is done."""
        turn: _Turn[Item, Outcome] = _Turn(item)
        with self._lock:
            self._gathered.append(turn)
            waits, self._at_work = self._at_work, True
        if waits:
            turn.come.wait()
        if not turn.done:
            self._work()
        return turn.result()

    def _work(self) -> None:
        with self._lock:
            group, self._gathered = self._gathered, []
        try:
            outcomes = self._commit([turn.item for turn in group])
            for turn, outcome in zip(group, outcomes, strict=True):
                turn.outcome = outcome
        except Exception as error:  # not handled: every thread of the group gets it
            for turn in group:
                turn.error = error
        with self._lock:
            following = self._gathered[0] if self._gathered else None
            self._at_work = following is not None
        if following is not None:
            following.come.set()
        for turn in group:
            turn.done = True
            turn.come.set()
