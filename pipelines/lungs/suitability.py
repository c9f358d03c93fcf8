"""Whether a series is a CT on which lungs can be measured, from its headers and its geometry."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from pipelines.contract import CouldNotLook, Grid, Volume

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.contract import Study
    from pipelines.lungs.segmentation import Lungs

THICKEST_MM = 5.0
"""Own limit: beyond, a main bronchus is no longer parted from the lung beside it."""
SMALLEST_FIELD_MM = 120.0
"""Own limit: an adult's lungs are longer than this along every axis of the body."""
AIR_HU = -900.0
"""Every chest has air: where nothing is darker, the grey values are no Hounsfield units."""
CUT_OFF_CM2 = 10.0
"""Of lung in the lowest or highest slice; more is no tip of it. Own limit."""

_MADE_UP = {
    *("DERIVED", "LOCALIZER", "PROJECTION", "MIP", "MINIP", "MPR", "CPR", "REFORMATTED"),
    *("SUBTRACTION", "IODINE", "VNC", "MONOENERGETIC", "SECONDARYCAPTURE"),
}
_SHARP = re.compile(
    r"LUNG|BONE|EDGE|DETAIL|SHARP"  # GE
    r"|^(B[RLV]?|I|HR|QR)[_ ]?(5[4-9]|[6-9]\d)"  # Siemens: B60f, Br64, Bl57, I70f
    r"|^(L|YA|YB|YC|YD|D|E|EC)$"  # Philips
    r"|^FC_?(3[0-9]|[5-9]\d)"  # Canon
)
"""Own list from the vendors' naming: what the headers call kernels that enhance edges."""
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


def require_chest_ct(study: Study) -> Volume:
    """Return the study, if it is a volume of original CT slices, large and thin enough.

    Raises:
        CouldNotLook: It is not.
    """
    if not isinstance(study, Volume):
        raise CouldNotLook("This model looks at a volume of CT slices, and this is none.")
    modality = study.attributes.get("Modality", "CT")
    if modality != "CT":
        raise CouldNotLook(f"This model looks at CT, and the series is {modality}.")
    made_up = words(study.attributes, "ImageType") & _MADE_UP
    if made_up:
        raise CouldNotLook(
            f"The images are derived from others, not original CT slices ({min(made_up)})."
        )
    coarsest = thickness_mm(study)
    if coarsest > THICKEST_MM:
        raise CouldNotLook(
            f"The slices are {coarsest:.1f} mm thick or apart; beyond {THICKEST_MM:.0f} mm lungs "
            "and airways would not be told apart reliably."
        )
    _require_field(study.grid)
    if float(study.voxels.min(initial=0.0)) > AIR_HU:
        raise CouldNotLook(
            "Nothing in the images is as dark as air: the grey values are not Hounsfield units, "
            "or no lung is in the images."
        )
    return study


def require_whole(lungs: Lungs) -> tuple[str, ...]:
    """Return a note where a tip of the lungs may be missing.

    Raises:
        CouldNotLook: More than a tip is.
    """
    notes = []
    for side, area_cm2 in zip(("feet", "head"), lungs.edges_cm2, strict=True):
        if area_cm2 > CUT_OFF_CM2:
            raise CouldNotLook(
                f"The lungs are cut off where the images end towards the {side}: their section "
                f"there is {area_cm2:.0f} cm2."
            )
        if area_cm2 > 0:
            notes.append(
                f"The lungs reach the edge of the images towards the {side} ({area_cm2:.1f} cm2); "
                "a little of them may be missing."
            )
    return tuple(notes)


def thickness_mm(volume: Volume) -> float:
    """Return the larger of slice thickness and slice spacing, or the largest voxel edge."""
    try:
        stated = float(volume.attributes.get("SliceThickness", "0").split("\\")[0])
    except ValueError:
        stated = 0.0
    return max(stated, *volume.spacing_mm)


def is_sharp(attributes: Mapping[str, str]) -> bool:
    """Whether the images were reconstructed with a kernel that enhances edges, and noise."""
    return any(
        _SHARP.search(name.strip().upper())
        for name in attributes.get("ConvolutionKernel", "").split("\\")
    )


def age_years(attributes: Mapping[str, str]) -> float | None:
    """Return the patient's age, if the header gives one."""
    age = re.fullmatch(r"(\d{3})([DWMY])", attributes.get("PatientAge", ""))
    return int(age[1]) * _YEARS[age[2]] if age else None


def words(attributes: Mapping[str, str], *keywords: str) -> set[str]:
    """Return the words of attributes, in capitals."""
    text = "\\".join(attributes.get(keyword, "") for keyword in keywords)
    return set(re.split(r"[^A-Z0-9]+", text.upper()))


def _require_field(grid: Grid) -> None:
    extent_mm = float(np.min(np.multiply(grid.shape, grid.spacing_mm)))
    if extent_mm < SMALLEST_FIELD_MM:
        raise CouldNotLook(
            f"The images cover only {extent_mm:.0f} mm in one direction and cannot hold the lungs."
        )
