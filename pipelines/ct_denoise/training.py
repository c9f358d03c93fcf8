"""Pairs of CT slices to learn from: real scans, measured again with fewer photons.

The scan is taken for the patient. Its slices are projected, photons are drawn, and both the noisy
and the noise-free sinogram are reconstructed with the same kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch.nn import functional

from pipelines.ct_denoise.tissue import is_tissue, level_hu
from pipelines.denoise.noise import FEWEST_PX
from pipelines.denoise.recipe import Pair
from pipelines.denoise.simulation import KERNELS, low_dose, project, reconstruct

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pipelines.denoise.scans import Scan

SIZE_PX: Final = 256
"""Slices are averaged down to this: larger ones take minutes each."""
FEWEST_PHOTONS, MOST_PHOTONS = 1e4, 1e6
"""For a ray that meets nothing."""
REPEATS: Final = 3
"""Random doses for each slice."""


def random_pairs(scans: Iterable[Scan], every: int, start: int, seed: int) -> list[Pair]:
    """Return pairs of random dose and kernel, of every so many slices from ``start``."""
    generator = torch.Generator().manual_seed(seed)
    span = np.log(MOST_PHOTONS / FEWEST_PHOTONS)
    pairs: list[Pair] = []
    for scan in scans:
        for plane, spacing_mm in slices_of(scan, every, start):
            drawn = torch.rand(REPEATS, generator=generator)
            conditions = [
                (
                    float(FEWEST_PHOTONS * np.exp(span * float(one))),
                    KERNELS[int(torch.randint(len(KERNELS), (), generator=generator))],
                )
                for one in drawn
            ]
            pairs += pairs_of(plane, spacing_mm, conditions, generator, scan.patient)
    return pairs


def slices_of(scan: Scan, every: int, start: int) -> Iterator[tuple[torch.Tensor, float]]:
    """Yield square slices of ``SIZE_PX``, and the spacing of their pixels in mm."""
    for plane in scan.voxels[start::every]:
        image = torch.from_numpy(plane)[None, None]
        missing = max(plane.shape) - np.array(plane.shape)
        image = functional.pad(image, (0, int(missing[1]), 0, int(missing[0])), value=-1000.0)
        times = max(round(image.shape[-1] / SIZE_PX), 1)
        small = functional.avg_pool2d(image, times)[0, 0]
        yield small, scan.spacing_mm[0] * times


def pairs_of(
    plane_hu: torch.Tensor,
    spacing_mm: float,
    conditions: Sequence[tuple[float, str]],
    generator: torch.Generator,
    patient: str,
) -> Iterator[Pair]:
    """Yield a pair for each (photons, kernel), unless the slice shows too little tissue."""
    if int(is_tissue(plane_hu.numpy()).sum()) < 2 * FEWEST_PX:
        return
    sinogram = project(plane_hu[None], spacing_mm)
    for photons, kernel in conditions:
        measured = torch.cat((low_dose(sinogram, photons, generator), sinogram))
        noisy, clean = reconstruct(measured, spacing_mm, kernel)
        level, clean_level = (level_hu(one.numpy()) for one in (noisy, clean))
        if level:
            yield Pair(noisy, clean, level, clean_level, patient, f"{photons:.0f} {kernel}")
