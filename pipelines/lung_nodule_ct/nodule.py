"""From a place in the lung to a nodule: its outline, its size, where it lies.

Source of the outline: half-way between a nodule's density and the lung around it, as its true
edge is seen through a symmetric blur (Kostis et al. 2003, IEEE Trans Med Imaging 22:1259-1274).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipelines.codes import LEFT, RIGHT
from pipelines.diameters import diameters
from pipelines.lung_nodule_ct.codes import LOWER_ZONE, MIDDLE_ZONE, UPPER_ZONE
from pipelines.lung_nodule_ct.guidelines import mean_diameter_mm
from pipelines.lungs.morphology import Mask, closed, pieces

if TYPE_CHECKING:
    from pipelines.contract import Code, Volume
    from pipelines.lungs.segmentation import Lungs

_REACH = 0.75
"""Of the expected diameter, from the centre: farther is a vessel or the chest wall."""
_REACH_MM = 1.5
_BESIDE_MM = 8.0
_LEAST_CONTRAST_HU = 80.0
_SOLID_HU = -150.0
"""Own limit for the mean of the inner half of a nodule's voxels."""
_THICKEST_FOR_KIND_MM = 1.5
"""Fleischner 2017 asks for it: on thicker slices a solid nodule may look like ground glass."""

Place = tuple[float, float, float]


@dataclass(frozen=True)
class Nodule:
    """A nodule as it is reported.

    Attributes:
        mask: bool, shape of the volume.
        probability: The detector's.
        long_mm: Longest diameter in a slice.
        short_mm: Longest one across it, in the same slice.
        solid: True where its density says so on slices thin enough to tell; else unknown.
    """

    mask: Mask
    probability: float
    long_mm: float
    short_mm: float
    solid: bool

    @property
    def mean_mm(self) -> float:
        """Average of long and short axis."""
        return mean_diameter_mm(self.long_mm, self.short_mm)


def outline(volume: Volume, lungs: Lungs, centre: Place, diameter_mm: float) -> Mask | None:
    """Return the nodule at a place, or None where nothing there is denser than the lung.

    Args:
        volume: CT.
        lungs: In it.
        centre: (slice, row, column) of its middle, in voxels.
        diameter_mm: As expected.
    """
    spacing = np.array(volume.spacing_mm)
    reach_mm = _REACH * diameter_mm + _REACH_MM
    margin = np.ceil((reach_mm + _BESIDE_MM) / spacing).astype(int)
    middle = np.rint(centre).astype(int)
    box = tuple(
        slice(max(0, int(at - add)), min(int(count), int(at + add) + 1))
        for at, add, count in zip(middle, margin, volume.shape, strict=True)
    )
    part, lung = volume.voxels[box], lungs.both[box]
    offsets = np.indices(part.shape).T + np.array([one.start for one in box]) - np.array(centre)
    away_mm = np.linalg.norm(offsets * spacing, axis=-1).T
    core = away_mm <= max(0.3 * diameter_mm, 0.75 * float(spacing.max()))
    around = lung & (away_mm > reach_mm)
    if not (core.any() and around.any()):
        return None
    density, background = float(part[core].mean()), float(np.median(part[around]))
    if density - background < _LEAST_CONTRAST_HU:
        return None
    dense = part > (density + background) / 2.0
    within = closed(lung, volume.spacing_mm, _BESIDE_MM)
    labels, sizes = pieces(dense & within & (away_mm <= reach_mm))
    in_core = np.bincount(labels[core], minlength=len(sizes)) * (sizes > 0)
    if not in_core.any():
        return None
    mask = np.zeros(volume.shape, np.bool_)
    mask[box] = labels == int(in_core.argmax())
    return mask


def measured(volume: Volume, mask: Mask, probability: float, thickness_mm: float) -> Nodule:
    """Return a nodule with its diameters.

    Raises:
        ValueError: The mask is empty.
    """
    found = diameters(mask, volume.spacing_mm[1:])
    if found is None:
        raise ValueError("The mask is empty: there is nothing to measure.")
    values = np.sort(volume.voxels[mask])
    dense = float(values[len(values) // 2 :].mean())
    solid = thickness_mm <= _THICKEST_FOR_KIND_MM and dense > _SOLID_HU
    return Nodule(mask, probability, found.long.length_mm, found.short.length_mm, solid)


def place(volume: Volume, lungs: Lungs, mask: Mask) -> tuple[Code, Code]:
    """Return in which third of which lung's height a mask lies, and the side."""
    index = np.argwhere(mask).mean(axis=0)
    to_patient = volume.grid.affine
    x, _, z = (to_patient @ (*index, 1.0))[:3]
    overlap = [float((mask & lung).sum()) for lung in (lungs.right, lungs.left)]
    if overlap[0] == overlap[1]:
        middle_x = [_mean_x(lung, to_patient) for lung in (lungs.right, lungs.left)]
        overlap = [-abs(x - middle_x[0]), -abs(x - middle_x[1])]
    lung, side = (lungs.right, RIGHT) if overlap[0] > overlap[1] else (lungs.left, LEFT)
    low, high = _heights_mm(lung, to_patient)
    third = (z - low) / max(high - low, 1e-6)
    return (LOWER_ZONE if third < 1 / 3 else MIDDLE_ZONE if third < 2 / 3 else UPPER_ZONE), side


def _mean_x(lung: Mask, to_patient: npt.NDArray[np.float64]) -> float:
    return float((to_patient @ (*np.argwhere(lung)[::97].mean(axis=0), 1.0))[0])


def _heights_mm(lung: Mask, to_patient: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the lowest and the highest place of a lung, from a part of its voxels."""
    points = np.argwhere(lung)[::97]
    heights = points @ to_patient[2, :3] + to_patient[2, 3]
    return float(heights.min()), float(heights.max())
