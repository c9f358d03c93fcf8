"""``python -m tests.bench.ledger``: what each step costs, in a new ledger and in one of years.

The same study goes its whole way, received to committed, in both in turn; each step is timed. Then
how many instances a second are recorded, alone and together, and how many jobs a second one, two
and four workers claim and finish. On SQLite, in this checkout's build folder.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from node.domain import (
    DeliveryState,
)
from node.store import (
    bells,
    deliveries,
    jobs,
    listing,
    plans,
)
from node.store.ledger import Ledger
from node.store.tables import delivery
from tests.bench import goals
from tests.bench import ledger_steps as steps
from tests.bench.ledger_history import build
from tests.peers import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.synchronize import Barrier

    from sqlalchemy import Connection


FOLDER = REPOSITORY / "build" / "bench"
SMALL, LARGE = 10_000, 10_000_000
ROUNDS = 15
GOAL = 1.5
PLANNED = ("nothing to do", "complete", "route", "plan", "ring", "claim", "finish", "deliver")
"""The steps that the goal is about."""
BATCHES = (1, 16, 64)
WORKERS = (1, 2, 4)
SLICES = 20
JOBS = 120
READ_BYTES = 1 << 24

Made = TypeVar("Made")
Costs = dict[str, list[float]]
"""Seconds of each step, one of every round."""


def main() -> int:
    """Measure what the command line says; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description="Cost of the ledger's steps as it grows.")
    parser.add_argument("--instances", type=int, default=LARGE, help="of the large ledger")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    console = Console()
    measured = measure(console, given.instances, given.rounds)
    console.print(goals.table(measured["goals"]))
    return 0 if goals.met(measured["goals"]) else 1


