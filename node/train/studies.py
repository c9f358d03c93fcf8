"""Studies with their truth beside them: segmentations, structured reports, ``truth.csv``."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
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
from node.evaluate.truth import TABLE, read_table, read_truth
from node.load.kinds import is_judged_alone, is_waveform
from node.load.source import load
from pipelines.contract import CouldNotLook
from pipelines.training.data import Example, Outline, Seen
from sr_templates.tree import code_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pydicom import Dataset

    from node.evaluate.truth import Stated
    from pipelines.contract import Code


@dataclass
class _Files:
    """The files of one series, or of one recording or view."""

    header: Dataset
    paths: list[Path] = field(default_factory=list)
    segmentations: list[Path] = field(default_factory=list)


def study_examples(folder: Path, *, recordings: bool) -> list[Example]:
    """Return the series below the folder of which something is known.

    A segmentation belongs to the series that it refers to; a report, and a line of
    ``truth.csv``, to every series of the study.

    Args:
        folder: Of DICOM files, in any order.
        recordings: Waveforms instead of images.

    Raises:
        UsageError: Nothing is known of any.
    """
    objects = tuple(headers(folder))
    series: dict[str, _Files] = {}
    reports: defaultdict[str, list[Path]] = defaultdict(list)
    for path, header in objects:
        kind = str(header.SOPClassUID)
        if kind.startswith(REPORTS):
            reports[str(header.StudyInstanceUID)].append(path)
        elif _is_input(header, recordings=recordings):
            alone = is_judged_alone(kind)
            uid = str(header.SOPInstanceUID if alone else header.SeriesInstanceUID)
            series.setdefault(uid, _Files(header)).paths.append(path)
    for path, header in objects:
        if str(header.SOPClassUID) in SEGMENTATIONS:
            for uid in outlined_series(header) & series.keys():
                series[uid].segmentations.append(path)
    table = read_table(folder)
    found = [
        example
        for _, files in sorted(series.items())
        if (
            example := _example(
                files,
                reports[str(files.header.StudyInstanceUID)],
                _lines(table, folder, files),
            )
        )
    ]
    if not found:
        raise UsageError(
            f"Nothing is known of the {len(series)} series in {folder}.",
            do=f"Put their segmentations (SEG) or reports (SR) beside them, or a {TABLE}.",
        )
    return found


def _is_input(header: Dataset, *, recordings: bool) -> bool:
    kind = str(header.SOPClassUID)
    if recordings:
        return is_waveform(kind)
    return "Rows" in header and kind not in SEGMENTATIONS


def _lines(
    table: Mapping[str, tuple[Stated, ...]], folder: Path, files: _Files
) -> tuple[Stated, ...]:
    """Return what the table says of a study, by its UID or by the folder that it lies in."""
    place = files.paths[0].relative_to(folder).parts[0]
    return (*table.get(str(files.header.StudyInstanceUID), ()), *table.get(place, ()))


def _example(files: _Files, reports: Sequence[Path], lines: Sequence[Stated]) -> Example | None:
    """Return a series with what is known of it, or None where nothing is."""
    if not files.segmentations and not reports and not lines:
        return None
    named = {line.patient for line in lines if line.patient}
    header = files.header
    patient = named.pop() if named else patient_of(header)
    everything = [*files.paths, *files.segmentations, *reports]
    each = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in everything)
    labels = {line.concept: line.value for line in lines if isinstance(line.value, bool)}
    return Example(
        patient=patient_key(patient),
        digest=hashlib.sha256("".join(each).encode()).hexdigest(),
        read=partial(_read, tuple(files.paths), tuple(files.segmentations)),
        labels=labels,
    )


def _read(paths: Sequence[Path], segmentations: Sequence[Path]) -> Seen:
    """Read a series with its outlines.

    Raises:
        UsageError: The series cannot be read, or a segmentation was drawn on other images.
    """
    try:
        source = load(paths)
        truth = read_truth(source, segmentations, (), ())
    except CouldNotLook as error:
        raise UsageError(
            f"A series cannot be learned from: {error.reason}", do="Take it out of the folder."
        ) from error
    named = _names(segmentations)
    outlines = [
        Outline(*named[code], property=code, mask=mask)
        for code, masks in truth.outlines.items()
        for mask in masks
    ]
    return Seen(source.study, tuple(outlines))


def _names(segmentations: Sequence[Path]) -> dict[Code, tuple[str, Code]]:
    """Return the label and the category of each property that is outlined.

    The label is the property's meaning: people name their segments as they like.
    """
    items = [
        item
        for path in segmentations
        for item in dcmread(path, stop_before_pixels=True).SegmentSequence
    ]
    found = {}
    for item in items:
        code = code_of(item.SegmentedPropertyTypeCodeSequence[0])
        found[code] = (code.meaning, code_of(item.SegmentedPropertyCategoryCodeSequence[0]))
    return found
