"""Measured values of a content tree, in the units they are compared in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from node.gate.voxels import ML_PER_UNIT
from sr_templates.tree import code_of

if TYPE_CHECKING:
    from pydicom import Dataset


def value_of(measured: Dataset) -> float:
    """Return a measured value as it is, NaN where it has none. Zero is a value."""
    value = measured.get("NumericValue")
    return math.nan if value in (None, "") else float(value)


def unit_of(measured: Dataset) -> str:
    """Return the UCUM unit of a measured value; empty where it has none."""
    units = measured.get("MeasurementUnitsCodeSequence") or ()
    return code_of(units[0]).value if units else ""


def millilitres(measured: Dataset) -> float | None:
    """Return a measured value in millilitres, None where it is in no unit of volume."""
    factor = ML_PER_UNIT.get(unit_of(measured))
    return None if factor is None else value_of(measured) * factor
