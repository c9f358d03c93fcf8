"""Nodules that never were, put into a real lung: what the detector of our own learns from.

Source of the approach: simulated lesions inserted in real CT for training and evaluation, as in
Shin et al. 1997 and Peskin and Dima 2010, ISBI 1217-1220. Ellipsoids with lobes, solid,
part-solid or ground glass, seen through the slice profile and the blur of a scanner.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Voxels = npt.NDArray[np.float32]
Spacing = tuple[float, float, float]

KINDS = {"solid": (-20.0, 80.0), "ground glass": (-700.0, -450.0)}
"""HU between which a nodule's density is drawn; a part-solid one has both."""
SMALLEST_MM, LARGEST_MM = 4.0, 20.0
_BLUR_MM = 0.6
_FINE = (4, 2, 2)


@dataclass(frozen=True)
class SimulatedNodule:
    """One nodule.

    Attributes:
        centre_mm: (slice, row, column) index times spacing.
        half_axes_mm: Along (slice, row, column) after the rotation.
        rotation: 3x3.
        lobes: Directions (n, 3) and how far out they bulge, relative (n,).
        density_hu: Of all of it, or of its shell.
        core_hu: Of its inner half; the same where it has no core.
        kind: ``solid``, ``part-solid`` or ``ground glass``.
    """

    centre_mm: tuple[float, float, float]
    half_axes_mm: tuple[float, float, float]
    rotation: npt.NDArray[np.float64]
    lobes: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
    density_hu: float
    core_hu: float
    kind: str

    @property
    def diameter_mm(self) -> float:
        """Of the ball of equal volume, lobes aside."""
        return 2.0 * float(np.cbrt(np.prod(self.half_axes_mm)))


def draw_nodule(
    random: np.random.Generator, centre_mm: tuple[float, float, float]
) -> SimulatedNodule:
    """Draw a nodule: half of them under 8 mm, two thirds solid."""
    diameter = SMALLEST_MM * (LARGEST_MM / SMALLEST_MM) ** random.random()
    shape = np.exp(random.normal(0.0, 0.12, 3))
    half_axes = diameter / 2.0 * shape / np.prod(shape) ** (1.0 / 3.0)
    rotation, _ = np.linalg.qr(random.normal(size=(3, 3)))
    count = int(random.integers(0, 6))
    directions = random.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    bulges = random.uniform(-0.15, 0.25, count)
    kind = str(random.choice(["solid", "part-solid", "ground glass"], p=[0.66, 0.17, 0.17]))
    shell = random.uniform(*KINDS["solid" if kind == "solid" else "ground glass"])
    core = random.uniform(*KINDS["solid"]) if kind == "part-solid" else shell
    axes = (float(half_axes[0]), float(half_axes[1]), float(half_axes[2]))
    return SimulatedNodule(centre_mm, axes, rotation, (directions, bulges), shell, core, kind)


def insert(voxels: Voxels, spacing_mm: Spacing, nodule: SimulatedNodule, slice_mm: float) -> None:
    """Put a nodule into a CT, in place, as a scanner with slices of ``slice_mm`` would see it.

    Args:
        voxels: HU, (slices, rows, columns).
        spacing_mm: Of them.
        nodule: Where and what.
        slice_mm: Thickness of the slices, over which it is averaged.
    """
    reach_mm = 1.6 * max(nodule.half_axes_mm) + slice_mm
    box = []
    for centre, step, count in zip(nodule.centre_mm, spacing_mm, voxels.shape, strict=True):
        low = max(0, int(np.floor((centre - reach_mm) / step)))
        box.append(slice(low, min(count, int(np.ceil((centre + reach_mm) / step)) + 1)))
    part = voxels[tuple(box)]
    whole, core = _shares(nodule, box, spacing_mm, slice_mm)
    density = nodule.density_hu + core * (nodule.core_hu - nodule.density_hu)
    part += whole * np.maximum(density - part, 0.0)


def _shares(
    nodule: SimulatedNodule, box: list[slice], spacing_mm: Spacing, slice_mm: float
) -> tuple[Voxels, Voxels]:
    """Return which share of each voxel is nodule, and which of the nodule there is its core."""
    extents = (slice_mm, *np.hypot(spacing_mm[1:], 2.0 * _BLUR_MM))
    offsets = [
        ((np.arange(count) + 0.5) / count - 0.5) * extent
        for count, extent in zip(_FINE, extents, strict=True)
    ]
    places = [
        np.arange(part.start, part.stop) * step for part, step in zip(box, spacing_mm, strict=True)
    ]
    shape = tuple(len(place) for place in places)
    whole, core = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for shift in np.stack(np.meshgrid(*offsets, indexing="ij"), -1).reshape(-1, 3):
        grid = np.meshgrid(*(p + s for p, s in zip(places, shift, strict=True)), indexing="ij")
        points = (np.stack(grid, -1) - np.array(nodule.centre_mm)) @ nodule.rotation
        radius = np.linalg.norm(points / np.array(nodule.half_axes_mm), axis=-1)
        directions, bulges = nodule.lobes
        unit = points / np.maximum(np.linalg.norm(points, axis=-1, keepdims=True), 1e-6)
        surface = 1.0 + (np.exp(4.0 * (unit @ directions.T - 1.0)) * bulges).sum(-1)
        whole += radius < surface
        core += radius < 0.55 * surface
    count = float(np.prod(_FINE))
    return whole / np.float32(count), np.divide(
        core, whole, out=np.zeros_like(core), where=whole > 0
    )
