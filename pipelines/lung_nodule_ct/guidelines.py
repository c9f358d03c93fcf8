"""What two guideline tables say for a nodule of a size, a kind and a number. No more than that.

Sources: MacMahon et al. 2017, Radiology 284:228-243, table 1 (Fleischner Society, incidental
nodules); American College of Radiology, Lung-RADS v2022 (Christensen et al. 2024, J Am Coll
Radiol 21:473-488), for a first screening CT.
"""

from __future__ import annotations

import enum
import math
from typing import NamedTuple


class Kind(enum.Enum):
    """What a nodule is made of."""

    SOLID = "solid"
    PART_SOLID = "part-solid"
    GROUND_GLASS = "ground glass"


class Advice(NamedTuple):
    """Follow-up by clinical risk, which is for the reader to judge."""

    low_risk: str
    high_risk: str


NONE = "no routine follow-up"
_OPTIONAL = "optional CT at 12 months"
_WORK_UP = "consider CT at 3 months, PET/CT or tissue sampling"
_SINGLE_MIDDLE = Advice(
    "CT at 6 to 12 months, then consider CT at 18 to 24 months",
    "CT at 6 to 12 months, then CT at 18 to 24 months",
)
_SEVERAL = Advice(
    "CT at 3 to 6 months, then consider CT at 18 to 24 months",
    "CT at 3 to 6 months, then CT at 18 to 24 months",
)
_GROUND_GLASS = "CT at 6 to 12 months to confirm persistence, then CT every 2 years until 5 years"
_PART_SOLID = (
    "CT at 3 to 6 months to confirm persistence; if unchanged and the solid component remains "
    "under 6 mm, annual CT for 5 years"
)
_SMALL_SUBSOLID = "CT at 3 to 6 months; if stable, consider CT at 2 and 4 years"
_LARGE_SUBSOLID = "CT at 3 to 6 months, then as the most suspicious nodule requires"


def mean_diameter_mm(long_mm: float, short_mm: float) -> float:
    """Return the average of long and short axis, on which both guidelines rest."""
    return (long_mm + short_mm) / 2.0


def fleischner(diameter_mm: float, kind: Kind, *, several: bool) -> Advice:
    """Return the follow-up in table 1 of the Fleischner Society's guidelines of 2017.

    Args:
        diameter_mm: Mean diameter of the nodule, or of the largest of several; it is rounded to
            the whole millimetre, as the guideline asks, so that 8.4 mm is 8 and 5.5 mm is 6.
        kind: What it is made of.
        several: Whether there are other nodules.
    """
    rounded = math.floor(diameter_mm + 0.5)
    if kind is Kind.SOLID:
        if rounded < 6:
            return Advice(NONE, _OPTIONAL)
        if several:
            return _SEVERAL
        return _SINGLE_MIDDLE if rounded <= 8 else Advice(_WORK_UP, _WORK_UP)
    if several:
        text = _SMALL_SUBSOLID if rounded < 6 else _LARGE_SUBSOLID
    elif rounded < 6:
        text = NONE
    else:
        text = _GROUND_GLASS if kind is Kind.GROUND_GLASS else _PART_SOLID
    return Advice(text, text)


def lung_rads(diameter_mm: float, kind: Kind, solid_mm: float | None = None) -> str:
    """Return the category of a nodule on a first screening CT, Lung-RADS v2022, by its size alone.

    What makes a nodule another category (calcification, fat, a place at the pleura or in an
    airway, spiculation) is for the reader.

    Args:
        diameter_mm: Mean diameter; it is rounded to one decimal, as Lung-RADS asks.
        kind: What it is made of.
        solid_mm: Mean diameter of the solid component; needed for a part-solid nodule of 6 mm
            or more.

    Raises:
        ValueError: The solid component's size is missing where the category depends on it.
    """
    diameter = round(diameter_mm, 1)
    if kind is Kind.GROUND_GLASS:
        return "2" if diameter < 30.0 else "3"
    if diameter < 6.0:
        return "2"
    if kind is Kind.SOLID:
        return _by_size(diameter, (("3", 8.0), ("4A", 15.0)))
    if solid_mm is None:
        raise ValueError("A part-solid nodule of 6 mm needs the size of its solid component.")
    return _by_size(round(solid_mm, 1), (("3", 6.0), ("4A", 8.0)))


def _by_size(diameter_mm: float, below: tuple[tuple[str, float], ...]) -> str:
    return next((category for category, limit in below if diameter_mm < limit), "4B")
