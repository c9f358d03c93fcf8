"""Verbs about what stays and what goes: reconcile, release, discard, and the role that does it."""

from __future__ import annotations

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import click

from node.cli.options import config_option, json_option, ledger_of, print_rows, ready_ledger, text
from node.cli.person import person
from node.cli.roles import begin, stop_event, told
from node.errors import UsageError
from node.store import listing, retention

if TYPE_CHECKING:
    from node.reconcile import Balance
    from node.settings import Settings
    from node.store.ledger import Ledger
    from node.store.reading import Position

reason_option = click.option(
    "--reason", required=True, help="Why, in words that identify no patient. It is recorded."
)


@click.command()
@config_option
@json_option
@click.option("--rehash", is_flag=True, help="Also read every file again; goes on where it was.")
@click.option(
    "--speed", "mb_per_s", default=50.0, show_default=True, help="Of --rehash, in MB/s at most."
)
def reconcile(settings: Settings, *, as_json: bool, rehash: bool, mb_per_s: float) -> None:
    """Prove that all that was received is accounted for; exit status 1 if it is not."""
    from node.reconcile import balance

    ledger = ledger_of(settings)
    found = balance(settings, ledger)
    faults = _rehash(settings, ledger, mb_per_s, quiet=as_json) if rehash else 0
    if as_json:
        click.echo(json.dumps(_as_json(found) | {"faults": faults}, indent=2))
    else:
        _print(found)
    sys.exit(0 if found.balances and not faults else 1)


def _as_json(found: Balance) -> dict[str, object]:
    return {
        "balances": found.balances,
        "lines": {
            line.value: {
                "received": found.received[line],
                **{fate.name.lower(): number for fate, number in found.fates[line].items()},
                "difference": found.difference(line),
            }
            for line in found.received
        },
        "held": found.held,
        "problems": [vars(problem) for problem in found.problems],
    }


def _print(found: Balance) -> None:
    from node.store.reconciling import Fate

    shown = [fate for fate in Fate if fate is not Fate.UNACCOUNTED]
    names = {fate: fate.name.lower() for fate in shown}
    rows = [
        {
            "": line.value,
            "received": found.received[line],
            **{names[fate]: found.fates[line][fate] for fate in shown},
            "difference": found.difference(line),
        }
        for line in found.received
    ]
    print_rows(rows, dict.fromkeys(rows[0], text), as_json=False)
    for why, number in found.held.items():
        click.echo(f"held: {number} {why}")
    for problem in found.problems:
        click.echo(f"{problem.what}\n  {problem.do}")
    click.echo("It balances." if found.balances else "It does NOT balance.")


def _rehash(settings: Settings, ledger: Ledger, mb_per_s: float, *, quiet: bool) -> int:
    """Read the files again until the end or Ctrl-C; the number of faults found so far."""
    from node.reread import reread

    stop = threading.Event()

    def progress(at: Position) -> None:
        if sys.stderr.isatty() and not quiet:
            click.echo(f"\r{at.files} files, {at.faults} faults", nl=False, err=True)

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(
            reread,
            settings,
            ledger,
            stop,
            name="asked for",
            bytes_per_s=mb_per_s * 1e6,
            progress=progress,
        )
        try:
            at, is_end = reading.result()
        except KeyboardInterrupt:
            stop.set()
            at, is_end = reading.result()
    if not quiet:
        click.echo(f"{at.files} files read again, {at.faults} faults. 'radnode watch' names them.")
        if not is_end:
            click.echo("Interrupted: the next 'radnode reconcile --rehash' goes on there.")
    return at.faults


@click.command()
@config_option
@click.argument("study")
@reason_option
def release(settings: Settings, study: str, reason: str) -> None:
    """Remove the files of STUDY now: what was received and what was made of it.

    Only of a study that is final: analysed, and its results where they shall be.
    """
    from node.deliver import reject_superseded

    ledger = ledger_of(settings)
    reject_superseded(settings, ledger)
    with ledger.read() as db:
        study_uid = listing.study_uid_of(db, study)
    why = f"{reason} ({person()})"
    if not _release(settings, ledger, study_uid, why):
        raise UsageError(
            "Something of this study is still to happen, or nothing of it is here any more.",
            do="'radnode jobs' and 'radnode deliveries' say what. To give it up as it is: "
            "radnode discard.",
        )


@click.command()
@config_option
@click.argument("study")
@reason_option
def discard(settings: Settings, study: str, reason: str) -> None:
    """Give STUDY up as it is: cancel what is still to happen, and remove its files.

    What was sent of it stays where it is.
    """
    ledger = ledger_of(settings)
    with ledger.read() as db:
        study_uid = listing.study_uid_of(db, study)
        if retention.is_arriving(db, study_uid):
            raise UsageError(
                "This study may still be arriving.",
                do="Wait until 'radnode studies' calls it complete.",
            )
    with ledger.write() as db:
        retention.discard(db, study_uid, person=person(), reason=reason)
    _release(settings, ledger, study_uid, f"discarded: {reason}")


def _release(settings: Settings, ledger: Ledger, study_uid: str, why: str) -> bool:
    """Release instances and results in the ledger, and say so; False if there was nothing."""
    from node.retain import uncommitting

    final = uncommitting(settings)
    with ledger.write() as db:
        instances = retention.release_study(db, study_uid, final, why=why)
        results = retention.release_results(db, study_uid, final, why=why)
    for what, released in (("received", instances), ("made", results)):
        if released is not None:
            click.echo(f"{what}: {released.in_words} are released.")
    if instances is None and results is None:
        return False
    click.echo("The running node removes the files within minutes.")
    return True


@click.command()
@config_option
def retain(settings: Settings) -> None:
    """Remove what is final and old, and reconcile once a day."""
    from node import reconcile as daily
    from node import retain as stage

    begin("retain", settings)
    ledger = ready_ledger(settings)
    stop = stop_event()
    with told(ledger, "radnode retain"), ThreadPoolExecutor(1) as pool:
        reconciling = pool.submit(daily.run, settings, ledger, stop)
        reconciling.add_done_callback(lambda _: stop.set())  # neither goes on without the other
        try:
            stage.run(settings, ledger, stop)
        finally:
            stop.set()
    reconciling.result()


VERBS = (reconcile, release, discard, retain)
