"""Studies of one phantom patient with their results, as an archive would hold them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from pydicom import Dataset, dcmread, dcmwrite

from node.analyse import analyse
from node.domain import Lease, PlannedJob, Priority
from node.encode.work import Work
from node.plan import parameters_of
from node.settings import DimseDestination, Route
from pipelines import registry
from tests.peers import spots
from tests.peers.body_phantom import Lesion, Pose, axial_grid, body, to_ct_series

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from node.settings import Settings

GRID = axial_grid((36, 52, 60), (8.0, 5.0, 5.0))
STABLE, GROWS = (-60.0, 15.0, 40.0), (62.0, -20.0, 40.0)
FIRST, SECOND, THIRD = "20250110", "20250420", "20250901"


@dataclass(frozen=True)
class Study:
    """One study and its result, on disk.

    Attributes:
        images: Files of its series.
        results: Role -> file of each object.
    """

    images: tuple[Path, ...]
    results: dict[str, Path]

    @property
    def files(self) -> tuple[Path, ...]:
        """All of it."""
        return (*self.images, *self.results.values())


def balls(*diameters_mm):
    """The stable and the growing lesion, as large as told; 0: not there."""
    return tuple(
        Lesion(name, centre, diameter, spots.DENSITY_HU)
        for name, centre, diameter in zip("ab", (STABLE, GROWS), diameters_mm, strict=False)
        if diameter
    )


def series(root, when, lesions=None, pose=None, **attributes) -> list[Dataset]:
    """The images of one study."""
    volume, _ = body(GRID, balls(30.0, 26.0) if lesions is None else lesions, pose or Pose())
    return to_ct_series(volume, root, StudyDate=when, AcquisitionDate=when, **attributes)


def study(folder: Path, root, when, lesions=None, pose=None, at="1200", **attributes) -> Study:
    """Write the images of one study and what the pipeline says of them, analysed ``at``."""
    images = []
    for number, image in enumerate(series(root, when, lesions, pose, **attributes)):
        images.append(folder / root / f"{number}.dcm")
        images[-1].parent.mkdir(parents=True, exist_ok=True)
        dcmwrite(images[-1], image, enforce_file_format=True)
    return Study(tuple(images), result(folder / root / f"results-{at}", tuple(images), when + at))


def result(folder: Path, images, moment, earlier=None, **changes) -> dict[str, Path]:
    """Analyse images at a moment; role -> file."""
    pipeline = registry.get(spots.NAME)
    work = Work(
        job_id="job",
        uid_parts=(str(folder), moment),
        pipeline=pipeline.name,
        pipeline_version=pipeline.version,
        title=pipeline.title,
        report=pipeline.report,
        model=pipeline.model,
        parameters=pipeline.parameters,
        analysed_at=datetime.strptime(moment, "%Y%m%d%H%M").replace(tzinfo=UTC),
        software_version="0.1.0",
    )
    return analyse(pipeline, {"": images}, replace(work, **changes), folder, earlier).files


def job() -> PlannedJob:
    """A job of the pipeline, of a route that looks for priors."""
    pipeline = registry.get(spots.NAME)
    return PlannedJob(
        id="0" * 32,
        study_uid="1.2",
        series_uid="1.2.3",
        sop_instance_uid="",
        revision=1,
        pipeline=pipeline.name,
        pipeline_version=pipeline.version,
        model_sha256=pipeline.model.weights_sha256,
        parameters=parameters_of(pipeline),
        input_digest="0" * 64,
        priority=Priority.ROUTINE,
        deadline_s=60.0,
        send_to=("pacs",),
    )


@contextmanager
def installed(site: Path) -> Iterator[None]:
    """Run in an environment where the pipeline is installed, in the folder ``site``."""
    spots.install(site)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        registry._installed.cache_clear()
        yield
    registry._installed.cache_clear()
    registry._of_package.cache_clear()


def lease(attempt=1) -> Lease:
    """A worker's hold on that job."""
    return Lease(job(), "token", attempt, 0.0, None)


def asking(settings: Settings, ae_title, port, **changes) -> Settings:
    """Settings whose one route looks for priors in an archive on this host."""
    pacs = DimseDestination(
        kind="dimse", ae_title=ae_title, host="127.0.0.1", port=port, commit=False, **changes
    )
    return settings.model_copy(
        update={
            "destinations": {"pacs": pacs},
            "routes": (
                Route(
                    match={"Modality": "CT"},
                    run=(spots.NAME,),
                    send_to=("pacs",),
                    priors_from="pacs",
                ),
            ),
        }
    )


def datasets(*studies: Study) -> list[Dataset]:
    """All objects of studies, as data sets."""
    return [dcmread(path) for one in studies for path in one.files]
