"""Both lungs on a chest CT, without the airways, left and right apart.

Source: the steps of Hu et al. 2001, IEEE Trans Med Imaging 20:490-498: optimal threshold,
airways grown and taken away, lungs that touch parted, boundary smoothed so that vessels count.
They part here at the narrowest place between two cores (a watershed of the distance to the
wall; Beucher and Meyer 1993), in three dimensions, where Hu looks for a path in each slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import SimpleITK

from pipelines.contract import CouldNotLook, Grid
from pipelines.geometry import Reorder, reorder_towards
from pipelines.lungs.air import inner_air, threshold_hu, within_body
from pipelines.lungs.airways import Airways, find_airways
from pipelines.lungs.morphology import (
    Mask,
    closed,
    dilated,
    distance_mm,
    filled_in_slices,
    pieces,
)

Labels = npt.NDArray[np.uint8]
Voxels = npt.NDArray[np.float32]
Spacing = tuple[float, float, float]
_Scalar = TypeVar("_Scalar", bound=np.generic)

AXIAL = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
"""Slices from the feet to the head, rows to the back, columns to the left."""

SMALLEST_ML = 150.0
"""A lung with less air is not told from a bowel loop."""
GAS_HU = -975.0
"""Air that is darker than this in the median is gas in the bowel: no lung, even emphysematous."""
VESSEL_MM = 4.0
"""Vessels and walls up to twice this across count as lung. Own choice: the main branches of the
pulmonary arteries are wider and stay out."""
_WALL_MM = 1.5
"""Of a bronchus; it is neither lung nor airway."""
_SMALLER_SHARE = 0.12
"""Of the lungs' volume, that the smaller one has at least."""
_CORES_MM = (3.0, 5.0, 8.0, 11.0, 15.0, 20.0)
_COARSE_MM = 2.1
"""Anatomy is told apart on voxels of up to this; outlines are drawn on the images' own."""


@dataclass(frozen=True)
class Lungs:
    """What was found, in the array order of the volume that was given.

    Attributes:
        right: bool, of the volume's shape; the patient's right lung with its small vessels.
        left: Ditto.
        airways: Trachea and bronchi; None where none was found.
        edges_cm2: Area of lung in the lowest and in the highest slice.
        threshold_hu: Between air and tissue.
    """

    right: Mask
    left: Mask
    airways: Airways | None
    edges_cm2: tuple[float, float]
    threshold_hu: float

    @property
    def both(self) -> Mask:
        """Either lung."""
        return self.right | self.left


def find_lungs(voxels: Voxels, grid: Grid) -> Lungs:
    """Return the lungs of a chest CT.

    Args:
        voxels: HU, in any order of axes.
        grid: Where they are; patient and table may lie in it however they like.

    Raises:
        CouldNotLook: No two lungs were found, or the field of view cuts one off at its side.
    """
    reorder = reorder_towards(grid, AXIAL)
    axial = reorder.apply(voxels)
    spacing_mm = reorder.regrid(grid).spacing_mm
    thin = _thinned(axial, spacing_mm)
    threshold = threshold_hu(thin)
    air = inner_air(axial, threshold, spacing_mm)
    if air.cut_off_cm2:
        raise CouldNotLook(
            f"A lung is cut off at the edge of the field of view: {air.cut_off_cm2:.0f} cm2 of it "
            "reach the edge of a slice."
        )
    inside = air.mask & _fine(
        within_body(thin, threshold, _coarse_mm(spacing_mm)), air.mask.shape, spacing_mm
    )
    airways = find_airways(axial, inside, spacing_mm)
    beside = inside & False if airways is None else _with_wall(airways.mask, spacing_mm)
    sides = _sides(axial, inside & ~beside, spacing_mm)
    sides[beside] = 0
    pixel_cm2 = spacing_mm[1] * spacing_mm[2] / 100.0
    edges = tuple(float((sides[end] > 0).sum()) * pixel_cm2 for end in (0, -1))
    return Lungs(
        right=_back(reorder, sides == 1),
        left=_back(reorder, sides == 2),
        airways=airways
        and Airways(_back(reorder, airways.mask), airways.air_hu, airways.roundness),
        edges_cm2=(edges[0], edges[1]),
        threshold_hu=threshold,
    )


def _back(reorder: Reorder, mask: Mask) -> Mask:
    return np.ascontiguousarray(reorder.undo(mask))


def _with_wall(airways: Mask, spacing_mm: Spacing) -> Mask:
    box = _box(airways, spacing_mm, _WALL_MM)
    wide = airways.copy()
    wide[box] = dilated(airways[box], spacing_mm, _WALL_MM)
    return wide


def _box(mask: Mask, spacing_mm: Spacing, margin_mm: float) -> tuple[slice, ...]:
    """Return the smallest box around a mask and its margin."""
    box = []
    for axis, step in enumerate(spacing_mm):
        across = tuple(other for other in range(3) if other != axis)
        index = np.flatnonzero(mask.any(axis=across))
        margin = int(np.ceil(margin_mm / step))
        box.append(slice(max(0, int(index[0]) - margin), int(index[-1]) + 1 + margin))
    return tuple(box)


def _steps(spacing_mm: Spacing) -> tuple[int, int, int]:
    slices, rows, columns = (max(1, int(_COARSE_MM / step)) for step in spacing_mm)
    return slices, rows, columns


