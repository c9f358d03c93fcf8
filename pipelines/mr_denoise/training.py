"""Pairs of MR slices to learn from: real magnitude images, with the noise of a coil added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from pipelines.denoise.recipe import Pair
from pipelines.denoise.simulation import rician
from pipelines.mr_denoise.tissue import level as level_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pipelines.denoise.scans import Scan

LEAST, MOST = 0.015, 0.12
"""Noise as a share of the bright tissue (99th percentile) of the slice."""
SHARES: Final = (1.0, 1.0, 1.0, 0.75)
"""Of k-space that was measured, the rest filled with zeros; one is drawn."""
REPEATS: Final = 2
"""Random levels for each slice."""


def random_pairs(scans: Iterable[Scan], every: int, start: int, seed: int) -> list[Pair]:
    """Return pairs of random level, of every so many slices from ``start``."""
    generator = torch.Generator().manual_seed(seed)
    pairs: list[Pair] = []
    for scan in scans:
        for plane in slices_of(scan, every, start):
            conditions = [
                (
                    LEAST * (MOST / LEAST) ** float(torch.rand((), generator=generator)),
                    SHARES[int(torch.randint(len(SHARES), (), generator=generator))],
                )
                for _ in range(REPEATS)
            ]
            pairs += pairs_of(plane, conditions, generator, scan.patient)
    return pairs


def slices_of(scan: Scan, every: int, start: int) -> Iterator[torch.Tensor]:
    """Yield slices, scaled so that bright tissue is 1000.

    Each pixel is the mean of four: the scanner's own noise, which nobody can take out of what
    counts as the truth, is halved.
    """
    for whole in scan.voxels[start::every]:
        rows, columns = (size // 2 for size in whole.shape)
        plane = whole[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2).mean(axis=(1, 3))
        bright = float(np.percentile(plane, 99.0))
        if bright > 0.0:
            yield torch.from_numpy(np.maximum(plane, 0.0) * np.float32(1000.0 / bright))


def pairs_of(
    plane: torch.Tensor,
    conditions: Sequence[tuple[float, float]],
    generator: torch.Generator,
    patient: str,
) -> Iterator[Pair]:
    """Yield a pair for each (noise, share of k-space), unless the slice shows too little."""
    clean_level = level_of(plane.numpy())
    for noise, share in conditions:
        (noisy,) = rician(plane[None], [1000.0 * noise], generator, share)
        level = level_of(noisy.numpy())
        if clean_level and level:
            yield Pair(noisy, plane, level, clean_level, patient, f"{noise:.3g} {share:g}")
