"""The verb ``train``: a network of one's own from one's own studies."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.options import no_config_option
from node.errors import UsageError
from pipelines.contract import Code
from pipelines.training import recipes
from pipelines.training.data import TooFewPatients, split

if TYPE_CHECKING:
    from pipelines.training.data import Example

CODES = "codes.toml"


@click.command()
@no_config_option
@click.argument("recipe")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Studies with their truth (SEG, SR, truth.csv), or a folder for each class of images.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where it is put.")
@click.option("--name", help="Of the pipeline that comes out.  [default: name of --out]")
@click.option("--minutes", type=click.FloatRange(min=0.0, min_open=True), help="How long.")
@click.option("--steps", type=click.IntRange(min=1), help="How long: reproducible.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--split",
    "shares",
    nargs=2,
    type=click.FloatRange(min=0.0, max=0.5, min_open=True),
    default=(0.15, 0.15),
    show_default=True,
    metavar="VALIDATION TEST",
    help="Shares of the patients that choose the best weights, and that judge them.",
)
@click.option("--match", multiple=True, metavar="KEYWORD=PATTERN", help="Series it is for.")
@click.option("--licence", default="not stated", help="Of the data, for the model's card.")
@click.option("--resume", is_flag=True, help="Go on with what --out holds.")
def train(  # noqa: PLR0913 - one keyword per option
    *,
    recipe: str,
    data: Path,
    out: Path,
    name: str | None,
    minutes: float | None,
    steps: int | None,
    seed: int,
    shares: tuple[float, float],
    match: tuple[str, ...],
    licence: str,
    resume: bool,
) -> None:
    """Train RECIPE on the studies in a folder, and measure it on patients kept apart.

    What comes out is a folder for 'radnode models add'.
    """
    try:
        chosen = recipes.get(recipe)
    except recipes.UnknownRecipe:
        raise UsageError(
            f"There is no recipe '{recipe}'.", do=f"Take one of {', '.join(recipes.names())}."
        ) from None
    except ImportError as error:
        raise UsageError(
            f"The recipe '{recipe}' needs {error.name}.",
            do="Install it: pip install 'radnode[models,train]'",
        ) from None
    if out.exists() and any(out.iterdir()) and not resume:
        raise UsageError(
            f"{out} is not empty.", do="Name another folder, or go on with it: --resume."
        )
    examples = _examples(data, chosen.kind)
    try:
        parts = split(examples, validation=shares[0], test=shares[1], seed=seed)
        _tell(examples, parts)
        chosen.train(
            recipes.Order(
                name=name or out.resolve().name,
                examples=tuple(examples),
                split=parts,
                out=out,
                steps=steps,
                seconds=None if minutes is None else 60.0 * minutes,
                seed=seed,
                match=dict(_pair(one) for one in match),
                codes=_codes(data / CODES),
                licence=licence,
            )
        )
    except (TooFewPatients, recipes.Unsuitable, recipes.CannotGoOn) as error:
        raise UsageError(str(error), do="docs/training.md says what a recipe needs.") from error
    click.echo((out / "card.md").read_text("utf-8"))
    click.echo(f"Bring it in: radnode models add {out}")


def _examples(data: Path, kind: recipes.Kind) -> list[Example]:
    from node.evaluate.truth import TABLE
    from node.train.classes import class_examples
    from node.train.studies import study_examples

    if kind == "images" and not (data / TABLE).exists():
        return class_examples(data)
    return study_examples(data, recordings=kind == "recordings")


def _tell(examples: list[Example], parts: object) -> None:
    for part in ("train", "validation", "test"):
        patients: frozenset[str] = getattr(parts, part)
        count = sum(example.patient in patients for example in examples)
        click.echo(f"{part}: {count} examples of {len(patients)} patients", err=True)


def _pair(text: str) -> tuple[str, str]:
    keyword, equals, pattern = text.partition("=")
    if not equals or not keyword or not pattern:
        raise UsageError(f"--match {text} says too little.", do="Write --match Modality=MR.")
    return keyword, pattern


def _codes(path: Path) -> dict[str, Code]:
    """Return label -> code of ``codes.toml``; nothing where there is none."""
    if not path.exists():
        return {}
    try:
        stated = tomllib.loads(path.read_text("utf-8"))
        return {label: Code(*map(str, code)) for label, code in stated.items()}
    except (tomllib.TOMLDecodeError, TypeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} cannot be read: {error}",
            do='Write one line for each label: glioma = ["393564001", "SCT", "Glioma of brain"].',
        ) from error


VERBS = (train,)
