"""The verb that hands a study to people: its images and its results, with or without its name."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.options import config_option, ledger_of
from node.cli.person import person
from node.deidentify.files import deidentifier_of
from node.errors import NotDeidentified, UsageError
from node.log import short
from node.store import events, holdings, listing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.settings import Settings


@click.command()
@config_option
@click.argument("study")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--deidentify",
    "without_identity",
    is_flag=True,
    help="Write what PS3.15 and [deidentify] leave of them.",
)
def export(settings: Settings, study: str, folder: Path, *, without_identity: bool) -> None:
    """Write the images and results of STUDY to FOLDER."""
    known = list(_files_of(settings, study))
    files = [one for one in known if one[-1].is_file()]
    if not files:
        raise UsageError("The node holds no file of this study.", do="Have it sent again.")
    if len(files) < len(known):
        click.echo(f"{len(known) - len(files)} objects are released: the node has them no more.")
    _tell(settings, study, f"{len(files)} objects{', de-identified' * without_identity}")
    if without_identity:
        _write_deidentified(settings, files, folder)
        return
    for kind, sop_instance_uid, path in files:
        target = folder / kind / f"{short(sop_instance_uid)}.dcm"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    click.echo(f"{len(files)} objects written. They name the patient.")


def _tell(settings: Settings, study: str, detail: str) -> None:
    """Record for the audit trail who is handed what."""
    with ledger_of(settings).write() as db:
        study_uid = listing.study_uid_of(db, study)
        events.record(db, "exported", study_uid=study_uid, subject=person(), detail=detail)


def _files_of(settings: Settings, study: str) -> Iterator[tuple[str, str, Path]]:
    """Yield what kind of object each is, its SOP Instance UID, and its file."""
    with ledger_of(settings).read() as db:
        study_uid = listing.study_uid_of(db, study)
        received, made = holdings.received(db, study_uid), holdings.made(db, study_uid)
    for one in received:
        yield "images", one.sop_instance_uid, settings.spool_folder / one.path
    for one in made:
        yield "results", one.sop_instance_uid, settings.artifact_folder / one.path


def _write_deidentified(
    settings: Settings, files: list[tuple[str, str, Path]], folder: Path
) -> None:
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # it quotes the values it warns of
    deidentifier = deidentifier_of(settings)
    refused: Counter[tuple[str, str]] = Counter()
    for kind, _, path in files:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        try:
            deidentifier.write(path, folder / kind)
        except NotDeidentified as error:
            refused[error.what, error.do] += 1
    click.echo(f"{len(files) - refused.total()} of {len(files)} objects written, de-identified.")
    if refused:
        reasons = "; ".join(f"{number} for this: {what}" for (what, _), number in refused.items())
        (_, do), _ = refused.most_common(1)[0]
        raise UsageError(f"{refused.total()} objects were left out, {reasons}", do=do)


VERBS = (export,)
