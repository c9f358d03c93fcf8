"""Two pipelines, or two versions of one, side by side on what both have judged."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.domain import Outcome
from node.models.said import dice, numbers, outlines
from node.store.finished import Finished, finished

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection


@dataclass(frozen=True)
class Case:
    """One input that both have judged, by the ids of their jobs.

    Attributes:
        measurements: Name -> (value of A, value of B), of those that both state.
        overlaps: Property -> Dice, of those that either outlines.
    """

    job_a: str
    job_b: str
    outcome_a: Outcome
    outcome_b: Outcome
    measurements: dict[str, tuple[float, float]]
    overlaps: dict[str, float]


@dataclass(frozen=True)
class Spread:
    """How one thing differs over all cases.

    Attributes:
        number: Of cases.
        mean: Of B minus A, or of Dice.
        deviation: Standard deviation; None for one case.
        worst: The difference farthest from 0, or the lowest Dice ...
        job_a: ... and whose it is.
        job_b: Ditto.
    """

    name: str
    number: int
    mean: float
    deviation: float | None
    worst: float
    job_a: str
    job_b: str


@dataclass(frozen=True)
class Comparison:
    """What two pipelines say of the same inputs.

    Attributes:
        only_a: How many inputs A alone has judged.
        only_b: Ditto B.
        outcomes: (outcome of A, outcome of B) -> number of cases.
    """

    cases: tuple[Case, ...]
    only_a: int
    only_b: int
    outcomes: dict[tuple[Outcome, Outcome], int]
    differences: tuple[Spread, ...]
    overlaps: tuple[Spread, ...]

    @property
    def disagreeing(self) -> tuple[Case, ...]:
        """The cases whose outcomes differ: a person looks at these first."""
        return tuple(case for case in self.cases if case.outcome_a is not case.outcome_b)


def compare(db: Connection, artifacts: Path, a: str, b: str) -> Comparison:
    """Compare what two pipelines have said.

    Args:
        db: The ledger.
        artifacts: Folder of the results.
        a: ``NAME`` or ``NAME@VERSION``.
        b: Ditto, the other.
    """
    of_a, of_b = (_finished(db, name) for name in (a, b))
    both = sorted(of_a.keys() & of_b.keys())
    cases = tuple(_case(artifacts, of_a[judged], of_b[judged]) for judged in both)
    differences: defaultdict[str, list[tuple[float, Case]]] = defaultdict(list)
    overlaps: defaultdict[str, list[tuple[float, Case]]] = defaultdict(list)
    for case in cases:
        for name, (value_a, value_b) in case.measurements.items():
            differences[name].append((value_b - value_a, case))
        for name, overlap in case.overlaps.items():
            overlaps[name].append((overlap, case))
    return Comparison(
        cases,
        len(of_a) - len(both),
        len(of_b) - len(both),
        dict(Counter((case.outcome_a, case.outcome_b) for case in cases)),
        tuple(_spread(n, found, farthest=True) for n, found in sorted(differences.items())),
        tuple(_spread(n, found, farthest=False) for n, found in sorted(overlaps.items())),
    )


def _finished(db: Connection, name: str) -> dict[tuple[str, str, str, str], Finished]:
    pipeline, _, version = name.partition("@")
    return finished(db, pipeline, version or None)


def _case(artifacts: Path, a: Finished, b: Finished) -> Case:
    measured_a, measured_b = (
        numbers(artifacts / one.files["sr"]) if "sr" in one.files else {} for one in (a, b)
    )
    # Where one of them could not look, there is nothing that could overlap.
    looked = Outcome.COULD_NOT_LOOK not in (a.outcome, b.outcome)
    outlined_a, outlined_b = (
        outlines(artifacts / one.files["seg"]) if looked and "seg" in one.files else {}
        for one in (a, b)
    )
    return Case(
        a.job_id,
        b.job_id,
        a.outcome,
        b.outcome,
        {name: (measured_a[name], measured_b[name]) for name in measured_a if name in measured_b},
        {
            name: dice(outlined_a.get(name, {}), outlined_b.get(name, {}))
            for name in sorted(outlined_a.keys() | outlined_b.keys())
        },
    )


def _spread(name: str, found: list[tuple[float, Case]], *, farthest: bool) -> Spread:
    values = [value for value, _ in found]
    worst, case = (
        max(found, key=lambda one: abs(one[0])) if farthest else min(found, key=lambda one: one[0])
    )
    deviation = statistics.stdev(values) if len(values) > 1 else None
    mean = statistics.fmean(values)
    return Spread(name, len(values), mean, deviation, worst, case.job_a, case.job_b)
