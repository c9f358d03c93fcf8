"""Which part of a result is explained, as one number that falls when what it rests on is hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.contract import Presence

if TYPE_CHECKING:
    from pipelines.contract import Code, Finding, Result


@dataclass(frozen=True)
class Question:
    """Why this finding, or why this outline?

    Attributes:
        about: What it is called.
        finding: Code of the finding whose probability is followed; None: an outline's size is.
        segment: Label of the outline; empty where a probability is followed.
        whole: The number where nothing is hidden, above 0.
    """

    about: str
    finding: Code | None
    segment: str
    whole: float = 1.0

    def score(self, result: Result) -> float:
        """Return the probability of the finding, or how many voxels are outlined."""
        if self.finding is not None:
            same = (one for one in result.findings if one.finding == self.finding)
            return max(map(_probability, same), default=0.0)
        masks = (one.mask for one in result.segments if one.label == self.segment)
        return float(sum(int(mask.sum()) for mask in masks))


def question(result: Result) -> Question | None:
    """Return what there is to explain: the first thing found with a probability, or an outline.

    What is not normal comes first. None where nothing is there.
    """
    there = [one for one in result.findings if one.presence is not Presence.ABSENT]
    outlines = {one.label: one for one in result.segments if one.mask.any()}
    for finding in sorted(there, key=lambda one: one.normal):
        if finding.confidence:
            return Question(finding.finding.meaning, finding.finding, "", _probability(finding))
        if finding.segment in outlines:
            return _outline(finding.segment, result)
    for label in outlines:
        return _outline(label, result)
    return None


def _outline(label: str, result: Result) -> Question:
    asked = Question(label, None, label)
    return Question(label, None, label, asked.score(result))


def _probability(finding: Finding) -> float:
    """Return the probability that it is there; one without is 1 or 0."""
    if finding.presence is Presence.ABSENT:
        return 0.0 if finding.confidence is None else 1.0 - finding.confidence
    return 1.0 if finding.confidence is None else finding.confidence
