"""A figure with its 95 % interval, drawn over patients: what one patient has resembles itself."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Indices = npt.NDArray[np.intp]

DRAWS = 2000
_Z = 1.959964


@dataclass(frozen=True)
class Estimate:
    """A figure, its 95 % interval, and of how much it was measured.

    Attributes:
        value: NaN where it cannot be computed, such as a sensitivity without a sick patient.
        lowest: Bound of the interval; NaN where there is none, as for one patient.
        highest: Ditto.
        n: Number of things counted: strips, lesions, studies.
        patients: Number of patients that they come from.
    """

    value: float
    lowest: float
    highest: float
    n: int
    patients: int

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "cannot be computed"
        if math.isnan(self.lowest):
            return f"{self.value:.3f}"
        return f"{self.value:.3f} ({self.lowest:.3f} to {self.highest:.3f})"


def by_patient(
    patients: Sequence[str], statistic: Callable[[Indices], float], seed: int = 0
) -> Estimate:
    """Return a statistic with its interval when whole patients are drawn again.

    The percentile bootstrap over clusters (Efron and Tibshirani 1993, chapter 13; Davison and
    Hinkley 1997, section 3.8). Draws for which the statistic does not exist are left out.

    Args:
        patients: Whose each thing is.
        statistic: Of the things with these indices, which may repeat; NaN where it has no value.
        seed: The same seed gives the same interval.
    """
    names, owner = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    everything = np.arange(len(patients))
    if not len(names):
        return Estimate(math.nan, math.nan, math.nan, 0, 0)
    value = statistic(everything)
    if len(names) == 1:
        return Estimate(value, math.nan, math.nan, len(patients), 1)
    owned = [everything[owner == number] for number in range(len(names))]
    random = np.random.default_rng(seed)
    drawn = random.integers(len(names), size=(DRAWS, len(names)))
    values = [statistic(np.concatenate([owned[one] for one in draw])) for draw in drawn]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # none of the draws had a value
        lowest, highest = np.nanpercentile(values, (2.5, 97.5))
    return Estimate(value, float(lowest), float(highest), len(patients), len(names))


def mean_by_patient(patients: Sequence[str], values: Sequence[float], seed: int = 0) -> Estimate:
    """Return a mean with its interval over patients; values that are NaN are left out."""
    numbers = np.asarray(values, dtype=np.float64)
    there = np.flatnonzero(~np.isnan(numbers))
    kept = numbers[there]
    owners = [patients[int(k)] for k in there]
    return by_patient(owners, lambda drawn: float(kept[drawn].mean()), seed)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion (Wilson 1927, J Am Stat Assoc 22:209-212).

    Of independent things only; those of one patient are not.
    """
    if n == 0:
        return math.nan, math.nan
    centre = (successes + _Z * _Z / 2) / (n + _Z * _Z)
    half = _Z / (n + _Z * _Z) * (successes * (n - successes) / n + _Z * _Z / 4) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)
