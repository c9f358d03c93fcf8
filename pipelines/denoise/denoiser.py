"""A series with less noise: slice by slice, each by as much noise as it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from pipelines.denoise.noise import noise_levels

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipelines.denoise.noise import FloatImage

    Level = Callable[[FloatImage], float]


@dataclass(frozen=True)
class Denoised:
    """What became of a series.

    Attributes:
        voxels: float32, shape of the series, in its unit.
        level: Noise that is left, in that unit: median of the slices.
    """

    voxels: npt.NDArray[np.float32]
    level: float


def denoised(
    voxels: npt.NDArray[np.float32],
    levels: npt.NDArray[np.float64],
    network: torch.nn.Module,
    strength: float,
    level_of: Level,
) -> Denoised:
    """Subtract from each slice the noise that the network finds in it.

    Args:
        voxels: Shape (slices, rows, columns).
        levels: Noise of each slice, in the voxels' unit; where it is 0 the slice stays as it is.
        network: Returns the noise of an image, both in units of its level.
        strength: Share of that noise to subtract, 0..1.
        level_of: As of ``noise_levels``.
    """
    left = np.empty_like(voxels)
    with torch.inference_mode():
        for number, (source, level) in enumerate(zip(voxels, levels, strict=True)):
            left[number] = source
            if level > 0.0:
                scale = np.float32(level)
                image = torch.from_numpy(source / scale)[None, None]
                left[number] -= np.float32(strength) * scale * network(image)[0, 0].numpy()
    return Denoised(left, float(np.median(noise_levels(left, level_of))))
