"""The space inside the skull, by MindGrab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import SimpleITK

from pipelines.conform import conform, labels_onto
from pipelines.contract import CouldNotLook, Volume

if TYPE_CHECKING:
    from pipelines.meshnet import MeshNet
    from pipelines.outline import Mask

DARKEST_HU, BRIGHTEST_HU = -100.0, 300.0
"""Between which HU the network sees greys: see the card for other windows tried."""
SMALLEST_ML, LARGEST_ML = 800.0, 2200.0
"""A tripwire for a mask that is no whole cranial cavity, not a norm."""


def cranial_cavity(volume: Volume, network: MeshNet) -> Mask:
    """Return the brain with the fluid around it, one piece without holes.

    Raises:
        CouldNotLook: Nothing of that size was outlined.
    """
    grey = np.clip(volume.voxels, DARKEST_HU, BRIGHTEST_HU) - np.float32(DARKEST_HU)
    head = conform(Volume(grey, volume.grid))
    mask = labels_onto(network.labels(head), head.grid, volume.grid) > 0
    mask = _largest_filled(mask)
    volume_ml = float(mask.sum()) * volume.grid.voxel_volume_ml
    if not SMALLEST_ML <= volume_ml <= LARGEST_ML:
        raise CouldNotLook(
            f"What was outlined is no adult's whole cranial cavity: {volume_ml:.0f} mL."
        )
    return mask


def _largest_filled(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    pieces = SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(mask.astype(np.uint8)))
    largest = SimpleITK.RelabelComponent(pieces, sortByObjectSize=True) == 1
    return SimpleITK.GetArrayFromImage(SimpleITK.BinaryFillhole(largest)).astype(np.bool_)
