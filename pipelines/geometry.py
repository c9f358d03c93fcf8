"""The maths of slices in the patient: planes to a grid, and a grid with its axes reordered.

Coordinates are the patient's (LPS: x grows to the left, y to the back, z to the head), in
millimetres, as in PS3.3 C.7.6.2.1.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, permutations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.contract import CouldNotLook, Grid

if TYPE_CHECKING:
    from collections.abc import Sequence

Vector = tuple[float, float, float]
FloatArray = npt.NDArray[np.float64]

RAS: tuple[Vector, Vector, Vector] = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))
"""Array axes growing to the right, the front and the head: NIfTI's canonical order."""

_COSINE_TOLERANCE = 1e-3
"""Headers round direction cosines; 0.001 is 0.25 mm at the edge of a 25 cm field of view."""
_TILT_DEGREES = 0.1
"""Less moves the far end of a 25 cm stack by under 0.45 mm: less than a voxel."""
_STEEPEST_DEGREES = 45.0
"""Gantries tilt up to 30 degrees."""
_SHIFT_MM = 0.05
"""Positions are often written with two decimals: less sideways shift than this is rounding."""
_JUMP_MM = 0.1
"""How far a slice may be off the line through first and last: positions with one decimal are."""
_SPACING_TOLERANCE = 0.02
"""Of the slice spacing ..."""
_ROUNDING_MM = 0.02
"""... but a gap between positions written with two decimals may be off by 0.017 mm."""


class Plane(NamedTuple):
    """Where one slice lies in the patient.

    Attributes:
        position_mm: Centre of its first voxel (Image Position (Patient)).
        orientation: Six direction cosines: along which the column index grows, then the row
            index (Image Orientation (Patient)).
        spacing_mm: Between rows, between columns (Pixel Spacing).
        shape: Number of (rows, columns).
    """

    position_mm: Vector
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, float]
    shape: tuple[int, int]


@dataclass(frozen=True)
class Reorder:
    """An exchange of array axes, without interpolation.

    Attributes:
        axes: Axis ``i`` of the new array is axis ``axes[i]`` of the old one ...
        reverse: ... and runs the other way round where this is set.
    """

    axes: tuple[int, int, int]
    reverse: tuple[bool, bool, bool]

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a view of ``array`` in the new order."""
        return array.transpose(self.axes)[self._steps]

    def undo(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a view of ``array``, which is in the new order, in the old one."""
        return array[self._steps].transpose(np.argsort(self.axes))

    def regrid(self, grid: Grid) -> Grid:
        """Return where the voxels of the new array are: each stays where it was."""
        first = [
            grid.shape[old] - 1 if reverse else 0
            for old, reverse in zip(self.axes, self.reverse, strict=True)
        ]
        index = np.ones(4)
        index[list(self.axes)] = first
        signs = np.where(self.reverse, -1.0, 1.0)[:, np.newaxis]
        x, y, z = (
            _vector(axis) for axis in signs * np.array([grid.axes[old] for old in self.axes])
        )
        return Grid(
            shape=(grid.shape[self.axes[0]], grid.shape[self.axes[1]], grid.shape[self.axes[2]]),
            origin_mm=_vector((grid.affine @ index)[:3]),
            axes=(x, y, z),
            spacing_mm=_vector([grid.spacing_mm[old] for old in self.axes]),
        )

    @property
    def _steps(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if reverse else 1) for reverse in self.reverse)


def reorder_towards(grid: Grid, directions: tuple[Vector, Vector, Vector]) -> Reorder:
    """Return the reorder after which array axis ``i`` runs most nearly along ``directions[i]``.

    The six assignments of axes to directions are compared as a whole, so that the outcome does
    not depend on the order in which the grid happens to hold its axes.
    """
    cosines = np.array(directions) @ np.array(grid.axes).T
    axes = max(permutations(range(3)), key=lambda order: np.abs(cosines)[range(3), order].sum())
    right, front, head = (bool(cosines[new, old] < 0) for new, old in enumerate(axes))
    return Reorder((axes[0], axes[1], axes[2]), (right, front, head))


