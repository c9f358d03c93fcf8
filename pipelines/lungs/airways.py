"""The trachea and the main bronchi: a tube followed from above, then grown without leaking.

Sources: Hu et al. 2001, IEEE Trans Med Imaging 20:490-498, section II-B (airways are grown from
the trachea and taken from the lungs); Mori et al. 2000, IEEE Trans Med Imaging 19:103-114
(the highest threshold before the volume explodes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK

from pipelines.diameters import hull
from pipelines.lungs.morphology import Mask, dilated, eroded, pieces

Voxels = npt.NDArray[np.float32]
Spacing = tuple[float, float, float]

SECTION_MM2 = (60.0, 900.0)
"""Of the trachea of an adult: Breatnach et al. 1984, AJR 142:903-906, 10 to 27 mm wide."""
AIR_HU = -850.0
"""A trachea's section is darker than this in the mean, also with a thin slice's noise."""
SHORTEST_MM = 25.0
"""A tube followed for less is none: gas in the gullet, or a bulla."""
LARGEST_ML = 120.0
"""Own limit for trachea and bronchi that are grown; a leak fills a lung, of over a litre."""
LARGEST_STEP_ML = 12.0
_THRESHOLDS_HU = tuple(range(-960, -690, 15))
_WALL_BLUR_MM = 3.0
"""So far a wall brightens the air beside it."""
_SLENDEREST = 0.35
_BELOW_MM = 190.0
_BESIDE_MM = 70.0


@dataclass(frozen=True)
class Airways:
    """Trachea and bronchi.

    Attributes:
        mask: bool, (slices, rows, columns): the air in them.
        air_hu: Mean in the middle of the trachea, away from its wall; NaN where it has none.
        roundness: Of the trachea's sections, area over that of their convex hull, median.
    """

    mask: Mask
    air_hu: float
    roundness: float


@dataclass(frozen=True)
class _Section:
    slice: int
    centre: tuple[float, float]
    pixels: npt.NDArray[np.int64]


def find_airways(voxels: Voxels, air: Mask, spacing_mm: Spacing) -> Airways | None:
    """Return the airways, or None where no trachea was found.

    Args:
        voxels: HU, axial slices, the first one lowest.
        air: The air in the body.
        spacing_mm: Along (slice, row, column).
    """
    tube = _longest_tube(voxels, air, spacing_mm)
    if (len(tube) - 1) * spacing_mm[0] < SHORTEST_MM:
        return None
    mask = np.zeros(air.shape, np.bool_)
    for section in tube:
        mask[section.slice][tuple(section.pixels.T)] = True
    core = eroded(mask, (1e6, *spacing_mm[1:]), max(_WALL_BLUR_MM, 1.5 * max(spacing_mm[1:])))
    air_hu = float(voxels[core].mean()) if core.any() else float("nan")
    roundness = float(np.median([_roundness(section.pixels) for section in tube]))
    return Airways(_grown(voxels, air, mask, tube, spacing_mm), air_hu, roundness)


def _longest_tube(voxels: Voxels, air: Mask, spacing_mm: Spacing) -> list[_Section]:
    """Follow each section of the size of a trachea downwards, and return the longest tube."""
    finished: list[list[_Section]] = []
    alive: list[list[_Section]] = []
    for k in range(len(voxels) - 1, -1, -1):
        still = []
        sections = _sections(voxels[k], air[k], k, spacing_mm)
        for tube in alive:
            last = tube[-1]
            step_mm = [
                np.hypot(*((np.subtract(one.centre, last.centre)) * spacing_mm[1:]))
                for one in sections
            ]
            if step_mm and min(step_mm) < 3.0 + 0.7 * spacing_mm[0]:
                still.append([*tube, sections.pop(int(np.argmin(step_mm)))])
            else:
                finished.append(tube)
        alive = still + [[one] for one in sections]
    return max(finished + alive, key=len, default=[])


def _sections(plane: Voxels, air: Mask, k: int, spacing_mm: Spacing) -> list[_Section]:
    pixel_mm2 = spacing_mm[1] * spacing_mm[2]
    labels, sizes = pieces(air)
    areas_mm2 = sizes * pixel_mm2
    found = []
    for label in np.flatnonzero((areas_mm2 >= SECTION_MM2[0]) & (areas_mm2 <= SECTION_MM2[1])):
        inside = labels == label
        if float(plane[inside].mean()) > AIR_HU:
            continue
        pixels = np.argwhere(inside)
        extent_mm = (np.ptp(pixels, axis=0) + 1) * spacing_mm[1:]
        if extent_mm.min() / extent_mm.max() < _SLENDEREST:
            continue
        row, column = pixels.mean(axis=0)
        found.append(_Section(k, (float(row), float(column)), pixels))
    return found


def _grown(
    voxels: Voxels, air: Mask, tube_mask: Mask, tube: list[_Section], spacing_mm: Spacing
) -> Mask:
    """Grow the tube into the bronchi, with the highest threshold that does not leak."""
    box = _box(tube, voxels.shape, spacing_mm)
    part, seeds = voxels[box], tube_mask[box]
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    image = SimpleITK.GetImageFromArray(np.where(air[box], part, np.float32(1000)))
    seed_points = [tuple(int(i) for i in reversed(point)) for point in np.argwhere(seeds)[::7]]
    best = seeds
    before_ml = float(seeds.sum()) * voxel_ml
    for threshold in _THRESHOLDS_HU:
        grown = SimpleITK.ConnectedThreshold(image, seed_points, -5000.0, float(threshold))
        candidate = SimpleITK.GetArrayViewFromImage(grown).astype(np.bool_) | seeds
        volume_ml = float(candidate.sum()) * voxel_ml
        if volume_ml > LARGEST_ML or volume_ml - before_ml > LARGEST_STEP_ML:
            break
        best, before_ml = candidate, volume_ml
    airways = tube_mask.copy()
    # The grown part ends where its threshold does; the wall's partial volume belongs to it.
    rim = dilated(best, spacing_mm, 1.01 * max(spacing_mm[1:])) & air[box]
    airways[box] |= best | rim
    return airways


def _box(
    tube: list[_Section], shape: tuple[int, ...], spacing_mm: Spacing
) -> tuple[slice, slice, slice]:
    """Return where bronchi are looked for: from the top of the tube to below the carina."""
    row, column = np.mean([section.centre for section in tube], axis=0)
    top, bottom = tube[0].slice, tube[-1].slice
    lowest = max(0, min(bottom, top - int(_BELOW_MM / spacing_mm[0])))
    lowest = max(0, min(lowest, bottom - int(50.0 / spacing_mm[0])))
    beside = [round(_BESIDE_MM / step) for step in spacing_mm[1:]]
    return (
        slice(lowest, min(shape[0], top + 1)),
        slice(max(0, int(row) - beside[0]), min(shape[1], int(row) + beside[0])),
        slice(max(0, int(column) - beside[1]), min(shape[2], int(column) + beside[1])),
    )


def _roundness(pixels: npt.NDArray[np.int64]) -> float:
    """Return which share of the pixels within the convex hull of a section belong to it.

    The number of grid points in a polygon of grid points is its area, half of those on its
    boundary, and one (Pick 1899): a digital disc has all of them, whatever its size.
    """
    x, y = hull(pixels).T
    area = 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))
    on_boundary = int(np.gcd(x - np.roll(x, -1), y - np.roll(y, -1)).sum())
    return len(pixels) / (area + on_boundary / 2.0 + 1.0)
