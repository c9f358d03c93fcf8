"""What every subject of the torture has in common: how large it is, and what it found.

A subject is a module of this package with one function::

    def measure(seed: int, size: Size, folder: Path) -> list[Figure]: ...

It draws all its chances from ``random.Random(seed)``, writes below ``folder`` (empty at first, and
removed afterwards unless a figure misses its goal), starts and ends its own processes, and returns
a figure for every line of its in docs/reliability.md. A figure that is missed is returned like
any other, with its cause; only a harness that could not run raises. It is registered by its name in
``__main__.SUBJECTS`` and runs in a process of its own: what one subject keeps open is not in
another's figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Size(StrEnum):
    """How much is tried: to see that a subject runs, for each submission, before a release."""

    QUICK = "quick"
    SUBMISSION = "submission"
    LONG = "long"

    def choose(self, *, quick: int, submission: int, long: int) -> int:
        """Return the count that belongs to this size."""
        return {Size.QUICK: quick, Size.SUBMISSION: submission, Size.LONG: long}[self]


@dataclass(frozen=True)
class Figure:
    """One measured figure, and what it has to reach.

    Attributes:
        what: A noun phrase with its unit: "lost instances", "recovery, longest (s)".
        measured: The figure.
        of: How many were tried; None where that is not a count of trials.
        at_least: Goal; None: there is no such bound.
        at_most: Goal; None: there is no such bound.
        note: Why it is missed, or what a reader must know to read it; empty for none.
    """

    what: str
    measured: float
    of: int | None = None
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the figure is within its bounds; true if it has none."""
        return (self.at_least is None or self.measured >= self.at_least) and (
            self.at_most is None or self.measured <= self.at_most
        )
