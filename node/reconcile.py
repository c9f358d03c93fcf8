"""Reconcile: prove that all that was received is accounted for.

    received = committed + delivered + refused + quarantined + held + in flight

for instances, series, studies, jobs and results. What is not in one of these, nobody would ever
ask for: a person is told what it is. Once a day, and whenever somebody asks.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from node.log import get_logger, short
from node.reread import reread
from node.retain import uncommitting
from node.store import events, reading, reconciling
from node.store.reconciling import Fate, Line

if TYPE_CHECKING:
    import threading

    from node.settings import Settings
    from node.store.ledger import Ledger

log = get_logger(__name__)

FIRST_S = 600.0
"""After the start: what was interrupted has gone on by then."""
EVERY_S = 86_400.0
LOOK_S = 60.0
CONFIRM_S = 5.0
"""What does not balance is looked at again after this long, before a person is told."""
SHARE = 30
"""Days in which every file is read again."""
NAMED = 5
"""Examples of each problem."""
ROLLING = "daily"


@dataclass(frozen=True)
class Problem:
    """Something that is not accounted for.

    Attributes:
        what: It is, with examples by their short names.
        do: What a person does about it.
    """

    what: str
    do: str


@dataclass(frozen=True)
class Balance:
    """What was received, and what became of it, at one moment.

    Attributes:
        received: Of each line.
        fates: Of each line, how many there are of each fate.
        held: Why what is held is.
        problems: What is wrong; empty if it balances.
    """

    received: dict[Line, int]
    fates: dict[Line, dict[Fate, int]]
    held: dict[str, int]
    problems: tuple[Problem, ...]

    def difference(self, line: Line) -> int:
        """Return how many of a line are not accounted for."""
        known = sum(n for fate, n in self.fates[line].items() if fate is not Fate.UNACCOUNTED)
        return self.received[line] - known

    @property
    def balances(self) -> bool:
        """Whether nothing is amiss."""
        return not any(self.difference(line) for line in Line)


def balance(settings: Settings, ledger: Ledger) -> Balance:
    """Count everything at one moment."""
    final = uncommitting(settings)
    with ledger.snapshot() as db:
        received = reconciling.received(db)
        fates = reconciling.fates(db, final)
        held = reconciling.held(db)
        counted = Balance(received, fates, held, ())
        if counted.balances:
            return counted
        unknown = reconciling.unknown_series(db, NAMED)
        series = reconciling.unaccounted_series(db, final, NAMED)
        jobs = reconciling.unaccounted_jobs(db, final, NAMED)
    problems = []
    if unknown:
        problems.append(
            Problem(
                f"Instances of series that the ledger does not know: {_named(unknown)}.",
                "Nobody analyses them. Have the studies sent again, and report this as a fault.",
            )
        )
    if series:
        problems.append(
            Problem(
                f"Series that were routed, and nothing says what for: {_named(series)}.",
                "'radnode why STUDY' shows the routes, 'radnode reanalyse STUDY' tries them again.",
            )
        )
    if jobs:
        problems.append(
            Problem(
                "Completed jobs without a result, or with one that goes nowhere: "
                + ", ".join(job_id[:12] for _, job_id in jobs)
                + ".",
                "'radnode show JOB' says what it made. Report this as a fault.",
            )
        )
    if not problems:
        amiss = ", ".join(f"{line} by {counted.difference(line)}" for line in Line)
        what = f"The counts differ: {amiss}."
        problems.append(Problem(what, "Report this as a fault."))
    return Balance(received, fates, held, tuple(problems))


def _named(series: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{short(one)} of study {short(study)}" for study, one in series)


# --- once a day ------------------------------------------------------------------------------


def run(settings: Settings, ledger: Ledger, stop: threading.Event) -> None:
    """Reconcile once a day, and read a share of the files again, until ``stop``."""
    due_at = time.monotonic() + FIRST_S
    while not stop.is_set():
        if time.monotonic() >= due_at:
            try:
                run_once(settings, ledger, stop)
                due_at = time.monotonic() + EVERY_S
            except SQLAlchemyError:
                log.warning("ledger_away")
        stop.wait(LOOK_S)


def run_once(settings: Settings, ledger: Ledger, stop: threading.Event) -> Balance:
    """Reconcile, tell what does not balance, and read a share of the files again."""
    found = balance(settings, ledger)
    if not found.balances:
        stop.wait(CONFIRM_S)
        found = balance(settings, ledger)
    with ledger.write() as db:
        for problem in found.problems:
            events.record(db, "not_reconciled", detail=f"{problem.what} {problem.do}")
        if not found.problems:
            events.record(db, "reconciled", detail=in_words(found, Line.INSTANCES))
    for problem in found.problems:
        log.error("not_reconciled", what=problem.what, do=problem.do)
    log.info("reconciled", balances=found.balances, **{one.value: n for one, n in _counts(found)})
    with ledger.read() as db:
        share = math.ceil(reading.number_of_files(db) / SHARE)
    reread(settings, ledger, stop, name=ROLLING, at_most=share)
    return found


def _counts(found: Balance) -> list[tuple[Line, int]]:
    return [(line, found.received[line]) for line in Line]


def in_words(found: Balance, line: Line) -> str:
    """Return one line of a balance as an equation."""
    parts = (
        f"{number} {fate.name.lower().replace('_', ' ')}"
        for fate, number in found.fates[line].items()
        if number
    )
    return f"{found.received[line]} {line} = {' + '.join(parts) or '0'}"
