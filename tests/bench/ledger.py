"""``python -m tests.bench.ledger``: what each step costs, in a new ledger and in one of years.

The same study goes its whole way, received to committed, in both in turn; of each step is taken
how long it lasts, and how many pages it reads and writes, on which no other program has an
influence. Then how many instances a second are recorded, alone and together, and how many jobs a
second one, two and four workers claim and finish. On SQLite, in this checkout's build folder.
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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
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
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.synchronize import Barrier

    from sqlalchemy import Connection


FOLDER = REPOSITORY / "build" / "bench"
SMALL, LARGE = 10_000, 10_000_000
ROUNDS = 40
GOAL = 1.5
PLANNED = ("nothing to do", "complete", "route", "plan", "ring", "claim", "finish", "deliver")
"""The steps that the goal is about."""
BATCHES = (1, 16, 64)
WORKERS = (1, 2, 4)
SLICES = 20
JOBS = 120
READ_BYTES = 1 << 24
PAGE_BYTES = 4096

Made = TypeVar("Made")


@dataclass(frozen=True)
class Cost:
    """Of one step.

    Attributes:
        seconds: That it took.
        read: Pages that were not in the connection's own memory; most are in the kernel's.
        written: Pages, into the write-ahead log or from there to their place.
    """

    seconds: float
    read: float
    written: float


Costs = dict[str, list[Cost]]
"""Of each step, one of every round."""


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
        Medians of ``Cost`` by ledger and step, records and jobs per second, and the goals.
    """
    costs: dict[int, Costs] = {}
    rates: dict[int, dict[str, float]] = {}
    with ExitStack() as stack:
        ledgers = {size: stack.enter_context(_ledger(size)) for size in (SMALL, instances)}
        opened = {size: stack.enter_context(Ledger.open(url)) for size, url in ledgers.items()}
        costs = {size: {} for size in ledgers}
        for _ in range(rounds + 1):
            for size, ledger in opened.items():
                for step, cost in _way_of_a_study(ledger):
                    costs[size].setdefault(step, []).append(cost)
        for size, url in ledgers.items():
            rates[size] = {f"{n} together": _records_per_s(opened[size], n) for n in BATCHES}
            steps.settle(opened[size])
            rates[size] |= {f"{n} workers": _jobs_per_s(url, opened[size], n) for n in WORKERS}
    medians = {
        size: {step: _median(of_step[1:]) for step, of_step in of.items()}
        for size, of in costs.items()
    }
    console.print(_costs_table(medians))
    console.print(_rates_table(rates))
    small, large = medians[SMALL], medians[instances]
    judged = [
        goals.at_most(
            f"ledger: {step}, {instances:,} to {SMALL:,}",
            large[step].seconds / small[step].seconds,
            GOAL,
        )
        for step in PLANNED
    ]
    of_each = {
        name: {
            size: {step: getattr(cost, name) for step, cost in of.items()}
            for size, of in medians.items()
        }
        for name in Cost.__dataclass_fields__
    }
    return {"instances": [SMALL, instances], **of_each, "rates": rates, "goals": judged}


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


def _way_of_a_study(ledger: Ledger) -> Iterator[tuple[str, Cost]]:
    """Take a new study through every step; yield what was done and what it cost."""
    study_uid, series_uid = steps.uid(), steps.uid()
    yield "nothing to do", _cost(lambda: steps.look(ledger))[0]
    slices = steps.slices(SLICES, study_uid, series_uid)
    yield "record 20", _cost(lambda: steps.record(ledger, slices))[0]
    yield "complete", _cost(lambda: steps.complete(ledger))[0]
    cost, ((series,), _, _) = _cost(lambda: steps.look(ledger))
    yield "route", cost
    job = steps.job(study_uid, series_uid)
    yield "plan", _cost(lambda: steps.plan(ledger, series, job))[0]
    steps.settle(ledger)
    yield "ring", _cost(lambda: steps.ring(ledger))[0]
    cost, lease = _cost(lambda: steps.claim(ledger))
    yield "claim", cost
    yield "finish", _cost(lambda: steps.finish(ledger, lease))[0]
    yield "deliver", _cost(lambda: steps.deliver(ledger))[0]
    yield "commit", _cost(lambda: steps.commit(ledger))[0]
    with ledger.read() as db:
        yield "radnode studies", _cost(lambda: listing.studies(db, 20))[0]
        yield "radnode jobs", _cost(lambda: listing.jobs(db, 20))[0]
        yield "radnode deliveries", _cost(lambda: listing.deliveries(db, 20))[0]
        yield "radnode watch", _cost(lambda: listing.counts(db))[0]


def _timed(step: Callable[[], Made]) -> tuple[float, Made]:
    begun = time.perf_counter()
    made = step()
    return time.perf_counter() - begun, made


def _cost(step: Callable[[], Made]) -> tuple[Cost, Made]:
    read, written = _bytes_moved()
    seconds, made = _timed(step)
    read_then, written_then = _bytes_moved()
    pages = ((read_then - read) / PAGE_BYTES, (written_then - written) / PAGE_BYTES)
    return Cost(seconds, *pages), made


def _bytes_moved() -> tuple[int, int]:
    """Return what this process has read and written so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    counted = dict(line.split(": ") for line in lines)
    return int(counted["rchar"]), int(counted["wchar"])


def _median(costs: Sequence[Cost]) -> Cost:
    """Return the median of each figure by itself."""
    names = Cost.__dataclass_fields__
    return Cost(*(statistics.median(getattr(one, name) for one in costs) for name in names))


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


def _costs_table(medians: dict[int, dict[str, Cost]]) -> Table:
    small, large = medians
    title = f"A step in a ledger of {small:,} instances, then of {large:,}; medians"
    table = Table(title=title, box=None)
    for column in ("", "ms", "ms", "ratio", "pages read", "", "written", ""):
        table.add_column(column, justify="right" if table.columns else "left")
    for step, cost in medians[small].items():
        other = medians[large][step]
        table.add_row(
            step,
            f"{cost.seconds * 1e3:.2f}",
            f"{other.seconds * 1e3:.2f}",
            f"{other.seconds / cost.seconds:.2f}",
            f"{cost.read:.0f}",
            f"{other.read:.0f}",
            f"{cost.written:.0f}",
            f"{other.written:.0f}",
        )
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
