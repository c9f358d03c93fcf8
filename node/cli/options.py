"""What the verbs share: where the configuration is, and how lists are printed."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from node.configuration import CONFIG_VARIABLE, load_settings
from node.errors import ConfigError, UsageError
from node.store.ledger import Ledger, open_ledger
from pipelines import models, registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from node.settings import Settings
    from pipelines.contract import AnyPipeline


def _load(_context: click.Context, _option: click.Parameter, path: Path | None) -> Settings:
    if path is not None:
        os.environ[CONFIG_VARIABLE] = str(path.resolve())  # for the roles that 'up' starts
    settings = load_settings(path)
    models.use(settings.models_folder)
    return settings


config_option = click.option(
    "--config",
    "settings",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_load,
    help="Configuration file. Default: $RADNODE_CONFIG, ./radnode.toml, "
    "/etc/radnode/radnode.toml, else the defaults.",
)
"""Gives the verb its ``settings``."""

no_config_option = click.option("--config", expose_value=False, hidden=True)
"""For a verb that asks no configuration: every verb takes ``--config``."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
limit_option = click.option("--limit", default=50, show_default=True, help="How many at most.")


def ledger_of(settings: Settings) -> Ledger:
    """Open the ledger for a question. It must be there already.

    Raises:
        ConfigError: Nothing has ever run with this configuration.
    """
    if settings.database == "sqlite" and not (settings.data / "ledger.sqlite").exists():
        raise ConfigError(
            f"There is no ledger in {settings.data}.",
            do="Check --config and 'data' in it, or start the node: radnode up.",
        )
    return open_ledger(settings)


def ready_ledger(settings: Settings) -> Ledger:
    """Open the ledger for a role, its schema brought up to date first."""
    from node.store.migrate import migrate

    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    migrate(settings.database_url)
    return open_ledger(settings)


def when(seconds: float | None) -> str:
    """Return a time of the ledger as people read it, in the zone of this host."""
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def print_rows(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Callable[[Any], str]],
    *,
    as_json: bool,
) -> None:
    """Print rows as a table of some columns, or as JSON with all of them."""
    if as_json:
        click.echo(json.dumps([dict(row) for row in rows], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for name, shown in columns.items():
        whole = shown is start_of or name == "study"  # broken in two it cannot be copied
        table.add_column(name.replace("_", " "), overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*(shown(row[name]) for name, shown in columns.items()))
    # Into a pipe goes one line a row.
    Console(highlight=False, width=None if sys.stdout.isatty() else 1000).print(table)


def text(value: object) -> str:
    """Return a value as it stands, nothing for None."""
    return "" if value is None else str(value)


def start_of(value: object) -> str:
    """Return the start of an id: enough to type."""
    return str(value)[:12]


def dicom_files(folder: Path) -> list[Path]:
    """Return the DICOM files in or under ``folder``.

    Raises:
        UsageError: There is none.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    candidates = [folder] if folder.is_file() else sorted(folder.rglob("*"))
    found = []
    for path in candidates:
        if path.is_file():
            try:
                header = dcmread(path, specific_tags=["SOPInstanceUID"], stop_before_pixels=True)
            except InvalidDicomError:
                continue
            if "SOPInstanceUID" in header:
                found.append(path)
    if not found:
        raise UsageError(f"There is no DICOM file in {folder}.", do="Name another folder.")
    return found


def asked_for(one: AnyPipeline) -> str:
    """Return what a pipeline asks of each of its inputs."""
    asked = []
    for name, patterns in registry.inputs_of(one).items():
        wanted = ", ".join(f"{keyword} = {_or(p)}" for keyword, p in patterns.items())
        asked.append(f"{name}: {wanted}" if name else wanted)
    return "; ".join(asked)


def _or(patterns: str | tuple[str, ...]) -> str:
    return patterns if isinstance(patterns, str) else " or ".join(patterns)


def pipeline_called(name: str) -> AnyPipeline:
    """Return the pipeline of this name, or of the model in this folder.

    Raises:
        UsageError: The folder's ``pipeline.toml`` cannot be used.
        ConfigError: No pipeline has this name, or it lacks a package.
    """
    from node import route
    from pipelines import runtimes

    if not (Path(name) / runtimes.FILE).is_file():
        return route.pipeline(name)
    try:
        return runtimes.load(Path(name))
    except runtimes.ManifestError as error:
        raise UsageError(
            f"{Path(name) / runtimes.FILE} cannot be used.", do="; ".join(error.problems)
        ) from error
