"""The verb ``compare``: a pipeline in shadow against the one in use."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import click

from node.cli.options import config_option, json_option, ledger_of, print_rows, start_of, text
from node.errors import UsageError
from node.models.compare import compare as compare_results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node.models.compare import Comparison, Spread
    from node.settings import Settings


@click.command()
@config_option
@json_option
@click.argument("a")
@click.argument("b")
def compare(settings: Settings, *, as_json: bool, a: str, b: str) -> None:
    """Compare what pipelines A and B said of the same images; each NAME or NAME@VERSION.

    Let one run in shadow ('radnode models shadow') beside the other, then ask.
    """
    with ledger_of(settings).read() as db:
        found = compare_results(db, settings.artifact_folder, a, b)
    if not found.cases:
        raise UsageError(
            f"There is nothing that both {a} and {b} have judged ({found.only_a} only by {a}, "
            f"{found.only_b} only by {b}).",
            do="Name both in the same route, and wait for studies; or 'radnode reanalyse' some.",
        )
    if as_json:
        click.echo(json.dumps(_as_json(found, a, b), indent=2))
        return
    click.echo(
        f"{len(found.cases)} inputs judged by both; {found.only_a} only by {a}, "
        f"{found.only_b} only by {b}.\n"
    )
    outcomes = [
        {"A": of_a.value, "B": of_b.value, "cases": number}
        for (of_a, of_b), number in sorted(found.outcomes.items())
    ]
    print_rows(outcomes, dict.fromkeys(("A", "B", "cases"), text), as_json=False)
    _print("Measurements, B minus A", found.differences)
    _print("Dice of the outlines", found.overlaps)
    click.echo(f"\n{len(found.disagreeing)} cases with different outcomes:")
    for case in found.disagreeing:
        click.echo(
            f"  {start_of(case.job_a)} {case.outcome_a.value} / "
            f"{start_of(case.job_b)} {case.outcome_b.value}"
        )


def _print(title: str, spreads: Sequence[Spread]) -> None:
    if not spreads:
        return
    click.echo(f"\n{title}:")
    columns = {
        "name": text,
        "number": text,
        "mean": _number,
        "deviation": _number,
        "worst": _number,
        "job_a": start_of,
        "job_b": start_of,
    }
    print_rows([vars(one) for one in spreads], columns, as_json=False)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _as_json(found: Comparison, a: str, b: str) -> dict[str, object]:
    return {
        "a": a,
        "b": b,
        "only_a": found.only_a,
        "only_b": found.only_b,
        "outcomes": [
            {"a": of_a, "b": of_b, "cases": n} for (of_a, of_b), n in found.outcomes.items()
        ],
        "differences": [dataclasses.asdict(one) for one in found.differences],
        "overlaps": [dataclasses.asdict(one) for one in found.overlaps],
        "cases": [dataclasses.asdict(case) for case in found.cases],
    }


VERBS = (compare,)
