"""Verbs of the audit trail: keep it, verify it, read it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from node.cli.options import config_option, ledger_of, ready_ledger, when
from node.cli.person import person
from node.errors import UsageError

if TYPE_CHECKING:
    from node.audit.records import Head, Record
    from node.settings import Settings

_HEAD = re.compile(r"([0-9]{1,15}):([0-9a-f]{64})")


@click.group()
@config_option  # also before the verb: it goes on by the environment
def audit(settings: Settings) -> None:
    """Keep, verify and read the audit trail."""


@audit.command()
@config_option
def run(settings: Settings) -> None:
    """Keep the audit trail; 'radnode up' starts this with the rest."""
    from node.audit import keep
    from node.cli.roles import begin, stop_event, told

    begin("audit", settings)
    ledger = ready_ledger(settings)
    with told(ledger, "radnode audit"):
        keep.run(settings, ledger, stop_event())


@audit.command()
@config_option
@click.option(
    "--head",
    "heads",
    multiple=True,
    metavar="NUMBER:MAC",
    help="A head that was kept elsewhere, for example by the syslog server. May be repeated.",
)
def verify(settings: Settings, heads: tuple[str, ...]) -> None:
    """Check that nothing in the audit trail was changed, removed, moved or put in.

    Exit status 1, and the first record that is not what was written, if something was.
    """
    from node.audit.keep import places
    from node.audit.verify import verify as check

    _require_trail(settings)
    found = check(places(settings), [_head(one) for one in heads])
    click.echo(f"{found.head.number} records, each as it was written.")
    if found.head.number:
        click.echo(f"From {when(found.from_at)} to {when(found.to_at)}; head {found.head}")


@audit.command()
@config_option
@click.option("--xml", "as_xml", is_flag=True, help="Messages of DICOM PS3.15 A.5, one a line.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Into this file.")
def export(settings: Settings, *, as_xml: bool, out: Path | None) -> None:
    """Print the audit trail: JSON, one record a line. That it was read stands in it, too.

    Only records that are what was written are printed, up to the first that is not.
    """
    from node.audit.keep import places, source
    from node.audit.records import canonical
    from node.audit.verify import verify as check
    from node.audit.xml import xml_of
    from node.store import events

    _require_trail(settings)
    with ledger_of(settings).write() as db:
        events.record(db, "audit_read", subject=person(), detail="exported")

    def write(record: Record, file: BinaryIO) -> None:
        line = xml_of(record.body, source(settings)) if as_xml else canonical(record.body)
        if line is not None:
            file.write(line.replace(b"\n", b" ") + b"\n")

    if out is None:
        check(places(settings), each=lambda record: write(record, sys.stdout.buffer))
        return
    with out.open("wb") as file:
        check(places(settings), each=lambda record: write(record, file))


def _require_trail(settings: Settings) -> None:
    if not settings.audit_folder.exists():
        raise UsageError(
            f"There is no audit trail in {settings.audit_folder}.",
            do="Check --config and 'data' in it, or start the node: radnode up.",
        )


def _head(stated: str) -> Head:
    from node.audit.records import Head

    found = _HEAD.fullmatch(stated)
    if found is None:
        raise UsageError(f"'{stated}' is no head.", do="State NUMBER:MAC, as 'verify' prints it.")
    return Head(int(found[1]), found[2])


VERBS = (audit,)
