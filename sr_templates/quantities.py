"""Measurements as people write them: the same words in every report, picture and document."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pipelines.contract import Measurement

UNITS = {
    "1": "",
    "[hnsf'U]": "HU",
    "{pixels}": "pixels",
    "cm2": "cm²",
    "cm3": "cm³",
    "d": "days",
    "mm2": "mm²",
    "mm3": "mm³",
    "uV": "µV",
}
"""UCUM code -> as people write it. A unit that is not here is written as it is."""


class Quantity(NamedTuple):
    """A measurement in words.

    Attributes:
        name: What was measured.
        value: With its unit.
        remark: Its interval and method; empty where the pipeline knows none.
    """

    name: str
    value: str
    remark: str


def in_words(measurement: Measurement) -> Quantity:
    """Return a measurement as people write it, to four significant digits."""
    name = measurement.name.meaning
    if measurement.derivation is not None:
        name += f" ({measurement.derivation.meaning.lower()})"
    value = f"{rounded(measurement.value)} {UNITS.get(measurement.unit, measurement.unit)}"
    bounds = [
        f"{word} {rounded(bound)}"
        for word, bound in (("from", measurement.lowest), ("to", measurement.highest))
        if bound is not None
    ]
    remarks = [f"(95 % interval {' '.join(bounds)})"] if bounds else []
    if measurement.method is not None:
        remarks.append(f"by {measurement.method.meaning}")
    return Quantity(name, value.strip(), ", ".join(remarks))


def rounded(value: float) -> str:
    """Return a number to four significant digits, or to a whole number if that is longer.

    What is so large or small that nobody would count its digits has an exponent.
    """
    if value == 0.0:
        return "0"
    if not 1e-6 <= abs(value) < 1e15:
        return f"{value:.3e}"
    decimals = max(0, 3 - math.floor(math.log10(abs(value))))
    digits = f"{value:.{decimals}f}"
    return digits.rstrip("0").rstrip(".") if decimals else digits