class Stack(NamedTuple):
    """Slices as a regular grid, whose slice index grows along column direction x row direction.

    Attributes:
        grid: Where slices are sheared it has more rows or columns than they: none is cut off.
        order: Which of the planes each slice of the grid is.
        shifts_px: Of each slice, where they are sheared: pixel (i, j) of its plane lies at
            (row, column) (i, j) + shift of the grid. Never negative.
        tilt_degrees: By which they are sheared; 0.0 where they lie straight above each other.
    """

    grid: Grid
    order: tuple[int, ...]
    shifts_px: tuple[tuple[float, float], ...]
    tilt_degrees: float


def stack(planes: Sequence[Plane]) -> Stack:
    """Stack slices, given in any order, to a regular grid.

    Slices that each shift sideways by the same amount against the one before, as with a tilted
    gantry, get a straight grid and the shifts that lead onto it.

    Raises:
        CouldNotLook: The slices make no regular grid; the reason says why.
    """
    if len(planes) < 2:
        raise CouldNotLook("The series holds a single image; a volume needs two or more slices.")
    _require_one_format(planes)
    column_axis, row_axis = _common_axes(planes)
    normal = np.cross(column_axis, row_axis)
    positions = np.array([plane.position_mm for plane in planes], dtype=np.float64)
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    heights = positions @ normal
    _require_distinct(heights)
    in_plane = np.array([row_axis, column_axis])
    sideways_mm = (positions - positions[0]) @ in_plane.T
    tilt_degrees = _tilt_degrees(sideways_mm, heights - heights[0])
    slice_mm = _even_spacing_mm(heights)
    pixel_mm = np.array(planes[0].spacing_mm)
    sideways_mm[:, np.abs(sideways_mm).max(axis=0) < _SHIFT_MM] = 0.0
    shifts_px = sideways_mm / pixel_mm if tilt_degrees else np.zeros_like(sideways_mm)
    corner_px = shifts_px.min(axis=0)
    # Six decimals, so that no row is added for the last digit of a position.
    shifts_px = np.round(shifts_px - corner_px, 6)
    rows, columns = planes[0].shape + np.ceil(shifts_px.max(axis=0))
    grid = Grid(
        shape=(len(planes), int(rows), int(columns)),
        origin_mm=_vector(positions[0] + (corner_px * pixel_mm) @ in_plane),
        axes=(_vector(normal), _vector(row_axis), _vector(column_axis)),
        spacing_mm=(slice_mm, *planes[0].spacing_mm),
    )
    return Stack(
        grid,
        tuple(int(index) for index in order),
        tuple((float(down), float(right)) for down, right in shifts_px) if tilt_degrees else (),
        tilt_degrees,
    )


def _vector(values: FloatArray | Sequence[float]) -> Vector:
    return (float(values[0]), float(values[1]), float(values[2]))


def _require_one_format(planes: Sequence[Plane]) -> None:
    shapes = sorted({plane.shape for plane in planes})
    if len(shapes) > 1:
        sizes = " and ".join(f"{rows} x {columns}" for rows, columns in shapes)
        raise CouldNotLook(f"The images differ in size: {sizes} pixels (rows x columns).")
    spacings = np.array([plane.spacing_mm for plane in planes])
    if not (np.isfinite(spacings).all() and (spacings > 0).all()):
        raise CouldNotLook("The pixel spacing in the headers is not a pair of positive numbers.")
    smallest, largest = spacings.min(axis=0), spacings.max(axis=0)
    if (largest > 1.001 * smallest).any():
        raise CouldNotLook(
            "The images differ in pixel spacing: from "
            f"{smallest[0]:.3f} x {smallest[1]:.3f} mm to {largest[0]:.3f} x {largest[1]:.3f} mm."
        )


