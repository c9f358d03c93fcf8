"""Whether a series is one that the brain network was made for: a T1-weighted adult head.

The network gives a plausible brain on other contrasts too, so nothing after it would notice.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pipelines.contract import CouldNotLook, Grid
from pipelines.mr_contrast import (
    DERIVED,
    LONGEST_T1_ECHO_MS,
    LONGEST_T1_INVERSION_MS,
    LONGEST_T1_REPETITION_MS,
    milliseconds,
    words,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST_SPACING_MM = 5.0
"""Averaging the slices of one 0.67 mm head changed its volume by at most 0.9 % up to 5 mm and by
up to 3.1 % at 8 mm (card.md)."""

SMALLEST_FIELD_MM = 100.0
"""An adult's brain is longer than this along every axis of the body."""

_T1_WORDS = {"T1", "T1W", "T1WI", "T1FLAIR", "MPRAGE", "MEMPRAGE", "BRAVO", "SPGR", "FSPGR"}
_OTHER_WORDS = {
    *("T2", "T2W", "T2WI", "T2STAR", "FLAIR", "STIR", "PD", "PDW", "CISS", "FIESTA", "SWI", "SWAN"),
    *("DWI", "DTI", "DIFF", "ADC", "ASL", "BOLD", "PERF", "PERFUSION", "TOF", "MRA", "MRV"),
}
_UNKNOWN_CONTRAST = (
    "The headers do not say whether the images are T1-weighted; on any other contrast this "
    "volume is wrong."
)
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


def require_field(grid: Grid) -> None:
    """Raise CouldNotLook unless the images cover a head with slices thin enough."""
    coarsest = max(grid.spacing_mm)
    if coarsest > LARGEST_SPACING_MM:
        raise CouldNotLook(
            f"The slices or pixels are {coarsest:.1f} mm apart; beyond {LARGEST_SPACING_MM:.0f} mm "
            "this volume would not be reliable."
        )
    extent = min(
        count * spacing for count, spacing in zip(grid.shape, grid.spacing_mm, strict=True)
    )
    if extent < SMALLEST_FIELD_MM:
        raise CouldNotLook(
            f"The images cover only {extent:.0f} mm in one direction and cannot hold a whole brain."
        )


def require_straight(attributes: Mapping[str, str]) -> None:
    """Raise CouldNotLook for sheared slices: MR has no gantry to tilt, and no such head was tested.

    Where a straightened volume ends, its images do not, so that a cut brain would go unnoticed.
    """
    tilt = attributes.get("GantryDetectorTilt", "")
    if tilt.strip("+-0. "):
        raise CouldNotLook(
            f"The slices are sheared by {tilt} degrees, as with a tilted gantry; this model needs "
            "slices straight above each other."
        )


def check_age(attributes: Mapping[str, str]) -> tuple[str, ...]:
    """Return a note for a child, if the header gives an age.

    Raises:
        CouldNotLook: The patient is under two years old: the young brain's contrast is another.
    """
    age = re.fullmatch(r"(\d{3})([DWMY])", attributes.get("PatientAge", ""))
    if age is None:
        return ()
    years = int(age[1]) * _YEARS[age[2]]
    if years < 2:
        raise CouldNotLook("The patient is under 2 years old; this model is made for adults.")
    if years < 18:
        return ("The patient is under 18 years old; this model is made for adults.",)
    return ()


def check_t1(attributes: Mapping[str, str]) -> tuple[str, ...]:
    """Return a note where the headers leave open whether the images are T1-weighted.

    Raises:
        CouldNotLook: The headers say that they are not.
    """
    maps = words(attributes, "ImageType") & DERIVED
    if maps:
        raise CouldNotLook(f"The images are a derived map, not a T1-weighted head ({min(maps)}).")
    contrast = attributes.get("AcquisitionContrast", "UNKNOWN")
    if contrast not in ("T1", "UNKNOWN"):
        raise _not_t1(f"acquisition contrast {contrast}")
    _require_t1_timing(attributes)
    named = words(attributes, "SeriesDescription", "ProtocolName", "PulseSequenceName")
    others = named & _OTHER_WORDS
    if others and not named & _T1_WORDS:
        raise _not_t1(f"the series is named {min(others)}")
    if contrast == "T1" or named & _T1_WORDS or "RepetitionTime" in attributes:
        return ()
    return (_UNKNOWN_CONTRAST,)


def check_contrast_agent(attributes: Mapping[str, str]) -> tuple[str, ...]:
    """Return a note where a contrast agent was given."""
    if "ContrastBolusAgent" in attributes:
        return ("Acquired after contrast agent, on which this pipeline has not been tested.",)
    return ()


def _require_t1_timing(attributes: Mapping[str, str]) -> None:
    echo_ms = milliseconds(attributes, "EchoTime", "EffectiveEchoTime")
    if echo_ms is not None and echo_ms > LONGEST_T1_ECHO_MS:
        raise _not_t1(f"echo time {echo_ms:.0f} ms, at most {LONGEST_T1_ECHO_MS:.0f} ms expected")
    inversion_ms = milliseconds(attributes, "InversionTime", "InversionTimes")
    if inversion_ms is not None and inversion_ms > LONGEST_T1_INVERSION_MS:
        raise _not_t1(
            f"inversion time {inversion_ms:.0f} ms, at most "
            f"{LONGEST_T1_INVERSION_MS:.0f} ms expected"
        )
    prepared = inversion_ms or {"IR", "MP"} & (
        words(attributes, "ScanningSequence", "SequenceVariant")
    )
    repetition_ms = milliseconds(attributes, "RepetitionTime")
    if repetition_ms is not None and repetition_ms > LONGEST_T1_REPETITION_MS and not prepared:
        raise _not_t1(
            f"repetition time {repetition_ms:.0f} ms without inversion pulse, at most "
            f"{LONGEST_T1_REPETITION_MS:.0f} ms expected"
        )


def _not_t1(evidence: str) -> CouldNotLook:
    return CouldNotLook(f"The series is not T1-weighted: {evidence}.")
