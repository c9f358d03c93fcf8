"""Where an MR shows its noise, where there is signal, and how much there is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipelines.denoise.noise import fine_level

SIGNAL = 0.25
"""Of the 99th percentile of local means. Background with noise of a tenth of that has a mean of
an eighth of it (Rician)."""


def is_tissue(mean: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Say of the local means of a slice whether they are signal."""
    if not mean.size:
        return np.zeros(mean.shape, np.bool_)
    return np.asarray(mean > SIGNAL * np.percentile(mean, 99.0))


def level(plane: npt.NDArray[np.float32]) -> float:
    """Return the noise of a slice; 0.0 where it shows too little signal."""
    return fine_level(plane, is_tissue)
