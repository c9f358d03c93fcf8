"""Plots of what was measured, one PNG each."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from tests.bench.received import CROWD, P99_GOAL_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

COLORS = {
    "radnode": "#1f6fb4",
    "DCMTK": "#8a8a8a",
    "Orthanc": "#c98b2b",
    "pynetdicom": "#7fae5c",
    "raw": "#d9d9d9",
}

NOT_A_STAGE = ("model", "latency")
"""Of what is told of a study's way: the model's own time, and the sum without it."""

Drawn = tuple[str, Figure]
"""Name of the file without its ending, and what is in it."""


def draw(part: str, measured: dict[str, Any], folder: Path) -> list[Path]:
    """Draw the plots of one part, if it has any, and return where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in _PLOTS[part](measured) if part in _PLOTS else ():
        figure.tight_layout()
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=110)
    return paths


def _receive(measured: dict[str, Any]) -> Iterator[Drawn]:
    cases = [case for case in measured["cases"].values() if case["kind"] == "CT"]
    media = list(dict.fromkeys(case["medium"] for case in cases))
    if not media:
        return
    figure = Figure(figsize=(5 * len(media), 3.6))
    axes = figure.subplots(1, len(media), sharey=True, squeeze=False)[0]
    for axis, medium in zip(axes, media, strict=True):
        _bars(axis, [case for case in cases if case["medium"] == medium])
        axis.set_title(f"512 x 512 CT, {medium}")
        axis.set_xlabel("associations at once")
    axes[0].set_ylabel("MB/s")
    axes[0].legend(frameon=False)
    yield "bench-receive", figure
    for case in cases:
        if case["associations"] == CROWD and case["medium"] == "disk":
            yield "bench-receive-latency", _latency(case)


def _bars(axis: Any, cases: list[dict[str, Any]]) -> None:
    names = [name for name in COLORS if any(name in case["receivers"] for case in cases)]
    width = 0.8 / len(names)
    for at, name in enumerate(names):
        here = [(x, case) for x, case in enumerate(cases) if name in case["receivers"]]
        axis.bar(
            [x + at * width for x, _ in here],
            [case["receivers"][name]["MB_per_s"] for _, case in here],
            width,
            label="write and fsync alone" if name == "raw" else name,
            color=COLORS[name],
        )
    axis.set_xticks([x + 0.4 - width / 2 for x in range(len(cases))])
    axis.set_xticklabels([str(case["associations"]) for case in cases])


def _latency(case: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(5, 3.2))
    axis = figure.subplots()
    for name, one in case["receivers"].items():
        if "latency_s" in one:
            values = [1000 * value for value in one["latency_s"].values()]
            axis.plot(list(one["latency_s"]), values, marker="o", label=name, color=COLORS[name])
    axis.axhline(1000 * P99_GOAL_S, linestyle=":", color="black", label="goal for p99")
    axis.set_yscale("log")
    axis.set_ylabel("ms, first byte to Success")
    axis.set_title(f"{case['associations']} associations, 512 x 512 CT, {case['medium']}")
    axis.legend(frameon=False)
    return figure


def _end_to_end(measured: dict[str, Any]) -> Iterator[Drawn]:
    """Draw where the time goes, a bar a kind of study; the first study of each is cold."""
    figure = Figure(figsize=(8, 3.2))
    axis = figure.subplots()
    ends: dict[str, float] = dict.fromkeys(measured["seconds"], 0.0)
    stages = [s for s in next(iter(measured["seconds"].values()))[0] if s not in NOT_A_STAGE]
    for stage in stages:
        middle = {
            kind: statistics.median(study[stage] for study in studies[1:])
            for kind, studies in measured["seconds"].items()
        }
        axis.barh(list(ends), list(middle.values()), left=list(ends.values()), label=stage)
        ends = {kind: end + middle[kind] for kind, end in ends.items()}
    axis.invert_yaxis()
    axis.set_xlabel("seconds from the end of the quiet time, without the model's")
    axis.legend(frameon=False, ncols=2, fontsize="small")
    yield "bench-end-to-end", figure


def _send(measured: dict[str, Any]) -> Iterator[Drawn]:
    """Draw who sends how fast, to whom."""
    cases = measured["cases"]
    names = list(dict.fromkeys(name for senders in cases.values() for name in senders))
    figure = Figure(figsize=(8, 3.8))
    axis = figure.subplots()
    height = 0.8 / len(names)
    for at, name in enumerate(names):
        here = [(y, of[name]["MB_per_s"]) for y, of in enumerate(cases.values()) if name in of]
        label = "bytes made before, alone" if name == "plain" else name
        color = COLORS.get("raw" if name == "plain" else name)
        places = [y + at * height for y, _ in here]
        axis.barh(places, [speed for _, speed in here], height, label=label, color=color)
    axis.set_yticks([y + 0.4 - height / 2 for y in range(len(cases))])
    axis.set_yticklabels([f"to {case}" for case in cases])
    axis.invert_yaxis()
    axis.set_xlabel("MB/s on one association")
    axis.legend(frameon=False, fontsize="small")
    yield "bench-send", figure


def _ledger(measured: dict[str, Any]) -> Iterator[Drawn]:
    """Draw what a step costs in a small and in a large ledger."""
    sizes = {f"{int(size):,} instances": of for size, of in measured["seconds"].items()}
    figure = Figure(figsize=(8, 4.2))
    axis = figure.subplots()
    height = 0.8 / len(sizes)
    for at, (size, seconds) in enumerate(sizes.items()):
        places = [y + at * height for y in range(len(seconds))]
        axis.barh(places, [1000 * s for s in seconds.values()], height, label=size)
    steps = list(next(iter(sizes.values())))
    axis.set_yticks([y + 0.4 - height / 2 for y in range(len(steps))])
    axis.set_yticklabels(steps)
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.set_xlabel("ms a step")
    axis.legend(frameon=False, fontsize="small")
    yield "bench-ledger", figure


_PLOTS: dict[str, Callable[[dict[str, Any]], Iterator[Drawn]]] = {
    "receive": _receive,
    "send": _send,
    "ledger": _ledger,
    "end_to_end": _end_to_end,
}
