"""What training leaves behind: a folder that runs as a pipeline, and a record of how it came."""

from __future__ import annotations

import csv
import hashlib
import json
import platform
import shutil
from importlib import metadata
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from safetensors.torch import save_file

from pipelines.contract import Code
from pipelines.runtimes import manifest
from pipelines.training.checkpoint import copy_of
from pipelines.training.data import digest_of
from pipelines.training.loop import Plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pipelines.evaluation.estimate import Estimate
    from pipelines.training.loop import Fitted
    from pipelines.training.recipes import Order

WEIGHTS = "weights.safetensors"
PROGRAM = "network.pt"
RECORD = "training.json"
CARD = "card.md"
_SCHEME = "99RADNODE"
_LONGEST_CODE = 16
"""Code Value is an SH (PS3.5 table 6.2-1)."""


def plan_of(order: Order, *, steps: int, learning_rate: float = 1e-3, score_every: int) -> Plan:
    """Return the plan of an order; ``steps`` where it states neither steps nor seconds."""
    wanted = steps if order.steps is None and order.seconds is None else order.steps
    return Plan(
        steps=wanted,
        seconds=order.seconds,
        seed=order.seed,
        learning_rate=learning_rate,
        score_every=score_every,
    )


def code_of(label: str, codes: Mapping[str, Code]) -> Code:
    """Return the code of a label; without one a private code that says its name."""
    if label in codes:
        return codes[label]
    value = label.upper()
    if len(value) > _LONGEST_CODE:
        value = hashlib.sha256(label.encode()).hexdigest()[:_LONGEST_CODE].upper()
    return Code(value, _SCHEME, label[:64])


def write_network(
    order: Order, network: torch.nn.Module, stated: Mapping[str, Any]
) -> manifest.Manifest:
    """Write weights, program and ``pipeline.toml``.

    Args:
        order: What was trained.
        network: On the CPU, in evaluation mode; such as ``torch.jit.script`` takes.
        stated: The manifest's keys that the recipe knows: title, task, input, output, labels, ...

    Returns:
        The manifest as it will be read.
    """
    order.out.mkdir(parents=True, exist_ok=True)
    save_file(copy_of(network), order.out / WEIGHTS)
    program = torch.jit.script(network)
    torch.jit.save(program, str(order.out / PROGRAM))
    patients = len({example.patient for example in order.split.of(order.examples, "train")})
    whole = {
        "name": order.name,
        "version": digest_of(order.examples)[:8] + f"-{order.seed}",
        "maker": "trained at this site with radnode train",
        "licence": order.licence,
        "trained_on": f"{patients} patients of this site, data digest "
        f"{digest_of(order.examples)[:16]}.",
        **stated,
        "model": {
            "runtime": "torchscript",
            "file": PROGRAM,
            "sha256": hashlib.sha256((order.out / PROGRAM).read_bytes()).hexdigest(),
        },
    }
    text = _toml(whole)
    (order.out / manifest.FILE).write_text(text, "utf-8")
    return manifest.parse(text.encode())


def write_record(
    order: Order, plan: Plan, fitted: Fitted, figures: Sequence[tuple[str, str, Estimate]]
) -> None:
    """Write how the network came about: record, curves, and a card of what was measured.

    Args:
        order: What was trained.
        plan: For how long, from which seed.
        fitted: What came out of the run.
        figures: Of the test patients: of what, which figure, the figure.
    """
    counts = {
        part: {
            "patients": len({e.patient for e in order.split.of(order.examples, part)}),
            "examples": len(order.split.of(order.examples, part)),
        }
        for part in ("train", "validation", "test")
    }
    versions = {name: metadata.version(name) for name in ("torch", "numpy", "SimpleITK")}
    record = {
        "data_sha256": digest_of(order.examples),
        "split": counts,
        "plan": vars(plan),
        "steps": fitted.steps,
        "seconds": round(fitted.seconds, 1),
        "best_step": fitted.best_step,
        "best_score": fitted.best_score,
        "versions": {"python": platform.python_version(), **versions},
    }
    (order.out / RECORD).write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    with (order.out / "curves.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("step", "seconds", "loss", "score"))
        rows.writerows((p.step, f"{p.seconds:.1f}", p.loss, p.score) for p in fitted.curve)
    _draw(fitted, order.out / "curves.png")
    (order.out / CARD).write_text(_card(order, record, figures), "utf-8")
    shutil.rmtree(order.out / "checkpoints", ignore_errors=True)  # nothing is left to go on with


def _draw(fitted: Fitted, path: Path) -> None:
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(6, 3), layout="constrained")
        axes = figure.subplots()
        steps = [point.step for point in fitted.curve]
        axes.plot(steps, [point.loss for point in fitted.curve], label="loss, training")
        scores = [point.score for point in fitted.curve]
        if all(score is not None for score in scores):
            axes.plot(steps, scores, label="score, validation")  # type: ignore[arg-type]
        axes.axvline(fitted.best_step, color="grey", linewidth=0.8)
        axes.set_xlabel("step")
        axes.legend()
        figure.savefig(path, dpi=120)


def _card(
    order: Order, record: Mapping[str, Any], figures: Sequence[tuple[str, str, Estimate]]
) -> str:
    split = "\n".join(
        f"| {part} | {count['patients']} | {count['examples']} |"
        for part, count in record["split"].items()
    )
    measured = "\n".join(
        f"| {what} | {figure} | {estimate} | {estimate.n} | {estimate.patients} |"
        for what, figure, estimate in figures
    )
    return f"""# Model card: {order.name}

**Intended use.** To be written by who answers for it.

**Not for** diagnosis, until somebody has shown that it is fit for it.

## Training

Data digest `{record["data_sha256"]}`, seed {order.seed}, {record["steps"]} steps.
The weights are those of step {record["best_step"]}, chosen on the validation patients.
Licence of the data: {order.licence}.

| part | patients | examples |
|---|---|---|
{split}

## Measured

On the test patients, whom neither training nor the choice of the weights has seen;
95 % intervals over patients.

<!-- measured -->
| what | figure | value and 95 % interval | n | patients |
|---|---|---|---|---|
{measured}
<!-- /measured -->

## Known failures

None was looked for yet.
"""


def _toml(table: Mapping[str, Any]) -> str:
    """Return a table of strings, numbers, lists and tables as TOML."""
    lines = [f"{key} = {_value(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(k)} = {_value(v)}" for k, v in value.items())
        return "{ " + inner + " }"
    if isinstance(value, Code):
        return _value([value.value, value.scheme, value.meaning])
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    return json.dumps(value, ensure_ascii=False)  # strings, numbers, true and false: as in JSON
