"""Codes of the left ventricle in an apical view: CID 12226, 12300, 12302."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pipelines.contract import Code

if TYPE_CHECKING:
    from collections.abc import Mapping

LEFT_VENTRICLE: Final = Code("87878005", "SCT", "Left ventricle")
END_DIASTOLE: Final = Code("416190007", "SCT", "End diastole")
END_SYSTOLE: Final = Code("416430001", "SCT", "End Systole")
HEART_RATE: Final = Code("8867-4", "LN", "Heart rate")
LENGTH_4C: Final = Code("79994-0", "LN", "Left ventricular end diastolic length 4C")


class Names(NamedTuple):
    """What the measurements of one view are called."""

    view: str
    ejection_fraction: Code
    end_diastolic_volume: Code
    end_systolic_volume: Code


FOUR_CHAMBER: Final = Names(
    "apical four-chamber",
    Code("79993-2", "LN", "Left ventricular ejection fraction single plane 4C (MOD)"),
    Code("79999-9", "LN", "Left ventricular end diastolic volume single plane 4C (MOD)"),
    Code("80004-5", "LN", "Left ventricular end systolic volume single plane 4C (MOD)"),
)
TWO_CHAMBER: Final = Names(
    "apical two-chamber",
    Code("79992-4", "LN", "Left ventricular ejection fraction single plane 2C (MOD)"),
    Code("79998-1", "LN", "Left ventricular end diastolic volume single plane 2C (MOD)"),
    Code("80003-7", "LN", "Left ventricular end systolic volume single plane 2C (MOD)"),
)
UNKNOWN: Final = Names(
    "",
    Code("18043-0", "LN", "Left Ventricular Ejection Fraction by US"),
    Code("18026-5", "LN", "Left Ventricular End Diastolic Volume"),
    Code("18148-7", "LN", "Left Ventricular End Systolic Volume"),
)
VIEWS: Final[Mapping[str, Names]] = {
    "399214001\\SCT": FOUR_CHAMBER,
    "399232001\\SCT": TWO_CHAMBER,
}
"""View Code Sequence, as value and scheme (CID 12226)."""
