"""The verb ``run``: try a pipeline on a folder of files."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from pydicom import dcmread

from node import __version__
from node.cli.options import asked_for, config_option, dicom_files, pipeline_called
from node.domain import Role
from node.encode.work import Work
from node.errors import UsageError
from node.pick import Inputs, fitting_inputs
from node.profiles import DEFAULT_PROFILE, PROFILES
from node.uids import derived_uuid
from pipelines import models, registry
from pipelines.explain.explained import METHODS, PARAMETER, explained
from sr_templates.text import as_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from node.settings import Settings
    from pipelines.contract import AnyPipeline


@click.command()
@config_option
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
    "--models",
    "models_folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of added models. Default: that of the configuration.",
)
@click.option(
    "--prior",
    type=click.Path(exists=True, path_type=Path),
    help="Folder of earlier results and their images, to compare with, and of earlier reports.",
)
@click.option(
    "--explain",
    type=click.Choice(METHODS),
    help="Show what the answer rests on: as a map, and in the picture and the PDF.",
)
def run(  # noqa: PLR0913 - one keyword per option
    settings: Settings,
    *,
    name: str,
    folder: Path,
    out: Path,
    profile: str,
    models_folder: Path | None,
    prior: Path | None,
    explain: str | None,
) -> None:
    """Try PIPELINE on the DICOM files in FOLDER. Needs no server, changes no ledger.

    PIPELINE is a name, or the folder of a model with its pipeline.toml.

    Of a pipeline that needs several series, each is chosen as a node would choose it.
    """
    models.use(models_folder or settings.models_folder)
    chosen = explained(pipeline_called(name), explain)
    found = _picked(chosen, folder)
    chosen.warm_up()
    priors = dicom_files(prior) if prior else []
    roles = PROFILES[profile] | ({Role.MAP, Role.SC} if explain else frozenset())
    for number, inputs in enumerate(found, start=1):
        where = out if len(found) == 1 else out / f"series-{number}"
        _run_inputs(chosen, inputs, where, roles, priors)


def _picked(chosen: AnyPipeline, folder: Path) -> list[Inputs]:
    """Return the inputs for each run.

    Raises:
        UsageError: There are none.
    """
    found = fitting_inputs(chosen, dicom_files(folder))
    if not found:
        raise UsageError(
            f"None of the series in {folder} is one for {chosen.name}.",
            do=f"It asks for {asked_for(chosen)}.",
        )
    names = tuple(registry.inputs_of(chosen))
    whole = [inputs for inputs in found if len(inputs) == len(names)]
    if not whole:
        missing = " and ".join(name for name in names if name not in found[0])
        raise UsageError(
            f"{folder} has no series for {missing} of {chosen.name}.",
            do=f"It asks for {asked_for(chosen)}.",
        )
    return whole


def _run_inputs(
    chosen: AnyPipeline,
    inputs: Mapping[str, Sequence[Path]],
    folder: Path,
    roles: frozenset[Role],
    priors: Sequence[Path],
) -> None:
    from node.analyse import analyse
    from node.priors.folder import earlier_among

    paths = [path for of in inputs.values() for path in of]
    # What it is compared with changes the result, so it is another result.
    identity = derived_uuid(
        "run",
        _digest([*paths, *priors]),
        chosen.name,
        chosen.version,
        chosen.model.weights_sha256,
        *filter(None, [chosen.parameters.get(PARAMETER)]),
    ).hex
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
    analysis = analyse(chosen, inputs, work, folder, earlier)
    for role, path in analysis.files.items():
        click.echo(f"{role}: {path}")
    click.echo(as_text(dcmread(analysis.files["sr"])))


def _digest(paths: Sequence[Path]) -> str:
    """Return one digest for a set of files, whatever their names and order."""
    each = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)
    return hashlib.sha256("".join(each).encode()).hexdigest()


VERBS = (run,)
