"""A folder of studies with their truth beside them, judged one after the other."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydicom import dcmread

from node.errors import UsageError
from node.evaluate.files import (
    REPORTS,
    SEGMENTATIONS,
    headers,
    outlined_series,
    patient_key,
    patient_of,
)
from node.evaluate.judge import Judged, judge
from node.evaluate.measure import summarise
from node.evaluate.truth import TABLE, read_table, read_truth
from node.load.inputs import load_inputs, run, source_of
from node.pick import fitting_inputs
from pipelines.contract import CouldNotLook

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from node.evaluate.truth import Stated
    from node.pick import Inputs
    from pipelines.contract import AnyPipeline
    from pipelines.evaluation.report import Evaluation


@dataclass(frozen=True)
class Case:
    """One thing to judge, and where its truth is.

    Attributes:
        patient: A digest that tells patients apart and names none.
        lines: What ``truth.csv`` says of it.
    """

    patient: str
    inputs: Inputs
    segmentations: tuple[Path, ...]
    reports: tuple[Path, ...]
    lines: tuple[Stated, ...]


@dataclass
class _Study:
    folder: str
    patient: str
    images: list[Path] = field(default_factory=list)
    segmentations: list[tuple[Path, frozenset[str]]] = field(default_factory=list)
    reports: list[Path] = field(default_factory=list)


def evaluate(
    pipeline: AnyPipeline, folder: Path, progress: Callable[[int, int], None] = lambda *_: None
) -> Evaluation:
    """Run a pipeline, warmed up, on every study of a folder, and compare it with their truth.

    Args:
        pipeline: To be judged.
        folder: Of DICOM files, in any order: images, and segmentations and reports of them; and
            ``truth.csv``.
        progress: Told how many of how many cases are done.

    Raises:
        UsageError: Nothing is known of any study that the pipeline takes.
    """
    cases = find_cases(pipeline, folder)
    judged: list[Judged] = []
    refusals: list[str] = []
    digest = hashlib.sha256()
    for number, case in enumerate(cases, start=1):
        for path in sorted(path for of in case.inputs.values() for path in of):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        judged += _judged(pipeline, case, refusals)
        progress(number, len(cases))
    patients = len({case.patient for case in cases})
    model = pipeline.model
    return summarise(
        f"{pipeline.name} {pipeline.version}, {model.name} {model.version}",
        f"{len(cases)} series or studies of {patients} patients; digest of the images "
        f"{digest.hexdigest()[:16]}; digest of the weights {model.weights_sha256[:16]}.",
        judged,
        refusals,
    )


def _judged(pipeline: AnyPipeline, case: Case, refusals: list[str]) -> list[Judged]:
    """Return what one case is worth: nothing where its images or its truth cannot be read."""
    try:
        sources = load_inputs(pipeline, case.inputs)
        source = source_of(sources)
        truth = read_truth(source, case.segmentations, case.reports, case.lines)
    except CouldNotLook as refusal:
        refusals.append(refusal.reason)
        return []
    try:
        result = run(pipeline, sources)
    except CouldNotLook as refusal:
        refusals.append(refusal.reason)
        result = None
    return [judge(source, result, truth, case.patient)]


def find_cases(pipeline: AnyPipeline, folder: Path) -> tuple[Case, ...]:
    """Return what there is to judge, and of which something is known.

    A segmentation is the truth of the series that it refers to; a report, and a line of
    ``truth.csv``, of everything in the study.

    Raises:
        UsageError: There is nothing.
    """
    table = read_table(folder)
    cases = []
    for uid, study in sorted(_studies(folder).items()):
        lines = (*table.get(uid, ()), *table.get(study.folder, ()))
        for inputs in fitting_inputs(pipeline, study.images):
            first = next(iter(inputs.values()))[0]
            series = str(dcmread(first, specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID)
            segmentations = tuple(p for p, of in study.segmentations if series in of)
            if segmentations or study.reports or lines:
                patient = next((one.patient for one in lines if one.patient), study.patient)
                cases.append(Case(patient, inputs, segmentations, tuple(study.reports), lines))
    if not cases:
        raise UsageError(
            f"Nothing in {folder} is both for {pipeline.name} and known.",
            do=f"Put segmentations or reports beside the images, or a {TABLE}: "
            "see docs/evaluation.md.",
        )
    return tuple(cases)


def _studies(folder: Path) -> dict[str, _Study]:
    found: dict[str, _Study] = {}
    for path, header in headers(folder):
        place = path.relative_to(folder).parts
        study = found.setdefault(
            str(header.StudyInstanceUID),
            _Study(place[0] if len(place) > 1 else "", patient_key(patient_of(header))),
        )
        sop_class = str(header.SOPClassUID)
        if sop_class in SEGMENTATIONS:
            study.segmentations.append((path, outlined_series(header)))
        elif sop_class.startswith(REPORTS):
            study.reports.append(path)
        else:
            study.images.append(path)
    return found
