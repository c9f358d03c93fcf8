"""The command ``radnode``: one module per group of verbs, errors in two lines."""

from __future__ import annotations

import sys
from typing import NoReturn

import click
from sqlalchemy.exc import SQLAlchemyError

from node import __version__
from node.cli import ledger, roles, tools
from node.errors import NodeError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="radnode")
def main() -> None:
    """The DICOM node that a department routes its studies to and forgets."""


for verb in (*tools.VERBS, *roles.VERBS, *ledger.VERBS):
    main.add_command(verb)


def run() -> None:
    """Entry point: expected errors become two lines and exit status 1, not a traceback."""
    try:
        main()
    except NodeError as error:
        _tell(error.what, error.do)
    except SQLAlchemyError as error:
        _tell(f"The ledger does not answer ({type(error).__name__}).", "Run 'radnode check'.")
    except OSError as error:
        if error.filename is None:
            raise
        _tell(f"{error.filename}: {error.strerror}.", "Check that path and its permissions.")


def _tell(what: str, do: str) -> NoReturn:
    click.echo(f"radnode: {what}\n  {do}", err=True)
    sys.exit(1)
