"""The verb ``evaluate``: how well a pipeline does on a site's own studies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import Progress

from node.cli.options import config_option, pipeline_called
from node.evaluate.studies import evaluate as evaluate_studies
from pipelines import models
from pipelines.evaluation.report import as_html, as_markdown, write_card

if TYPE_CHECKING:
    from node.settings import Settings


@click.command()
@config_option
@click.argument("name", metavar="PIPELINE")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Studies with their truth: SEG, SR, or truth.csv.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where the page goes.")
@click.option(
    "--models",
    "models_folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of added models. Default: that of the configuration.",
)
@click.option(
    "--card",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Model card whose measured part is replaced.",
)
def evaluate(  # noqa: PLR0913 - one keyword per option
    settings: Settings,
    *,
    name: str,
    data: Path,
    out: Path,
    models_folder: Path | None,
    card: Path | None,
) -> None:
    """Measure PIPELINE on studies whose truth is known: a page with figures, and its card's block.

    Intervals are drawn over patients. What could not be looked at counts as missed, and is told.
    """
    models.use(models_folder or settings.models_folder)
    chosen = pipeline_called(name)
    chosen.warm_up()
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("evaluate", total=None)
        found = evaluate_studies(
            chosen, data, lambda done, total: bar.update(task, completed=done, total=total)
        )
    out.mkdir(parents=True, exist_ok=True)
    measured = as_markdown(found)
    (out / "evaluation.html").write_text(as_html(found), "utf-8")
    (out / "measured.md").write_text(measured + "\n", "utf-8")
    if card is not None:
        write_card(card, measured)
    click.echo(measured)
    click.echo(f"\n{out / 'evaluation.html'}")


VERBS = (evaluate,)
