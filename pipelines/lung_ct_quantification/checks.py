"""What a reader must know before a lung's density is compared with anything."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pipelines.lungs.suitability import age_years, is_sharp, thickness_mm

if TYPE_CHECKING:
    from pipelines.contract import Volume
    from pipelines.lungs.airways import Airways

THICKEST_FOR_HISTOGRAM_MM = 2.0
"""LAA-950 and Perc15 change with section thickness (Gierada et al. 2010, Acad Radiol 17:146-156);
COPDGene measured on sections under 1 mm (Zach et al. 2012, Invest Radiol 47:596-602). The limit
is this pipeline's own."""

SMALLEST_ML = 2000.0
"""Two standard deviations below the mean of 564 adults with normal lungs, 4468 (SD 1271) mL:
Cheng et al. 2019, Int J Chron Obstruct Pulmon Dis 14:1657-1668."""

DENSEST_HU = -700.0
"""Own limit for the mean of both lungs in full inspiration."""

ROUNDEST_BOWED = 0.90
"""Own limit: a section whose posterior wall is convex, as in inspiration, fills its hull."""

AIR_TOLERANCE_HU = 20.0
"""Own limit. Air in the trachea serves as internal standard: Parr et al. 2004, Am J Respir Crit
Care Med 170:883-890. Scanners show it above -1000 HU as a rule."""


def has_valid_histogram(volume: Volume) -> bool:
    """Whether slices are thin enough for LAA-950 and Perc15."""
    return thickness_mm(volume) <= THICKEST_FOR_HISTOGRAM_MM


def acquisition_notes(volume: Volume) -> tuple[str, ...]:
    """Return what the acquisition does to the density of lungs."""
    notes = []
    if not has_valid_histogram(volume):
        notes.append(
            f"LAA-950 and Perc15 are not reported: the slices are {thickness_mm(volume):.1f} mm "
            f"thick or apart, and beyond {THICKEST_FOR_HISTOGRAM_MM:.0f} mm these indices are "
            "too small."
        )
    if is_sharp(volume.attributes):
        notes.append(
            "The images were reconstructed with a kernel that enhances edges: LAA-950 is too "
            "large by several percent of the lung and Perc15 too low. Compare only with images "
            "of the same kernel."
        )
    if "ConvolutionKernel" not in volume.attributes:
        notes.append("The headers do not name the reconstruction kernel, on which density depends.")
    if "ContrastBolusAgent" in volume.attributes:
        notes.append(
            "Acquired after contrast agent, which makes lungs denser: LAA-950 is too small, mean "
            "density, Perc15 and mass too large."
        )
    age = age_years(volume.attributes)
    if age is not None and age < 18:
        notes.append("The patient is under 18 years old; the limits used here are adults'.")
    return tuple(notes)


def inspiration_notes(total_ml: float, mean_hu: float, airways: Airways) -> tuple[str, ...]:
    """Return what speaks against a full inspiration, on which all published values rest."""
    signs = []
    if total_ml < SMALLEST_ML:
        signs.append(f"both lungs hold {total_ml / 1000:.1f} L only")
    if mean_hu > DENSEST_HU:
        signs.append(f"their mean density is {mean_hu:.0f} HU")
    if airways.roundness < ROUNDEST_BOWED:
        signs.append("the posterior wall of the trachea is bowed inwards")
    if not signs:
        return ()
    return (
        (
            f"Perhaps not in full inspiration: {', and '.join(signs)}. Then LAA-950 is "
            "too small and density too high for a comparison with published values."
        ),
    )


def calibration_notes(airways: Airways) -> tuple[str, ...]:
    """Return a note where the air in the trachea is not at -1000 HU."""
    if math.isnan(airways.air_hu):
        return ("The trachea is too narrow in the images for a check of the HU of air.",)
    if abs(airways.air_hu + 1000.0) <= AIR_TOLERANCE_HU:
        return ()
    return (
        (
            f"The air in the trachea measures {airways.air_hu:.0f} HU instead of -1000: densities "
            "are off by about as much where the lung is darkest, and were not corrected."
        ),
    )
