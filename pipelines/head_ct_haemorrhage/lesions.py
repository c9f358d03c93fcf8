"""What BLAST-CT's networks see on a head CT, back on the series' own grid.

The intensities, the grid and the tiles are those of blast-ct 2.1.0 (``data/config.json``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipelines.conform import resampled
from pipelines.geometry import reorder_towards
from pipelines.head_ct_haemorrhage.deepmedic import CLASSES, DeepMedic
from pipelines.study import Grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.contract import Volume
    from pipelines.models import AddedModel
    from pipelines.outline import Mask

DARKEST_HU, BRIGHTEST_HU = -15.0, 100.0
"""Between which HU become -1 to 1; the rest is clipped."""
HEAD_TO_LEFT = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
"""Array axes growing to the head, the back and the left: the order in which ITK holds a volume."""
INTRAPARENCHYMAL, EXTRA_AXIAL, OEDEMA, INTRAVENTRICULAR = 1, 2, 3, 4
BLOOD = (INTRAPARENCHYMAL, EXTRA_AXIAL, INTRAVENTRICULAR)
_BODY_HU = -200.0
_ENDING = ".torch_model"


@dataclass(frozen=True)
class Lesions:
    """What is where, on the grid of the volume.

    Attributes:
        labels: uint8: 0 for none, else one of the classes above.
        probability: Of each class, mean over the networks; shape (5, slices, rows, columns).
        disagreement: Standard deviation over the networks of the probability of blood; None for
            a single network.
    """

    labels: npt.NDArray[np.uint8]
    probability: npt.NDArray[np.float32]
    disagreement: npt.NDArray[np.float32] | None

    def mask(self, label: int) -> Mask:
        """Return where one class is."""
        where: Mask = self.labels == label
        return where


def read_networks(model: AddedModel) -> tuple[DeepMedic, ...]:
    """Return every network of the model, verified.

    Raises:
        ModelChanged: A file is not the one that was added.
        ValueError: A file holds no such network, or there is none.
    """
    paths = [path for path in model.files if path.endswith(_ENDING)]
    if not paths:
        raise ValueError(f"The model {model.name} has no file that ends with {_ENDING}.")
    return tuple(DeepMedic.read(model.read(path)) for path in sorted(paths))


def find_lesions(
    volume: Volume, networks: Sequence[DeepMedic], cavity: Mask | None = None
) -> Lesions:
    """Return what the networks see.

    Args:
        volume: Head CT in HU.
        networks: Of which the mean is taken.
        cavity: Inside of the skull, to look in it and in the tiles around only; None: everywhere
            in the head, which takes about twice as long.
    """
    grid = working_grid(volume.grid)
    hounsfield = resampled(volume.voxels, volume.grid, grid, outside=float(volume.voxels.min()))
    grey = np.clip(hounsfield, DARKEST_HU, BRIGHTEST_HU)
    grey = (2.0 * grey - DARKEST_HU - BRIGHTEST_HU) / (BRIGHTEST_HU - DARKEST_HU)
    where = hounsfield > _BODY_HU
    if cavity is not None:
        where = resampled(cavity, volume.grid, grid) > 0
    total = np.zeros((CLASSES, *grid.shape), dtype=np.float32)
    blood = np.zeros((2, *grid.shape), dtype=np.float32)
    for network in networks:
        told = network.probabilities(grey.astype(np.float32), where)
        total += told
        share = told[list(BLOOD)].sum(axis=0)
        blood += np.stack((share, share**2))
    mean = total / np.float32(len(networks))
    probability = np.stack([resampled(one, grid, volume.grid) for one in mean])
    probability[0] = 1.0 - probability[1:].sum(axis=0)  # beyond the working grid: background
    disagreement = None
    if len(networks) > 1:
        first, second = blood / np.float32(len(networks))
        spread = np.sqrt(np.maximum(second - first**2, 0.0))
        disagreement = resampled(spread, grid, volume.grid)
    return Lesions(probability.argmax(axis=0).astype(np.uint8), probability, disagreement)


def working_grid(grid: Grid) -> Grid:
    """Return 1 mm voxels that cover the grid, along its axes in the order of ``HEAD_TO_LEFT``."""
    ordered = reorder_towards(grid, HEAD_TO_LEFT).regrid(grid)
    slices, rows, columns = (
        round((count - 1) * spacing + 1)
        for count, spacing in zip(ordered.shape, ordered.spacing_mm, strict=True)
    )
    return Grid((slices, rows, columns), ordered.origin_mm, ordered.axes, (1.0, 1.0, 1.0))
