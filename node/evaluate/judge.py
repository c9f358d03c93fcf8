"""One study: what the pipeline said, beside what is true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from node.evaluate.truth import lesions_of
from pipelines.contract import Code, Presence, Volume
from pipelines.evaluation.agreement import Measured
from pipelines.evaluation.classification import Answer
from pipelines.evaluation.detection import Candidate, Marked
from pipelines.evaluation.segmentation import dice, surface_distance

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from node.evaluate.truth import Stated, Truth
    from node.load.source import Source
    from pipelines.contract import Finding, Measurement, Region, Result
    from pipelines.outline import Mask


@dataclass(frozen=True)
class Overlap:
    """How one kind of outline of one study agrees with the truth; lengths NaN where unknown."""

    patient: str
    dice: float
    surface_mm: float
    percentile_95_mm: float


@dataclass(frozen=True)
class Judged:
    """One study's share of every figure, each by the name of what it is about.

    Attributes:
        answers: Is it there?
        measured: How much is it? The name ends with the unit.
        overlaps: Where exactly is it?
        marked: How many of its pieces are found?
    """

    answers: dict[str, Answer]
    measured: dict[str, Measured]
    overlaps: dict[str, Overlap]
    marked: dict[str, Marked]


def judge(source: Source, result: Result | None, truth: Truth, patient: str) -> Judged:
    """Return what a result is worth.

    Args:
        source: What the pipeline saw.
        result: What it found; None: it could not look.
        truth: What people say.
        patient: Whose study it is.
    """
    answers = {
        line.concept: _answer(result, line, patient)
        for line in truth.stated
        if isinstance(line.value, bool)
    }
    measured = dict(
        pair
        for line in truth.stated
        if not isinstance(line.value, bool) and result is not None
        for pair in _measured(result, line, line.value, patient)
    )
    overlaps, marked = {}, {}
    for code, masks in truth.outlines.items():
        lesions = lesions_of(masks)
        if result is not None:
            overlaps[code.meaning] = _overlap(source, result, code, masks, patient)
        marked[code.meaning] = Marked(
            patient,
            len(lesions),
            () if result is None else tuple(_candidates(result, code, lesions)),
        )
    return Judged(answers, measured, overlaps, marked)


def _is_about(code: Code, words: str) -> bool:
    return words.casefold() in (code.value.casefold(), code.meaning.casefold())


def _answer(result: Result | None, line: Stated, patient: str) -> Answer:
    truth = bool(line.value)
    if result is None:
        return Answer(patient, truth, None)
    about = [one for one in result.findings if _is_about(one.finding, line.concept)]
    present = [one for one in about if one.presence is Presence.PRESENT]
    undecided = any(one.presence is Presence.INDETERMINATE for one in about)
    said = True if present else None if undecided else False
    told = [likely for one in about if (likely := _probability(one)) is not None]
    return Answer(patient, truth, said, max(told, default=None))


def _probability(finding: Finding) -> float | None:
    """Return the probability that a finding is there, as far as the model tells."""
    if finding.confidence is None:
        return None
    absent = finding.presence is Presence.ABSENT
    return 1.0 - finding.confidence if absent else finding.confidence


def _measured(
    result: Result, line: Stated, truth: float, patient: str
) -> Iterator[tuple[str, Measured]]:
    """Yield the number that a line of truth is about, if the result has exactly one."""
    found = [
        one
        for finding in result.findings
        if not line.of or _is_about(finding.finding, line.of) or finding.segment == line.of
        for one in finding.measurements
        if _is_about(one.name, line.concept)
    ]
    if len(found) == 1:
        yield _name(found[0], line.of), Measured(patient, truth, found[0].value)


def _name(measurement: Measurement, of: str) -> str:
    about = f" of {of}" if of else ""
    return f"{measurement.name.meaning}{about}, {measurement.unit}"


def _overlap(
    source: Source, result: Result, code: Code, masks: Sequence[Mask], patient: str
) -> Overlap:
    true = np.logical_or.reduce(masks)
    said = np.zeros_like(true)
    for segment in result.segments:
        if _same(segment.property, code):
            said |= segment.mask
    study = source.study
    spacing_mm = study.spacing_mm if isinstance(study, Volume) else None
    if spacing_mm is None:
        return Overlap(patient, dice(said, true), float("nan"), float("nan"))
    distance = surface_distance(said, true, spacing_mm)
    return Overlap(patient, dice(said, true), distance.mean_mm, distance.percentile_95_mm)


def _same(one: Code, other: Code) -> bool:
    return (one.value, one.scheme) == (other.value, other.scheme)


def _candidates(result: Result, code: Code, lesions: Sequence[Mask]) -> Iterator[Candidate]:
    """Yield what the result marks as present or undecided, with the lesions that it is on."""
    masks = {segment.label: segment.mask for segment in result.segments}
    for finding in result.findings:
        if not _same(finding.finding, code) or finding.presence is Presence.ABSENT:
            continue
        likely = _probability(finding)
        confidence = 1.0 if likely is None else likely
        mask = masks.get(finding.segment or "")
        if mask is None:
            yield Candidate(confidence, _on(finding.regions, lesions))
        else:
            for piece in lesions_of((mask,)):
                hits = (k for k, lesion in enumerate(lesions) if (lesion & piece).any())
                yield Candidate(confidence, frozenset(hits))


def _on(regions: Sequence[Region], lesions: Sequence[Mask]) -> frozenset[int]:
    """Return the lesions that have a voxel at the middle of a region's box."""
    hits: set[int] = set()
    for region in regions:
        across, down = (sorted(one) for one in zip(*region.points, strict=True))
        column, row = int((across[0] + across[-1]) / 2), int((down[0] + down[-1]) / 2)
        hits.update(
            k
            for k, lesion in enumerate(lesions)
            if row < lesion.shape[1]
            and column < lesion.shape[2]
            and lesion[region.image, row, column]
        )
    return frozenset(hits)
