"""Where in the lungs something is round and denser than its surroundings, at several sizes.

Source: blobs as extrema of the scale-normalised Laplacian of Gaussian in space and scale
(Lindeberg 1998, Int J Comput Vis 30:79-116); a ball of diameter d answers most at a standard
deviation of d / (2 sqrt 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
import SimpleITK

from pipelines.geometry import reorder_towards
from pipelines.lungs.morphology import closed
from pipelines.lungs.segmentation import AXIAL

if TYPE_CHECKING:
    from pipelines.contract import Volume
    from pipelines.lungs.morphology import Mask
    from pipelines.lungs.segmentation import Lungs

Voxels = npt.NDArray[np.float32]
_Scalar = TypeVar("_Scalar", np.float32, np.uint8)

STEP_MM = 1.5
"""Edge of the cubic voxels on which nodules are looked for."""
SIZES_MM = (4.0, 6.0, 9.0, 13.0, 19.0)
"""Diameters of the balls that the filters answer to most."""
WEAKEST_HU = 40.0
"""Of a filter's answer; a ground-glass ball 200 HU above the lung gives about this."""
MOST = 250
"""Candidates of one patient; the weakest beyond are dropped."""
LUNG_HU, TISSUE_HU = -1000.0, 50.0
_BESIDE_MM = 8.0
"""Notches in the lung's outline up to twice this across may be nodules at the pleura."""
_OUTSIDE_HU = -850.0


@dataclass(frozen=True)
class Candidate:
    """A place where something round may be.

    Attributes:
        centre: (slice, row, column) on the search grid.
        diameter_mm: Of the ball that answers most.
        answer_hu: Of the filter.
    """

    centre: tuple[int, int, int]
    diameter_mm: float
    answer_hu: float


@dataclass(frozen=True)
class SearchGrid:
    """The lungs on cubic voxels, slices upwards, rows to the back, columns to the left.

    Attributes:
        voxels: HU, clipped.
        within: Where nodules are looked for.
        sides: 1 right lung, 2 left lung, 0 elsewhere.
        to_patient: 4x4, from (slice, row, column, 1) to (x, y, z, 1) in mm.
    """

    voxels: Voxels
    within: Mask
    sides: npt.NDArray[np.uint8]
    to_patient: npt.NDArray[np.float64]


