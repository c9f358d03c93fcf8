"""``python -m tests.bench.receive``: how fast the node receives, beside its peers in one run.

Every receiver gets the same instances from the same client. In each round each medium starts with
another receiver, and each receiver anew in a new folder. Files are removed, and the disk is
synced, before the next load: what one leaves to be written later is not written in another's time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tests.bench import durable_write, goals, plots, received
from tests.bench.client import Client, Load
from tests.bench.instances import KINDS, encoded
from tests.bench.received import CROWD, WORST
from tests.bench.receivers import SERVERS, installed, started
from tests.peers import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.receivers import Receiver

FOLDER = REPOSITORY / "build" / "bench"
MEMORY = Path("/dev/shm")
RAW = "raw"
IDLE_S = 5.0
SETTLE_S = 1.0


@dataclass(frozen=True)
class Case:
    """One load.

    Attributes:
        medium: "disk" or "tmpfs".
        kind: Of instances, one of ``KINDS``.
        associations: At once.
        receivers: That are measured; "raw" is the same files written with no network.
    """

    medium: str
    kind: str
    associations: int
    receivers: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return what people call it."""
        return f"{self.kind}, {self.medium}, {self.associations}"


ALL = (*SERVERS, RAW)
BUT_PYNETDICOM = ("radnode", "DCMTK", "Orthanc", RAW)
FAST = ("radnode", "DCMTK", RAW)
CASES = (
    *(Case("disk", "CT", n, ALL) for n in (1, 4, 16, CROWD)),
    Case("disk", "MR", 4, BUT_PYNETDICOM),
    *(Case("disk", "multi-frame", n, BUT_PYNETDICOM) for n in (1, 4)),
    *(Case("tmpfs", "CT", n, FAST) for n in (1, 4, 16, CROWD)),
)
QUICK = tuple(Case("disk", "CT", n, FAST) for n in (1, 4, 16))


