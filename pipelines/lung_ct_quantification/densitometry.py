"""How dense a lung is: the published indices of CT densitometry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipelines import codes
from pipelines.contract import Measurement
from pipelines.lung_ct_quantification.codes import LAA_950, PERC_15, TISSUE_MASS
from pipelines.lungs.morphology import interior

if TYPE_CHECKING:
    from pipelines.contract import Volume
    from pipelines.lungs.morphology import Mask

EMPHYSEMA_HU = -950.0
PERCENTILE = 15.0


def densitometry(volume: Volume, lung: Mask, *, histogram: bool) -> tuple[Measurement, ...]:
    """Return what the grey values of a lung say.

    Mean density and mass leave the outermost layer of voxels out: each is in part chest wall,
    diaphragm or a large vessel, and on voxels of 2 to 3 mm they alone make the mean 9 to 11 HU
    too dense. The mass is that density times the volume of the whole outline. LAA-950 and Perc15
    are of all voxels, as they were published; few of the outermost are among the darkest.

    Args:
        volume: CT.
        lung: Outline of one lung or both, thicker than two voxels somewhere.
        histogram: Whether the tails of the distribution mean something, too, and not only its
            mean: LAA-950 and Perc15 depend on slice thickness and kernel.

    Source: Gevenois et al. 1996, Am J Respir Crit Care Med 154:187-192 (LAA-950); Dirksen et al.
    1999, ibid. 160:1468-1472 (Perc15); Coxson et al. 1999, ibid. 159:851-856 (mass: HU + 1000 is
    the density in g/L).
    """
    values = volume.voxels[lung]
    mean_hu = float(volume.voxels[interior(lung)].mean(dtype=np.float64))
    volume_ml = values.size * volume.grid.voxel_volume_ml
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