def search_grid(volume: Volume, lungs: Lungs) -> SearchGrid:
    """Return the lungs' box with a margin, resampled linearly."""
    reorder = reorder_towards(volume.grid, AXIAL)
    grid = reorder.regrid(volume.grid)
    sides = reorder.apply(lungs.right * np.uint8(1) + lungs.left * np.uint8(2))
    spans = [np.flatnonzero(sides.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    margin = [int(np.ceil(20.0 / step)) for step in grid.spacing_mm]
    box = tuple(
        slice(max(0, int(span[0]) - add), int(span[-1]) + 1 + add)
        for span, add in zip(spans, margin, strict=True)
    )
    values = np.clip(reorder.apply(volume.voxels)[box], LUNG_HU, TISSUE_HU)
    size = [
        max(1, round(count * step / STEP_MM))
        for count, step in zip(values.shape, grid.spacing_mm, strict=True)
    ]
    voxels = _resampled(values, grid.spacing_mm, size, SimpleITK.sitkLinear)
    cubic_sides = _resampled(sides[box], grid.spacing_mm, size, SimpleITK.sitkNearestNeighbor)
    corner = np.array([part.start for part in box], np.float64)
    to_patient = grid.affine.copy()
    to_patient[:3, 3] = (grid.affine @ (*corner, 1.0))[:3]
    to_patient[:3, :3] = grid.affine[:3, :3] / np.array(grid.spacing_mm) * STEP_MM
    return SearchGrid(voxels, _searched(cubic_sides), cubic_sides, to_patient)


def find_candidates(search: SearchGrid) -> list[Candidate]:
    """Return the roundest places, the strongest answer first, none within another.

    At the maxima of the difference of two Gaussians, the Hessian tells a ball from a tube: across
    a vessel two of its eigenvalues are large, along it the third is not. The answer is three
    times that of the least curved direction, which for a ball is the Laplacian.
    """
    inside = np.where(search.within, search.voxels, np.float32(_OUTSIDE_HU))
    image = SimpleITK.GetImageFromArray(inside)
    found: list[Candidate] = []
    for diameter_mm in SIZES_MM:
        sigma = diameter_mm / (2.0 * np.sqrt(3.0)) / STEP_MM
        smooth = SimpleITK.SmoothingRecursiveGaussian(image, float(sigma))
        wider = SimpleITK.SmoothingRecursiveGaussian(image, float(1.4 * sigma))
        difference = smooth - wider
        raised = SimpleITK.GetArrayFromImage(difference)
        highest = SimpleITK.GetArrayFromImage(SimpleITK.GrayscaleDilate(difference, [1, 1, 1]))
        peaks = (raised >= highest) & (raised > WEAKEST_HU / 8.0) & search.within
        values = SimpleITK.GetArrayFromImage(smooth)
        places = np.argwhere(peaks)
        answers = 3.0 * sigma**2 * _least_curvature(values, places, max(1, round(sigma)))
        found += [
            Candidate((int(k), int(i), int(j)), diameter_mm, float(answer))
            for (k, i, j), answer in zip(places, answers, strict=True)
            if answer > WEAKEST_HU
        ]
    found.sort(key=lambda one: -one.answer_hu)
    kept: list[Candidate] = []
    for one in found:
        reach = max(4.0, one.diameter_mm / 2.0) / STEP_MM
        if all(np.linalg.norm(np.subtract(one.centre, other.centre)) > reach for other in kept):
            kept.append(one)
        if len(kept) == MOST:
            break
    return kept


def _least_curvature(
    values: Voxels, places: npt.NDArray[np.int64], step: int
) -> npt.NDArray[np.float64]:
    """Return minus the largest eigenvalue of the Hessian at places, from central differences."""
    padded = np.pad(values, step, mode="edge")
    centres = places + step

    def at(*shift: int) -> npt.NDArray[np.float64]:
        moved = centres + np.array(shift) * step
        values_there: npt.NDArray[np.float64] = padded[tuple(moved.T)].astype(np.float64)
        return values_there

    hessian = np.empty((len(places), 3, 3))
    unit = np.eye(3, dtype=np.int64)
    for one in range(3):
        hessian[:, one, one] = at(*unit[one]) - 2.0 * at(0, 0, 0) + at(*-unit[one])
        for other in range(one):
            both, across = unit[one] + unit[other], unit[one] - unit[other]
            mixed = (at(*both) + at(*-both) - at(*across) - at(*-across)) / 4.0
            hessian[:, one, other] = hessian[:, other, one] = mixed
    return -np.linalg.eigvalsh(hessian / step**2)[:, 2].astype(np.float64)


def patch(voxels: Voxels, centre: tuple[int, int, int], size: int) -> Voxels:
    """Return the cube of voxels around a place; beyond the grid there is tissue."""
    half = size // 2
    cube = np.full((size,) * 3, np.float32(TISSUE_HU))
    low = [at - half for at in centre]
    inside = [
        (max(0, start), min(count, start + size))
        for start, count in zip(low, voxels.shape, strict=True)
    ]
    target = tuple(
        slice(start - at, end - at) for (start, end), at in zip(inside, low, strict=True)
    )
    cube[target] = voxels[tuple(slice(*span) for span in inside)]
    return cube


def _searched(sides: npt.NDArray[np.uint8]) -> Mask:
    spacing_mm = (STEP_MM,) * 3
    within = np.zeros(sides.shape, np.bool_)
    for side in (1, 2):
        within |= closed(sides == side, spacing_mm, _BESIDE_MM)
    return within


def _resampled(
    values: npt.NDArray[_Scalar], spacing_mm: tuple[float, ...], size: list[int], interpolator: int
) -> npt.NDArray[_Scalar]:
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(values))
    image.SetSpacing([float(step) for step in reversed(spacing_mm)])
    resampled = SimpleITK.Resample(
        image,
        [int(count) for count in reversed(size)],
        SimpleITK.Transform(),
        interpolator,
        image.GetOrigin(),
        (STEP_MM,) * 3,
        image.GetDirection(),
        float(values.flat[0]),
    )
    array: npt.NDArray[_Scalar] = SimpleITK.GetArrayFromImage(resampled)
    return array
