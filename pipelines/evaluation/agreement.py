"""Number against number: how far measurements are off, and how far they may be off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipelines.evaluation.estimate import Estimate, by_patient

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Measured:
    """One quantity of one study: as it is, and as the pipeline measured it, in one unit."""

    patient: str
    truth: float
    said: float


@dataclass(frozen=True)
class Agreement:
    """Bland and Altman 1986 (Lancet 1:307-310): differences, said minus truth.

    Attributes:
        bias: Their mean.
        lower_limit: Bias minus 1.96 standard deviations.
        upper_limit: Bias plus as much.
        error: Mean of their absolute values.
    """

    bias: Estimate
    lower_limit: Estimate
    upper_limit: Estimate
    error: Estimate


def agreement(pairs: Sequence[Measured]) -> Agreement:
    """Return how measurements agree with the truth."""
    patients = [one.patient for one in pairs]
    off = np.array([one.said - one.truth for one in pairs], dtype=np.float64)

    def limit(drawn: np.ndarray[tuple[int], np.dtype[np.intp]], sides: float) -> float:
        if len(drawn) < 2:
            return float("nan")
        return float(off[drawn].mean() + sides * 1.96 * off[drawn].std(ddof=1))

    return Agreement(
        by_patient(patients, lambda k: float(off[k].mean())),
        by_patient(patients, lambda k: limit(k, -1.0)),
        by_patient(patients, lambda k: limit(k, 1.0)),
        by_patient(patients, lambda k: float(np.abs(off[k]).mean())),
    )