def measure(console: Console, instances: int = LARGE, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure and print; the large ledger stays in build/bench, and is made once.

    Returns:
        Medians in seconds by ledger and step, records and jobs per second, and the goals.
    """
    costs: dict[int, Costs] = {}
    rates: dict[int, dict[str, float]] = {}
    with ExitStack() as stack:
        ledgers = {size: stack.enter_context(_ledger(size)) for size in (SMALL, instances)}
        opened = {size: stack.enter_context(Ledger.open(url)) for size, url in ledgers.items()}
        costs = {size: {} for size in ledgers}
        for _ in range(rounds + 1):
            for size, ledger in opened.items():
                for step, seconds in _way_of_a_study(ledger):
                    costs[size].setdefault(step, []).append(seconds)
        for size, url in ledgers.items():
            rates[size] = {f"{n} together": _records_per_s(opened[size], n) for n in BATCHES}
            steps.settle(opened[size])
            rates[size] |= {f"{n} workers": _jobs_per_s(url, opened[size], n) for n in WORKERS}
    medians = {
        size: {step: statistics.median(seconds[1:]) for step, seconds in of.items()}
        for size, of in costs.items()
    }
    console.print(_costs_table(medians))
    console.print(_rates_table(rates))
    small, large = medians[SMALL], medians[instances]
    judged = [
        goals.at_most(
            f"ledger: {step}, {instances:,} to {SMALL:,}", large[step] / small[step], GOAL
        )
        for step in PLANNED
    ]
    return {"instances": [SMALL, instances], "seconds": medians, "rates": rates, "goals": judged}


@contextmanager
def _ledger(instances: int) -> Iterator[str]:
    """Yield the address of a ledger of so many instances.

    A small one is a copy. The large one is not: what a run adds to it is little. It is read once
    before, so that both are in memory: how fast the disk seeks is not what is asked here.
    """
    kept = FOLDER / f"ledger-{instances}.sqlite"
    build(kept, instances)
    if instances > SMALL:
        with kept.open("rb") as file:
            while file.read(READ_BYTES):
                pass
        try:
            yield f"sqlite:///{kept}"
        except BaseException:
            kept.unlink()  # a study was left half way, which the next run would stumble over
            raise
        return
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        yield f"sqlite:///{shutil.copy(kept, folder)}"


# --- the way of one study --------------------------------------------------------------------


def _way_of_a_study(ledger: Ledger) -> Iterator[tuple[str, float]]:
    """Take a new study through every step; yield what was done and the seconds it took."""
    study_uid, series_uid = steps.uid(), steps.uid()
    yield "nothing to do", _timed(lambda: steps.look(ledger))[0]
    slices = steps.slices(SLICES, study_uid, series_uid)
    yield "record 20", _timed(lambda: steps.record(ledger, slices))[0]
    yield "complete", _timed(lambda: steps.complete(ledger))[0]
    seconds, ((series,), _, _) = _timed(lambda: steps.look(ledger))
    yield "route", seconds
    job = steps.job(study_uid, series_uid)
    yield "plan", _timed(lambda: steps.plan(ledger, series, job))[0]
    steps.settle(ledger)
    yield "ring", _timed(lambda: steps.ring(ledger))[0]
    seconds, lease = _timed(lambda: steps.claim(ledger))
    yield "claim", seconds
    yield "finish", _timed(lambda: steps.finish(ledger, lease))[0]
    yield "deliver", _timed(lambda: steps.deliver(ledger))[0]
    yield "commit", _timed(lambda: steps.commit(ledger))[0]
    with ledger.read() as db:
        yield "radnode studies", _timed(lambda: listing.studies(db, 20))[0]
        yield "radnode status", _timed(lambda: listing.counts(db))[0]


def _timed(step: Callable[[], Made]) -> tuple[float, Made]:
    begun = time.perf_counter()
    made = step()
    return time.perf_counter() - begun, made


# --- how many a second -----------------------------------------------------------------------


def _records_per_s(ledger: Ledger, together: int, rounds: int = 5) -> float:
    """Return how many instances of ``together`` associations are recorded in a second."""
    batches = max(10, 640 // together)
    rates = []
    for _ in range(rounds):
        whose = [(steps.uid(), steps.uid()) for _ in range(together)]
        waiting = [[steps.slices(1, *one)[0] for one in whose] for _ in range(batches)]
        seconds, _ = _timed(partial(steps.record_all, ledger, waiting))
        rates.append(together * batches / seconds)
    return statistics.median(rates)


def _jobs_per_s(url: str, ledger: Ledger, workers: int, rounds: int = 5) -> float:
    """Return how many jobs a second are claimed and finished, by so many processes."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(workers + 1)
    processes = [
        context.Process(target=_work, args=(url, start, rounds), daemon=True)
        for _ in range(workers)
    ]
    for process in processes:
        process.start()
    rates = []
    for _ in range(rounds):
        with ledger.write() as db:
            for _ in range(JOBS):
                plans.plan(db, steps.job(steps.uid(), steps.uid()))
        start.wait()
        seconds, _ = _timed(start.wait)
        rates.append(JOBS / seconds)
    for process in processes:
        process.join()
    with ledger.write() as db:
        bells.mark_rung(db, [sequence for sequence, _ in bells.unrung(db, JOBS * rounds)])
        deliveries.cancel(db, _undelivered(db))
    return statistics.median(rates)


def _work(url: str, start: Barrier, rounds: int) -> None:
    """Claim and finish until nothing waits, ``rounds`` times."""
    with Ledger.open(url) as ledger:
        for _ in range(rounds):
            start.wait()
            while True:
                with ledger.write() as db:
                    lease = jobs.claim(db, "bench")
                if lease is None:
                    break
                steps.finish(ledger, lease)
            start.wait()


def _undelivered(db: Connection) -> list[str]:
    pending = delivery.c.state == DeliveryState.PENDING
    return list(db.execute(select(delivery.c.sop_instance_uid).where(pending)).scalars())


# --- what is shown ---------------------------------------------------------------------------


def _costs_table(medians: dict[int, dict[str, float]]) -> Table:
    small, large = medians
    table = Table(title="Milliseconds of a step, by instances in the ledger; medians", box=None)
    for column in ("", f"{small:,}", f"{large:,}", "ratio"):
        table.add_column(column, justify="right" if column else "left")
    for step, seconds in medians[small].items():
        other = medians[large][step]
        cells = (f"{seconds * 1e3:.2f}", f"{other * 1e3:.2f}", f"{other / seconds:.2f}")
        table.add_row(step, *cells)
    return table


def _rates_table(rates: dict[int, dict[str, float]]) -> Table:
    table = Table(title="Instances recorded, or jobs claimed and finished, in a second", box=None)
    for column in ("", *(f"{size:,}" for size in rates)):
        table.add_column(column, justify="right" if column else "left")
    for what in next(iter(rates.values())):
        table.add_row(what, *(f"{of[what]:,.0f}" for of in rates.values()))
    return table


if __name__ == "__main__":
    sys.exit(main())