def measure(
    console: Console,
    folder: Path = FOLDER,
    cases: Sequence[Case] = CASES,
    *,
    rounds: int = 5,
    seconds: float = 1.0,
) -> dict[str, Any]:
    """Measure every case on every receiver, and print.

    Args:
        console: Where tables go.
        folder: On the disk that is measured.
        cases: To measure.
        rounds: Each receiver is measured once in a round.
        seconds: Of sending, for one measurement.

    Returns:
        ``cases``: name -> ``medium``, ``kind``, ``associations`` and ``receivers``: name -> medians
        of the rounds, the worst of what was refused, broken and lost, and the ``rounds``;
        ``idle``: receiver -> what open associations cost on which nothing comes; ``goals``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    there = {name for name in ALL if name == RAW or installed(name)}
    for name in set(ALL) - there:
        console.print(f"{name} is not installed, and not measured.", style="bold red")
    media = {"disk": folder, "tmpfs": MEMORY}
    cases = [case for case in cases if media[case.medium].is_dir()]
    results: dict[str, dict[str, list[dict[str, Any]]]] = {case.name: {} for case in cases}
    client = Client()
    try:
        for turn in range(rounds):
            for medium, name in _order(cases, there, turn):
                print(f"round {turn + 1} of {rounds}: {name} on {medium}", flush=True)
                mine = [c for c in cases if c.medium == medium and name in c.receivers]
                for case, result in _each(client, name, mine, media[medium], seconds):
                    results[case.name].setdefault(name, []).append(result)
        idle = {name: _idle(client, name, folder) for name in ("radnode", "pynetdicom")}
    finally:
        client.stop()
    named = {case.name: case for case in cases}
    measured: dict[str, Any] = {
        "rounds": rounds,
        "seconds": seconds,
        "cases": {
            name: {
                "medium": named[name].medium,
                "kind": named[name].kind,
                "associations": named[name].associations,
                "receivers": {n: _summary(by_receiver[n]) for n in ALL if n in by_receiver},
            }
            for name, by_receiver in results.items()
        },
        "idle": idle,
    }
    measured["goals"] = received.judged(measured)
    console.print(received.table(measured))
    return measured


def _order(cases: Sequence[Case], there: set[str], turn: int) -> Iterator[tuple[str, str]]:
    """Yield medium and receiver: each turn begins with another receiver."""
    for medium in dict.fromkeys(case.medium for case in cases):
        asked = {name for case in cases if case.medium == medium for name in case.receivers}
        names = [name for name in ALL if name in asked & there]
        at = turn % len(names)
        for name in (*names[at:], *names[:at]):
            yield medium, name


def _each(
    client: Client, name: str, cases: Sequence[Case], folder: Path, seconds: float
) -> Iterator[tuple[Case, dict[str, Any]]]:
    """Yield what each case gives on one receiver, started anew."""
    if name == RAW:
        for case in cases:
            os.sync()
            content = encoded(case.kind)
            speed = durable_write.mb_per_s(folder, content, case.associations, seconds)
            yield case, {"MB_per_s": speed}
        return
    with started(name, folder) as receiver:
        for run, case in enumerate(cases, start=1):
            load = Load(
                receiver.port,
                receiver.ae_title,
                case.kind,
                case.associations,
                run,
                seconds,
                warm_up=0 if KINDS[case.kind].frames > 1 else 2,  # one takes long enough
            )
            os.sync()
            yield case, _one(client, receiver, load)
            receiver.remove_files()


def _one(client: Client, receiver: Receiver, load: Load) -> dict[str, Any]:
    held_before = receiver.held()
    client.open(load)
    cpu_before_s = receiver.cpu_s()
    result = client.go()
    cpu_s = receiver.cpu_s() - cpu_before_s
    result["cpu_s_per_GB"] = cpu_s / (result["instances"] * result["instance_bytes"] / 1e9)
    result["resident_bytes"] = receiver.largest_resident_bytes()
    client.release()
    result["lost"] = result["acknowledged"] - (receiver.held() - held_before)
    return result


def _idle(client: Client, name: str, folder: Path) -> dict[str, float]:
    """Return what established associations cost a receiver while nothing comes."""
    with started(name, folder) as receiver:
        load = Load(receiver.port, receiver.ae_title, "CT", CROWD, 1, 0.0, warm_up=1)
        opened = client.open(load)
        time.sleep(SETTLE_S)
        cpu_before_s, begun = receiver.cpu_s(), time.perf_counter()
        time.sleep(IDLE_S)
        share = (receiver.cpu_s() - cpu_before_s) / (time.perf_counter() - begun)
        client.release()
    return {"associations": opened, "cpu_percent": 100 * share}


def _summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of what is a speed, a time or a cost, and the worst of what must not be."""

    def median(*keys: str) -> float:
        values = []
        for one in rounds:
            value: Any = one
            for key in keys:
                value = value[key]
            values.append(float(value))
        return statistics.median(values)

    if "latency_s" not in rounds[0]:
        return {"MB_per_s": median("MB_per_s"), "rounds": rounds}
    return {
        "MB_per_s": median("MB_per_s"),
        "latency_s": {q: median("latency_s", q) for q in rounds[0]["latency_s"]},
        "cpu_s_per_GB": median("cpu_s_per_GB"),
        "resident_bytes": max(one["resident_bytes"] for one in rounds),
        **{key: max(one[key] for one in rounds) for key in WORST},
        "rounds": rounds,
    }


def main() -> int:
    """Measure what the command line says; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description="Speed of receiving, beside peers.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="on the disk to measure")
    parser.add_argument("--quick", action="store_true", help="CT on disk, fast peers, 2 rounds")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--kind", choices=tuple(KINDS))
    parser.add_argument("--medium", choices=("disk", "tmpfs"))
    parser.add_argument("--associations", type=int, nargs="+")
    given = parser.parse_args()
    console = Console(width=goals.WIDTH)
    cases = [
        case
        for case in (QUICK if given.quick else CASES)
        if given.kind in (None, case.kind)
        and given.medium in (None, case.medium)
        and (given.associations is None or case.associations in given.associations)
    ]
    measured = measure(
        console,
        given.folder,
        cases,
        rounds=given.rounds or (2 if given.quick else 5),
        seconds=given.seconds,
    )
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "receive.json").write_text(json.dumps(measured, indent=2) + "\n")
    plots.draw("receive", measured, FOLDER)
    console.print(goals.table(measured["goals"]))
    return 0 if goals.met(measured["goals"]) else 1


if __name__ == "__main__":
    sys.exit(main())
