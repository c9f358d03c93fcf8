"""The command ``radnode``: one module per group of verbs, errors in two lines."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import NoReturn

import click
from sqlalchemy.exc import SQLAlchemyError

from node import __version__, confine
from node.errors import NodeError
from pipelines.models import ModelChanged

MODULES = {
    "tools": ("init", "check", "echo", "verify", "send", "pipelines", "password"),
    "trial": ("run",),
    "roles": ("up", "listen", "relay", "work", "deliver"),
    "models": ("models",),
    "train": ("train",),
    "evaluate": ("evaluate",),
    "compare": ("compare",),
    "audit": ("audit",),
    "export": ("export",),
    "retain": ("retain", "reconcile", "release", "discard"),
    "ledger": (
        *("studies", "jobs", "deliveries", "show", "why"),
        *("retry", "cancel", "reanalyse", "watch", "logs"),
    ),
}
"""Module -> its verbs. Only the module of the verb asked for is imported."""


class Verbs(click.Group):
    """The verbs of all modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return them in the order in which a new user meets them."""
        return [verb for verbs in MODULES.values() for verb in verbs]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the verb's module and return the verb; None for a word that is none."""
        for module, verbs in MODULES.items():
            if cmd_name in verbs:
                commands: dict[str, click.Command] = {
                    command.name or "": command
                    for command in import_module(f"node.cli.{module}").VERBS
                }
                return commands[cmd_name]
        return None


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="radnode")
def main() -> None:
    """The DICOM node that a department routes its studies to and forgets."""


def run() -> None:
    """Entry point: expected errors become two lines and exit status 1, not a traceback."""
    confine.dump_no_core()
    try:
        main()
    except NodeError as error:
        _tell(error.what, error.do)
    except ModelChanged as error:
        what, _, do = str(error).partition(". ")
        _tell(f"{what}.", do)
    except SQLAlchemyError as error:
        _tell(f"The ledger does not answer ({type(error).__name__}).", "Run 'radnode check'.")
    except OSError as error:
        if error.filename is None:
            raise
        _tell(f"{error.filename}: {error.strerror}.", "Check that path and its permissions.")


def _tell(what: str, do: str) -> NoReturn:
    click.echo(f"radnode: {what}\n  {do}", err=True)
    sys.exit(1)
