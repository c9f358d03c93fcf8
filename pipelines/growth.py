"""How a lesion has grown between two studies, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING

from pipelines.codes import (
    PRIOR_VOLUME,
    RELATIVE_VOLUME_CHANGE,
    TIME_SINCE_PRIOR,
    VOLUME_CHANGE,
    VOLUME_DOUBLING_TIME,
)
from pipelines.contract import Measurement

if TYPE_CHECKING:
    from datetime import date

GROWN_PERCENT = 25.0
"""Volumetry varies by less from scan to scan; a doubling time of less would be one of noise.

Source: Callister et al. 2015, Thorax 70 Suppl 2:ii1 (BTS guideline); MacMahon et al. 2017,
Radiology 284:228-243 (Fleischner Society).
"""


@dataclass(frozen=True)
class Growth:
    """One lesion at two times.

    Attributes:
        before_ml: Its volume in the earlier study, not zero.
        now_ml: Its volume in the present one.
        before: When the earlier images were taken.
        now: When the present ones were.
    """

    before_ml: float
    now_ml: float
    before: date
    now: date

    @property
    def days(self) -> int:
        """Days between the two studies."""
        return (self.now - self.before).days

    @property
    def percent(self) -> float:
        """Change of the volume, relative to the earlier one."""
        return 100.0 * (self.now_ml / self.before_ml - 1.0)

    @property
    def doubling_time_days(self) -> float | None:
        """Days in which it doubles if it grows exponentially; None if it has not grown.

        Source: Schwartz 1961, Cancer 14:1272-1294.
        """
        if self.days <= 0 or self.percent < GROWN_PERCENT:
            return None
        return self.days * log(2.0) / log(self.now_ml / self.before_ml)

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """What a report says of it beside the present volume."""
        change = (
            *before(self.before_ml, self.days),
            Measurement(VOLUME_CHANGE, self.now_ml - self.before_ml, "mL"),
            Measurement(RELATIVE_VOLUME_CHANGE, self.percent, "%"),
        )
        doubles = self.doubling_time_days
        if doubles is None:
            return change
        return (*change, Measurement(VOLUME_DOUBLING_TIME, doubles, "d"))

    def __str__(self) -> str:
        doubles = self.doubling_time_days
        after = "" if doubles is None else f", volume doubling time {doubles:.0f} days"
        return (
            f"{self.before_ml:.3g} mL on {self.before}, now {self.now_ml:.3g} mL: "
            f"{self.percent:+.0f} % in {self.days} days{after}"
        )


def before(volume_ml: float, days: int) -> tuple[Measurement, ...]:
    """Return what an earlier study measured of a lesion, and how many days ago."""
    return (
        Measurement(PRIOR_VOLUME, volume_ml, "mL"),
        Measurement(TIME_SINCE_PRIOR, float(days), "d"),
    )
