"""Where a CT shows its noise, soft tissue, and how much there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.denoise.noise import noise_level

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LOWEST_HU, HIGHEST_HU = -150.0, 150.0
"""Fat, muscle, organs, brain, with contrast agent; neither lung nor bone nor air."""


def is_tissue(mean_hu: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Say of local means whether they are of soft tissue."""
    return (mean_hu > LOWEST_HU) & (mean_hu < HIGHEST_HU)


def level_hu(plane_hu: npt.NDArray[np.float32]) -> float:
    """Return the noise of a slice; 0.0 where it shows too little soft tissue."""
    return noise_level(plane_hu, is_tissue)
