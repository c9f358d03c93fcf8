"""Verbs on models: which a site has added, and how far each pipeline goes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node import mode as modes_of_pipelines
from node.cli.options import config_option, json_option, ledger_of, print_rows, ready_ledger, text
from node.domain import Mode
from node.errors import ConfigError, ModelRefused, UsageError
from node.models import add as adding
from node.models import shelf
from node.store import modes
from pipelines import catalogue, registry
from pipelines import models as added_models

if TYPE_CHECKING:
    from node.settings import Settings
    from pipelines.models import AddedModel

RESTART = "Restart radnode, so that every process works with it."


@click.group(name="models")
@config_option  # also before the verb: it goes on by the environment
def models(settings: Settings) -> None:
    """Add models, verify them, and switch pipelines on, off, or into shadow."""


@models.command()
@config_option
@click.argument("what", metavar="NAME|FOLDER|URL")
@click.option("--sha256", "stated", help="Digest of what is at URL; or a file as of sha256sum.")
@click.option(
    "--from",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Take the files of a catalogue's model from here, without the internet.",
)
def add(settings: Settings, what: str, stated: str | None, folder: Path | None) -> None:
    """Add a model: NAME of the catalogue, a FOLDER with a pipeline.toml, or an archive at URL."""
    digests = adding.digests_in(stated) if stated else {}
    entry = catalogue.entries().get(what)
    settings.models_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if entry is not None:
        model = adding.from_catalogue(
            settings.models_folder, entry, folder=folder, stated=digests, tell=click.echo
        )
    elif folder is not None:
        raise UsageError(f"The catalogue has no model {what}.", do="See 'models list --catalogue'.")
    elif "://" in what:
        if "" not in digests:
            raise UsageError(
                "A model from an address needs its digest.", do="State --sha256 of the archive."
            )
        model = adding.from_address(
            settings.models_folder, what, digests[""], taken=registry.is_installed
        )
    elif Path(what).is_dir():
        model = adding.from_folder(
            settings.models_folder, Path(what), taken=registry.is_installed, stated=digests
        )
    else:
        known = ", ".join(catalogue.entries())
        raise UsageError(
            f"{what} is no folder, no address, and not in the catalogue.",
            do=f"The catalogue has {known}.",
        )
    click.echo(f"Added {model.name} ({len(model.files)} files, {model.sha256[:12]}).")
    if registry.DESCRIPTION in model.files:
        click.echo(f"It is a pipeline: name it in a route, run = [{model.name!r}]. {RESTART}")
    else:
        users = ", ".join(entry.pipelines) if entry else ""
        click.echo(f"It is for {users}. {RESTART}")


@models.command()
@config_option
@click.argument("name", required=False)
def verify(settings: Settings, name: str | None) -> None:
    """Check every file of the added models, or of NAME, against its digest."""
    chosen = added_models.added()
    if name is not None:
        chosen = tuple(model for model in chosen if model.name == name)
        if not chosen:
            raise UsageError(f"No model {name} was added.", do="See 'radnode models list'.")
    changed = []
    for model in chosen:
        try:
            model.verify()
        except added_models.ModelChanged as error:
            click.echo(f"{model.name}: CHANGED. {error}")
            changed.append(model.name)
        else:
            click.echo(f"{model.name}: {len(model.files)} files as they were added.")
    if changed:
        raise ModelRefused(
            f"{len(changed)} of {len(chosen)} models are not what was added.",
            do=f"Find out who changed them in {settings.models_folder}; then remove and add again.",
        )


@models.command(name="list")
@config_option
@json_option
@click.option("--catalogue", "known", is_flag=True, help="What 'models add NAME' knows instead.")
def list_(settings: Settings, *, as_json: bool, known: bool) -> None:
    """List pipelines and added models: what they are, and how far each goes."""
    rows = _known() if known else _present(settings)
    columns = ("name", "for", "licence", "source") if known else ("name", "is", "mode", "model")
    print_rows(rows, dict.fromkeys(columns, text), as_json=as_json)


def _known() -> list[dict[str, Any]]:
    return [
        {
            "name": entry.name,
            "title": entry.title,
            "for": ", ".join(entry.pipelines),
            "licence": entry.licence,
            "citation": entry.citation,
            "source": next(iter(entry.sources), "from a folder"),
            "files": entry.files,
        }
        for entry in catalogue.entries().values()
    ]


def _present(settings: Settings) -> list[dict[str, Any]]:
    decided = _decided(settings)
    added = {model.name: model for model in added_models.added()}
    rows = []
    for name in sorted({*registry.names(), *added}):
        model = added.get(name)
        row: dict[str, Any] = {"name": name, "is": _kind(name, model), "mode": None}
        if name in registry.names():
            row["mode"] = modes_of_pipelines.mode_of(name, decided).value
        row["model"] = "" if model is None else f"{model.licence} {model.sha256[:12]}"
        row["added"] = None if model is None else {**vars(model), "folder": str(model.folder)}
        rows.append(row)
    return rows


def _kind(name: str, model: AddedModel | None) -> str:
    if model is None:
        return "pipeline"
    return "added pipeline" if name in registry.names() else "added weights"


def _decided(settings: Settings) -> dict[str, Mode]:
    """Return what persons decided; nothing where no node has ever run."""
    try:
        with ledger_of(settings).read() as db:
            return modes.decided(db)
    except ConfigError:
        return {}


@models.command()
@config_option
@click.argument("name", metavar="PIPELINE")
def enable(settings: Settings, name: str) -> None:
    """Let PIPELINE run and send its results."""
    _decide(settings, name, Mode.ENABLED)
    click.echo(
        f"{name} is enabled. What it said in shadow stays unsent; a study that was not planned "
        "is after 'radnode reanalyse'."
    )


@models.command()
@config_option
@click.argument("name", metavar="PIPELINE")
def shadow(settings: Settings, name: str) -> None:
    """Let PIPELINE run and keep its results, but send nothing from now on."""
    _decide(settings, name, Mode.SHADOW)
    click.echo(f"{name} runs in shadow: nothing it finishes from now on is sent.")


@models.command()
@config_option
@click.argument("name", metavar="PIPELINE")
def disable(settings: Settings, name: str) -> None:
    """Do not run PIPELINE any more; its waiting jobs are canceled."""
    canceled = _decide(settings, name, Mode.DISABLED)
    click.echo(f"{name} is disabled; {canceled} of its jobs were canceled.")


def _decide(settings: Settings, name: str, mode: Mode) -> int:
    if name not in registry.names():
        known = ", ".join(registry.names()) or "none"
        raise UsageError(f"No pipeline is called '{name}'.", do=f"There are: {known}.")
    with ready_ledger(settings).write() as db:
        return modes.decide(db, name, mode)


@models.command()
@config_option
@click.argument("name")
def remove(settings: Settings, name: str) -> None:
    """Take an added model away. What it has said stays."""
    if any(name in one.run for one in settings.routes):
        raise UsageError(
            f"A route runs {name}: the node would not start.", do="Take it out of the route first."
        )
    shelf.remove(settings.models_folder, name)
    click.echo(f"Removed {name}. {RESTART}")


VERBS = (models,)