def _common_axes(planes: Sequence[Plane]) -> tuple[FloatArray, FloatArray]:
    """Return the unit vectors along which the column index and the row index grow."""
    cosines = np.array([plane.orientation for plane in planes], dtype=np.float64).reshape(-1, 2, 3)
    lengths = np.linalg.norm(cosines, axis=2)
    skew = np.abs((cosines[:, 0] * cosines[:, 1]).sum(axis=1))
    if not ((np.abs(lengths - 1) < _COSINE_TOLERANCE).all() and (skew < _COSINE_TOLERANCE).all()):
        raise CouldNotLook(
            "The image orientation in the headers is not a pair of perpendicular unit vectors."
        )
    turn = (cosines * cosines[0]).sum(axis=2).min()
    if np.abs(cosines - cosines[0]).max() > _COSINE_TOLERANCE:
        degrees = np.degrees(np.arccos(np.clip(turn, -1.0, 1.0)))
        raise CouldNotLook(
            f"The images lie in different planes, up to {degrees:.1f} degrees apart; "
            "a volume needs parallel slices."
        )
    column_axis = cosines[0, 0] / lengths[0, 0]
    row_axis = cosines[0, 1] - (cosines[0, 1] @ column_axis) * column_axis
    return column_axis, row_axis / np.linalg.norm(row_axis)


def _require_distinct(heights: FloatArray) -> None:
    if not np.isfinite(heights).all():
        raise CouldNotLook("The image positions in the headers are not numbers.")
    same = np.diff(heights) < 1e-3
    if same.any():
        where = float(heights[1:][same][0])
        raise CouldNotLook(
            f"{int(same.sum())} of {len(heights)} images repeat the position of another one, "
            f"the first at {where:.1f} mm along the slice axis; the series holds duplicates or "
            "several phases or echoes, not one volume."
        )


def _tilt_degrees(sideways_mm: FloatArray, heights_mm: FloatArray) -> float:
    """Return by how much a stack is sheared; 0.0 for one that is straight within rounding.

    Args:
        sideways_mm: Of each slice against the first, along (rows, columns).
        heights_mm: Of each slice above the first.

    Raises:
        CouldNotLook: The slices lie along no line, or along one too far from their normal.
    """
    shear = sideways_mm[-1] / heights_mm[-1]
    jumps_mm = np.linalg.norm(sideways_mm - np.outer(heights_mm, shear), axis=1)
    if jumps_mm.max() > _JUMP_MM:
        raise CouldNotLook(
            f"The slices shift sideways unevenly, by up to {jumps_mm.max():.1f} mm off the line "
            "through the first and the last; a volume needs slices along a straight line."
        )
    tilt = float(np.degrees(np.arctan(np.linalg.norm(shear))))
    if tilt > _STEEPEST_DEGREES:
        raise CouldNotLook(
            f"The slices are sheared by {tilt:.1f} degrees, more than any gantry tilts."
        )
    sheared = tilt > _TILT_DEGREES and np.linalg.norm(sideways_mm[-1]) > _SHIFT_MM
    return tilt if sheared else 0.0


def _even_spacing_mm(heights: FloatArray) -> float:
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    missing = np.rint(gaps / usual).astype(int) - 1
    tolerance_mm = max(_SPACING_TOLERANCE * usual, _ROUNDING_MM)
    multiples = (np.abs(gaps - (missing + 1) * usual) < (missing + 1) * tolerance_mm).all()
    if multiples and missing.any():
        where = int(np.argmax(missing > 0))
        below, above = list(pairwise(heights))[where]
        raise CouldNotLook(
            f"{int(missing.sum())} of {len(heights) + int(missing.sum())} slices are missing, "
            f"the first between {below:.1f} mm and {above:.1f} mm along the slice axis, "
            f"where slices are {usual:.2f} mm apart."
        )
    # Nine decimals, so that a decimal string (VR DS, 16 characters) holds exactly this number.
    spacing_mm = round(float(heights[-1] - heights[0]) / len(gaps), 9)
    regular = heights[0] + spacing_mm * np.arange(len(heights))
    if np.abs(gaps - usual).max() > tolerance_mm or np.abs(heights - regular).max() > tolerance_mm:
        raise CouldNotLook(
            f"The slices are unevenly spaced: {gaps.min():.2f} mm to {gaps.max():.2f} mm apart."
        )
    return spacing_mm