def _coarse_mm(spacing_mm: Spacing) -> Spacing:
    slices, rows, columns = (
        step * spacing for step, spacing in zip(_steps(spacing_mm), spacing_mm, strict=True)
    )
    return slices, rows, columns


def _thinned(array: npt.NDArray[_Scalar], spacing_mm: Spacing) -> npt.NDArray[_Scalar]:
    """Return every voxel that stands for its coarse neighbourhood."""
    slices, rows, columns = _steps(spacing_mm)
    return np.ascontiguousarray(array[::slices, ::rows, ::columns])


def _fine(
    coarse: npt.NDArray[_Scalar], shape: tuple[int, ...], spacing_mm: Spacing
) -> npt.NDArray[_Scalar]:
    """Return coarse voxels repeated, each around the fine one that stood for it."""
    index = [
        np.clip((np.arange(size) + step // 2) // step, 0, count - 1)
        for size, step, count in zip(shape, _steps(spacing_mm), coarse.shape, strict=True)
    ]
    return coarse[np.ix_(*index)]


def _sides(voxels: Voxels, air: Mask, spacing_mm: Spacing) -> Labels:
    """Return 1 in the right lung, 2 in the left one, 0 elsewhere, on the full grid."""
    coarse_mm = _coarse_mm(spacing_mm)
    lungs = _lungs(_thinned(voxels, spacing_mm), _thinned(air, spacing_mm), coarse_mm)
    coarse_box = _box(lungs, coarse_mm, 3.0 * VESSEL_MM)
    coarse = _parted(lungs[coarse_box], coarse_mm)
    box = tuple(
        slice(part.start * step, min(part.stop * step, size))
        for part, step, size in zip(coarse_box, _steps(spacing_mm), air.shape, strict=True)
    )
    inside = air[box]
    near = _nearest_side(coarse, coarse_mm, 1.01 * float(np.linalg.norm(coarse_mm)))
    side_of = _fine(near, inside.shape, spacing_mm)
    found = np.zeros(air.shape, np.uint8)
    for side in (1, 2):
        narrow = closed(coarse == side, coarse_mm, VESSEL_MM) & (coarse == 0)
        vessels = _fine(narrow, inside.shape, spacing_mm) & ~inside
        lung = filled_in_slices(inside & (side_of == side) | vessels)
        found[box][lung & (found[box] == 0)] = side
    return found


def _nearest_side(sides: Labels, spacing_mm: Spacing, reach_mm: float) -> Labels:
    """Return the side of each voxel near a lung: that of the nearest one."""
    to_right, to_left = (distance_mm(sides == side, spacing_mm) for side in (1, 2))
    nearest = np.where(to_right <= to_left, np.uint8(1), np.uint8(2))
    return np.where(np.minimum(to_right, to_left) <= reach_mm, nearest, np.uint8(0))


def _lungs(voxels: Voxels, air: Mask, spacing_mm: Spacing) -> Mask:
    """Tell the lungs from other air: the largest piece, and the next one beside it.

    Raises:
        CouldNotLook: There are none.
    """
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    labels, sizes = pieces(air)
    large = [
        int(label)
        for label in np.argsort(-sizes)[:8]
        if sizes[label] * voxel_ml >= SMALLEST_ML
        and float(np.median(voxels[labels == label])) > GAS_HU
    ]
    if not large:
        raise CouldNotLook("No lungs were found in the images.")
    largest = labels == large[0]
    others = [label for label in large[1:] if _beside(largest, labels == label)]
    return np.isin(labels, [large[0], *others[:1]])


def _parted(lungs: Mask, spacing_mm: Spacing) -> Labels:
    """Part the lungs: 1 is right, 2 is left.

    Raises:
        CouldNotLook: There is no narrow place between two of them.
    """
    inner_mm = distance_mm(~lungs, spacing_mm)
    basins = SimpleITK.MorphologicalWatershedFromMarkers(
        SimpleITK.GetImageFromArray(-inner_mm),
        SimpleITK.GetImageFromArray(_cores(inner_mm)),
        markWatershedLine=False,
    )
    return SimpleITK.GetArrayFromImage(basins) * lungs


def _beside(one: Mask, other: Mask) -> bool:
    """Whether a piece lies at the height of another one, in more than half of its slices."""
    heights = np.flatnonzero(other.any(axis=(1, 2)))
    low, high = np.flatnonzero(one.any(axis=(1, 2)))[[0, -1]]
    return float(((heights >= low) & (heights <= high)).mean()) > 0.5


def _cores(inner_mm: npt.NDArray[np.float32]) -> Labels:
    """Return a core of each lung: the smallest erosion after which there are two large pieces.

    Raises:
        CouldNotLook: There are none.
    """
    for depth_mm in (0.0, *_CORES_MM):
        labels, sizes = pieces(inner_mm > depth_mm)
        first, second = np.argsort(-sizes)[:2] if len(sizes) > 2 else (0, 0)
        if first and second and sizes[second] >= _SMALLER_SHARE * sizes.sum():
            columns = [np.argwhere(labels == label)[:, 2].mean() for label in (first, second)]
            right, left = (first, second) if columns[0] < columns[1] else (second, first)
            return np.where(labels == right, 1, np.where(labels == left, 2, 0)).astype(np.uint8)
    raise CouldNotLook("The two lungs could not be told apart; perhaps there is only one.")
