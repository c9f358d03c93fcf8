"""Verbs that need no running node: set up, check, try a pipeline, send, echo."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click
from pydicom import dcmread

from node import check as doctor
from node.cli.options import (
    asked_for,
    config_option,
    dicom_files,
    json_option,
    print_rows,
    text,
)
from node.dimse import capabilities, sender
from node.dimse.identity import hashed
from node.domain import Role
from node.errors import DeliveryError, NodeError, UsageError
from node.profiles import CHOSEN_BY_THE_NODE, SOP_CLASSES
from node.route import pipeline
from node.settings import DimseDestination
from pipelines import registry

if TYPE_CHECKING:
    from node.settings import Settings


@click.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=Path("radnode.toml"),
    show_default=True,
    help="Where to write it.",
)
def init(path: Path) -> None:
    """Write a commented configuration file."""
    if path.exists():
        raise UsageError(f"{path} is there already.", do="Edit it, or name another file.")
    shutil.copyfile(Path(__file__).parent.parent / "radnode.toml", path)
    click.echo(f"Wrote {path}. Edit destinations and routes, then: radnode check && radnode up")


@click.command()
@config_option
@json_option
def check(settings: Settings, *, as_json: bool) -> None:
    """Look for what would keep the node from working, and say what to do about it."""
    findings = doctor.check(settings)
    rows = [vars(finding) for finding in findings]
    print_rows(rows, {"ok": _mark, "what": text, "do": text}, as_json=as_json)
    bad = sum(not finding.ok for finding in findings)
    if bad:
        raise UsageError(f"{bad} of {len(findings)} checks failed.", do="See above.")


def _mark(ok: object) -> str:
    return "ok" if ok else "FAILED"


@click.command()
@config_option
@click.argument("destination")
def echo(settings: Settings, destination: str) -> None:
    """Ask DESTINATION whether it answers (C-ECHO)."""
    milliseconds = sender.echo(settings, _dimse(settings, destination))
    click.echo(f"{destination} answered in {milliseconds:.0f} ms.")


@click.command()
@config_option
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.argument("destination")
def send(settings: Settings, folder: Path, destination: str) -> None:
    """Send the DICOM files in FOLDER to DESTINATION as they are (C-STORE)."""
    peer = _dimse(settings, destination)
    files: dict[str, Path] = {}
    for path in dicom_files(folder):
        files[str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)] = path
    outcomes = [outcome for _, outcome in sender.send(settings, peer, files)]
    failures = [outcome for outcome in outcomes if isinstance(outcome, DeliveryError)]
    click.echo(f"{len(outcomes) - len(failures)} of {len(files)} instances sent.")
    if failures:
        raise failures[0]


@click.command()
@config_option
@json_option
@click.argument("destination")
def verify(settings: Settings, *, as_json: bool, destination: str) -> None:
    """Ask which objects DESTINATION takes, and propose a profile. Sends nothing."""
    peer = _dimse(settings, destination)
    taken, commits = capabilities.ask(settings, peer)
    rows = [
        {
            "object": role.value,
            "sop_class": sop_class.name,
            "taken": role in taken,
            "sent": role in peer.roles,
        }
        for role, sop_class in SOP_CLASSES.items()
        if role not in CHOSEN_BY_THE_NODE
    ]
    suitable = capabilities.suitable(taken)
    if as_json:
        answer = {"objects": rows, "storage_commitment": commits, "profiles": suitable}
        click.echo(json.dumps(answer, indent=2))
        return
    columns = {"object": text, "sop_class": text, "taken": _yes_or_no, "sent": _yes_or_no}
    print_rows(rows, columns, as_json=False)
    click.echo(f"Storage commitment: {_yes_or_no(commits)}.")
    if peer.commit and not commits:
        click.echo(f"  Set commit = false under [destinations.{destination}].")
    click.echo(f"Profiles that fit: {', '.join(suitable) or 'none'}.")
    asked = (*SOP_CLASSES, Role.IMAGES)
    known = [role.value for role in asked if role in taken - CHOSEN_BY_THE_NODE]
    proposed = f'profile = "{suitable[0]}"' if suitable else f"objects = {json.dumps(known)}"
    click.echo(f"Proposed for [destinations.{destination}]: {proposed}")


def _yes_or_no(value: object) -> str:
    return "yes" if value else "no"


def _dimse(settings: Settings, name: str) -> DimseDestination:
    destination = settings.destination(name)
    if not isinstance(destination, DimseDestination):
        raise UsageError(f"'{name}' is a folder.", do="Name a destination of kind 'dimse'.")
    return destination


@click.command()
@config_option
@json_option
def pipelines(settings: Settings, *, as_json: bool) -> None:
    """List the pipelines that are installed, and what they ask of a series."""
    routed = {name for one in settings.routes for name in one.run}
    rows = []
    for name in registry.names():
        try:
            one = pipeline(name)
        except NodeError as error:
            rows.append({"name": name, "version": "", "model": error.what, "input": error.do})
            continue
        wanted = asked_for(one)
        model = f"{one.model.name} {one.model.version} ({one.model.weights_sha256[:12]})"
        rows.append({"name": name, "version": one.version, "model": model, "input": wanted})
    for row in rows:
        row["routed"] = "yes" if row["name"] in routed else "no"
    columns = dict.fromkeys(("name", "version", "model", "input", "routed"), text)
    print_rows(rows, columns, as_json=as_json)


@click.command()
@click.password_option("--passcode", help="Asked for twice if left out.")
def password(passcode: str) -> None:
    """Print what listen.users holds for a passcode, so that the file does not show it."""
    click.echo(hashed(passcode))


VERBS = (init, check, echo, verify, send, pipelines, password)
