"""How dense a lung is: the published indices of CT densitometry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipelines import codes
from pipelines.contract import Measurement
from pipelines.lung_ct_quantification.codes import LAA_950, PERC_15, TISSUE_MASS
from pipelines.lungs.morphology import interior

if TYPE_CHECKING:
    import numpy.typing as npt

    from pipelines.contract import Volume
    from pipelines.lungs.morphology import Mask

EMPHYSEMA_HU = -950.0
PERCENTILE = 15.0


def density_of(volume: Volume, mask: Mask) -> npt.NDArray[np.float32]:
    """Return the HU of every voxel of a lung but the outermost layer of its outline.

    A voxel at the surface is in part chest wall, diaphragm or a large vessel: on voxels of 2 to
    3 mm they alone make the mean of a lung 9 to 11 HU too dense.

    Args:
        volume: CT.
        mask: One lung or both, shape ``volume.shape``; thicker than two voxels somewhere.
    """
    return volume.voxels[interior(mask)]


def densitometry(
    values: npt.NDArray[np.float32], volume_ml: float, *, histogram: bool
) -> tuple[Measurement, ...]:
    """Return what the grey values of a lung say.

    Args:
        values: HU of the lung, as ``density_of`` gives them, at least one.
        volume_ml: Of the whole lung, whose mean density theirs is taken for.
        histogram: Whether the tails of the distribution mean something, too, and not only its
            mean: LAA-950 and Perc15 depend on slice thickness and kernel.

    Source: Gevenois et al. 1996, Am J Respir Crit Care Med 154:187-192 (LAA-950); Dirksen et al.
    1999, ibid. 160:1468-1472 (Perc15); Coxson et al. 1999, ibid. 159:851-856 (mass: HU + 1000 is
    the density in g/L).
    """
    mean_hu = float(values.mean(dtype=np.float64))
    mass_g = max(0.0, (mean_hu + 1000.0) / 1000.0 * volume_ml)
    found = [
        Measurement(codes.ATTENUATION_COEFFICIENT, mean_hu, "[hnsf'U]", derivation=codes.MEAN),
        Measurement(TISSUE_MASS, mass_g, "g"),
    ]
    if histogram:
        share = 100.0 * float(np.count_nonzero(values < EMPHYSEMA_HU)) / values.size
        percentile_hu = float(np.percentile(values, PERCENTILE))
        found += [
            Measurement(LAA_950, share, "%"),
            Measurement(PERC_15, percentile_hu, "[hnsf'U]"),
        ]
    return tuple(found)
