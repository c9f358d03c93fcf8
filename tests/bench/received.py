"""What a run of ``receive`` says: its goals, and a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from tests.bench import goals

if TYPE_CHECKING:
    from collections.abc import Iterator

CROWD = 64
"""Associations at which memory, loss and latency are judged."""

# At so many associations: this many times the speed of DCMTK, and of Orthanc.
DISK_GOALS = {1: (0.6, 2.0), 4: (1.0, 3.0), 16: (1.0, 3.0), CROWD: (1.0, 3.0)}
TMPFS_GOALS = {1: 1.0, 4: 1.1, 16: 1.1}
P99_GOAL_S = 0.5
RESIDENT_GOAL_MB = 200.0
IDLE_GOAL_PERCENT = 2.0

WORST = ("refused_associations", "refused", "broken", "lost")


def judged(measured: dict[str, Any]) -> list[goals.Goal]:
    """Return the goals of what was measured."""
    return [*_speed_goals(measured), *_crowd_goals(measured)]


def table(measured: dict[str, Any]) -> Table:
    """Return speed, ratios, latency and cost, a line a case and receiver."""
    drawn = Table(title=f"Receive: medians of {measured['rounds']} rounds", box=None)
    columns = ("", "MB/s", "radnode is", "p50 ms", "p95", "p99", "max", "CPU s/GB", "MB", "failed")
    for column in columns:
        drawn.add_column(column, justify="right" if column else "left", no_wrap=True)
    for name, case in measured["cases"].items():
        drawn.add_row(f"[bold]{name}[/]")
        ours = case["receivers"]["radnode"]["MB_per_s"]
        for receiver, one in case["receivers"].items():
            cells = [f"  {receiver}", f"{one['MB_per_s']:.0f}", f"{ours / one['MB_per_s']:.2f} x"]
            if "latency_s" in one:
                cells += [f"{1000 * one['latency_s'][q]:.1f}" for q in ("p50", "p95", "p99", "max")]
                cells += [f"{one['cpu_s_per_GB']:.2f}", f"{one['resident_bytes'] / 1e6:.0f}"]
                cells.append(str(sum(one[key] for key in WORST)))
            drawn.add_row(*cells)
    return drawn


def _speed_goals(measured: dict[str, Any]) -> Iterator[goals.Goal]:
    for name, case in measured["cases"].items():
        if case["kind"] != "CT":
            continue
        speed = {n: one["MB_per_s"] for n, one in case["receivers"].items()}
        if case["medium"] == "disk":
            of_dcmtk, of_orthanc = DISK_GOALS[case["associations"]]
            wanted = {"DCMTK": of_dcmtk, "Orthanc": of_orthanc}
        else:
            at = case["associations"]
            wanted = {"DCMTK": TMPFS_GOALS[at]} if at in TMPFS_GOALS else {}
        for peer, goal in wanted.items():
            if peer in speed:
                yield goals.at_least(f"{name}: times {peer}", speed["radnode"] / speed[peer], goal)


def _crowd_goals(measured: dict[str, Any]) -> Iterator[goals.Goal]:
    for name, case in measured["cases"].items():
        ours = case["receivers"]["radnode"]
        failed = sum(ours[key] for key in WORST)
        if failed or case["associations"] == CROWD:
            yield goals.at_most(f"{name}: refused, broken or lost", failed, 0)
        if case["associations"] == CROWD:
            yield goals.at_most(f"{name}: p99 of latency, s", ours["latency_s"]["p99"], P99_GOAL_S)
            resident_mb = ours["resident_bytes"] / 1e6
            yield goals.at_most(f"{name}: MB of a listener", resident_mb, RESIDENT_GOAL_MB)
    idle = measured["idle"]["radnode"]
    what = f"{CROWD} idle associations: % of a core, all listeners"
    yield goals.at_most(what, idle["cpu_percent"], IDLE_GOAL_PERCENT)
