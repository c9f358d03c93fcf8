"""Where an MR shows its noise: where there is signal."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SIGNAL = 0.25
"""Of the 99th percentile of local means. Background with noise of a tenth of that has a mean of
an eighth of it (Rician)."""


def is_tissue(mean: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Say of the local means of a slice whether they are signal."""
    if not mean.size:
        return np.zeros(mean.shape, np.bool_)
    return np.asarray(mean > SIGNAL * np.percentile(mean, 99.0))
