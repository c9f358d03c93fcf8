"""Verbs that need no running node: set up, check, try a pipeline, send, echo."""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from node import __version__
from node import check as doctor
from node.cli.options import config_option, json_option, no_config_option, print_rows, text
from node.dimse import capabilities, sender
from node.encode.work import Work
from node.errors import DeliveryError, NodeError, UsageError
from node.load.kinds import is_judged_alone
from node.profiles import CHOSEN_BY_THE_NODE, DEFAULT_PROFILE, PROFILES, SOP_CLASSES
from node.route import conditions, pipeline, read_attributes
from node.settings import DimseDestination
from node.uids import derived_uuid
from pipelines import registry
from sr_templates.text import as_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node.domain import Role
    from node.settings import Settings
    from pipelines.contract import Pipeline


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
    for path in _dicom_files(folder):
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
    known = [role.value for role in SOP_CLASSES if role in taken - CHOSEN_BY_THE_NODE]
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
        wanted = ", ".join(f"{keyword} = {_or(p)}" for keyword, p in one.input.items())
        model = f"{one.model.name} {one.model.version} ({one.model.weights_sha256[:12]})"
        rows.append({"name": name, "version": one.version, "model": model, "input": wanted})
    for row in rows:
        row["routed"] = "yes" if row["name"] in routed else "no"
    columns = dict.fromkeys(("name", "version", "model", "input", "routed"), text)
    print_rows(rows, columns, as_json=as_json)


def _or(patterns: str | tuple[str, ...]) -> str:
    return patterns if isinstance(patterns, str) else " or ".join(patterns)


@click.command()
@no_config_option
@click.argument("name", metavar="PIPELINE")
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where results go.")
@click.option(
    "--profile",
    type=click.Choice(list(PROFILES)),
    default=DEFAULT_PROFILE,
    show_default=True,
    help="Which objects to make, as for a destination.",
)
@click.option(
    "--prior",
    type=click.Path(exists=True, path_type=Path),
    help="Folder of earlier results and their images, to compare with.",
)
def run(name: str, folder: Path, out: Path, profile: str, prior: Path | None) -> None:
    """Try PIPELINE on the DICOM files in FOLDER. Needs no server, changes no ledger."""
    chosen = pipeline(name)
    series: dict[str, list[Path]] = {}
    for path in _dicom_files(folder):
        series.setdefault(_unit_of(path), []).append(path)
    suited = [
        paths
        for _, paths in sorted(series.items())
        if all(c.holds for c in conditions(chosen.input, read_attributes(paths, chosen.input)))
    ]
    if not suited:
        wanted = ", ".join(f"{keyword} = {_or(p)}" for keyword, p in chosen.input.items())
        raise UsageError(
            f"None of the {len(series)} series in {folder} is one for {name}.",
            do=f"It asks for {wanted}.",
        )
    chosen.warm_up()
    priors = _dicom_files(prior) if prior else []
    for number, paths in enumerate(suited, start=1):
        where = out if len(suited) == 1 else out / f"series-{number}"
        _run_series(chosen, paths, where, PROFILES[profile], priors)


def _unit_of(path: Path) -> str:
    """Return the UID of what is judged together with a file: its series, or it alone."""
    keywords = ["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"]
    header = dcmread(path, stop_before_pixels=True, specific_tags=list(keywords))
    alone = is_judged_alone(str(header.SOPClassUID))
    return str(header.SOPInstanceUID if alone else header.SeriesInstanceUID)


def _run_series(
    chosen: Pipeline,
    paths: Sequence[Path],
    folder: Path,
    roles: frozenset[Role],
    priors: Sequence[Path],
) -> None:
    from node.analyse import analyse
    from node.priors.folder import earlier_among

    # What it is compared with changes the result, so it is another result.
    identity = derived_uuid("run", _digest([*paths, *priors]), chosen.name, chosen.version).hex
    earlier = earlier_among(priors, chosen.name, paths[0]) if priors else None
    work = Work(
        job_id=identity,
        uid_parts=(identity,),
        pipeline=chosen.name,
        pipeline_version=chosen.version,
        title=chosen.title,
        report=chosen.report,
        model=chosen.model,
        parameters=chosen.parameters,
        analysed_at=datetime.now(UTC).astimezone(),
        software_version=__version__,
        roles=roles,
    )
    analysis = analyse(chosen, paths, work, folder, earlier)
    for role, path in analysis.files.items():
        click.echo(f"{role}: {path}")
    click.echo(as_text(dcmread(analysis.files["sr"])))


def _digest(paths: Sequence[Path]) -> str:
    """Return one digest for a set of files, whatever their names and order."""
    each = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    return hashlib.sha256("".join(each).encode()).hexdigest()


def _dicom_files(folder: Path) -> list[Path]:
    """Return the DICOM files in or under ``folder``.

    Raises:
        UsageError: There is none.
    """
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


VERBS = (init, check, echo, verify, send, pipelines, run)
