"""Yes or no: ROC, sensitivity and specificity, and whether a probability is one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipelines.evaluation.estimate import Estimate, Indices, by_patient

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = npt.NDArray[np.float64]
BINS = 10


@dataclass(frozen=True)
class Answer:
    """What is true of one study, and what the pipeline said.

    Attributes:
        patient: Whose study it is, in any words that tell patients apart.
        truth: Whether it is there.
        said: Whether the pipeline says so; None: it is undecided, or could not look.
        probability: That it is there, in 0..1; None: the pipeline gives none.
    """

    patient: str
    truth: bool
    said: bool | None
    probability: float | None = None


@dataclass(frozen=True)
class Roc:
    """Sensitivity against false positive rate at every threshold, and the area below."""

    false_positive_rate: Floats
    sensitivity: Floats
    area: Estimate


@dataclass(frozen=True)
class Calibration:
    """How far probabilities are from frequencies.

    Attributes:
        stated: Mean probability in each bin of equal width that holds one.
        observed: Share of truth there.
        counts: Answers there.
        brier: Mean squared difference of probability and truth (Brier 1950).
        error: Mean difference of ``stated`` and ``observed``, weighted by ``counts`` (expected
            calibration error, Naeini et al. 2015).
    """

    stated: Floats
    observed: Floats
    counts: npt.NDArray[np.int64]
    brier: Estimate
    error: Estimate


def sensitivity(answers: Sequence[Answer]) -> Estimate:
    """Return the share of what is there that was found; no answer counts as missed."""
    return _share_right([one for one in answers if one.truth])


def specificity(answers: Sequence[Answer]) -> Estimate:
    """Return the share of what is not there that was called so; no answer counts as wrong."""
    return _share_right([one for one in answers if not one.truth])


def _share_right(answers: Sequence[Answer]) -> Estimate:
    right = np.array([one.said is one.truth for one in answers], dtype=np.float64)
    return by_patient([one.patient for one in answers], lambda drawn: float(right[drawn].mean()))


def roc(answers: Sequence[Answer]) -> Roc:
    """Return the curve over the answers that have a probability; ties count half in the area.

    The area is the share of pairs in the right order (Hanley and McNeil 1982, Radiology
    143:29-36).
    """
    told = [one for one in answers if one.probability is not None]
    truth = np.array([one.truth for one in told], dtype=np.bool_)
    score = np.array([one.probability for one in told], dtype=np.float64)
    area = by_patient([one.patient for one in told], lambda k: _area(truth[k], score[k]))
    thresholds = np.unique(score)[::-1]
    sick, well = max(int(truth.sum()), 1), max(int((~truth).sum()), 1)
    called = score[None] >= thresholds[:, None]
    return Roc(
        np.concatenate(([0.0], (called & ~truth).sum(axis=1) / well)),
        np.concatenate(([0.0], (called & truth).sum(axis=1) / sick)),
        area,
    )


def _area(truth: npt.NDArray[np.bool_], score: Floats) -> float:
    sick = int(truth.sum())
    well = truth.size - sick
    if not sick or not well:
        return math.nan
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[place]
    return float((ranks[truth].sum() - sick * (sick + 1) / 2) / (sick * well))


def calibration(answers: Sequence[Answer]) -> Calibration:
    """Return how far the probabilities of the answers that have one are from frequencies."""
    told = [one for one in answers if one.probability is not None]
    patients = [one.patient for one in told]
    truth = np.array([one.truth for one in told], dtype=np.float64)
    score = np.array([one.probability for one in told], dtype=np.float64)
    bins = np.minimum((score * BINS).astype(np.intp), BINS - 1)

    def error(k: Indices) -> float:
        stated, observed = (np.bincount(bins[k], of[k], minlength=BINS) for of in (score, truth))
        return float(np.abs(stated - observed).sum() / len(k))

    counts = np.bincount(bins, minlength=BINS)
    held = counts > 0
    return Calibration(
        np.bincount(bins, score, minlength=BINS)[held] / counts[held],
        np.bincount(bins, truth, minlength=BINS)[held] / counts[held],
        counts[held],
        by_patient(patients, lambda k: float(((score[k] - truth[k]) ** 2).mean())),
        by_patient(patients, error),
    )
