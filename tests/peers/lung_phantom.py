"""A chest whose lungs are formulas: ellipsoids with a trachea, bronchi, vessels and emphysema.

Every voxel is the mean over its own width of what is in it, as a scanner sees it, so that volumes
are known to better than a voxel. Arms, a table, a gas-filled bowel and noise come along.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from pipelines.contract import Grid, Volume
from tests.peers.body_phantom import Pose

if TYPE_CHECKING:
    import numpy.typing as npt

    Points = npt.NDArray[np.float32]
    Vector = tuple[float, float, float]

AIR, TISSUE, LUNG, EMPHYSEMA = -1000.0, 40.0, -900.0, -1000.0
"""LAA-950 is half-way between the last two, so that partial volume moves nothing across it."""
BRONCHUS_MM, WALL_MM = 6.0, 1.5


@dataclass(frozen=True)
class Ellipsoid:
    """Centre and half axes in mm."""

    centre: Vector
    half_axes: Vector

    @property
    def volume_ml(self) -> float:
        """4/3 pi a b c."""
        return 4.0 / 3.0 * np.pi * float(np.prod(self.half_axes)) / 1000.0

    def distance_mm(self, points: Points) -> Points:
        """Return the distance to the surface, negative inside; exact near it."""
        scaled = (points - np.asarray(self.centre, np.float32)) / np.asarray(
            self.half_axes, np.float32
        )
        level = np.sqrt((scaled**2).sum(-1))
        slope = np.sqrt(((scaled / np.asarray(self.half_axes, np.float32)) ** 2).sum(-1))
        return (level - 1) * level / np.maximum(slope, 1e-6)


@dataclass(frozen=True)
class Tube:
    """A straight tube with flat ends."""

    start: Vector
    end: Vector
    radius: float

    def distance_mm(self, points: Points) -> Points:
        """Return the distance to the surface, negative inside."""
        start, axis = np.asarray(self.start, np.float32), np.subtract(self.end, self.start)
        length = float(np.linalg.norm(axis))
        along = (points - start) @ np.float32(axis / length)
        across = np.sqrt(np.maximum(((points - start) ** 2).sum(-1) - along**2, 0))
        return np.maximum(across - self.radius, np.maximum(-along, along - length))


@dataclass(frozen=True)
class Chest:
    """What is in it.

    Attributes:
        right: The patient's right lung.
        left: Ditto.
        bullae: Emphysema, each wholly in a lung.
        vessels: In the lungs, of tissue.
        nodules: Balls: centre, diameter (mm), HU.
    """

    right: Ellipsoid = Ellipsoid((-72.0, 0.0, 0.0), (58.0, 74.0, 108.0))
    left: Ellipsoid = Ellipsoid((68.0, 0.0, 2.0), (52.0, 74.0, 104.0))
    bullae: tuple[Ellipsoid, ...] = (
        Ellipsoid((-80.0, 10.0, 40.0), (30.0, 40.0, 36.0)),
        Ellipsoid((72.0, -5.0, -35.0), (26.0, 30.0, 40.0)),
    )
    vessels: tuple[Tube, ...] = (
        Tube((-60.0, -30.0, -70.0), (-85.0, 20.0, -30.0), 2.5),
        Tube((50.0, 30.0, 20.0), (90.0, 0.0, 40.0), 2.5),
    )
    nodules: tuple[tuple[Vector, float, float], ...] = ()


TOUCHING = Chest(
    right=Ellipsoid((-55.0, 0.0, 0.0), (58.0, 74.0, 108.0)),
    left=Ellipsoid((52.0, 0.0, 2.0), (52.0, 74.0, 104.0)),
    bullae=(),
    vessels=(),
)
"""Lungs that meet in front of the heart: they overlap by 3 mm, which is 2 mL."""

_CARINA: Vector = (0.0, 62.0, 52.0)
_AIRWAYS = (
    Tube((0.0, 62.0, 400.0), _CARINA, 9.0),
    Tube(_CARINA, (-38.0, 36.0, 12.0), BRONCHUS_MM),
    Tube(_CARINA, (36.0, 38.0, 14.0), BRONCHUS_MM),
)


def chest_phantom(
    grid: Grid,
    chest: Chest = Chest(),
    pose: Pose | None = None,
    *,
    seed: int = 0,
    noise_hu: float = 10.0,
    **attributes: str,
) -> Volume:
    """Return the chest on a grid in HU.

    Args:
        grid: Where to sample; the lungs are 216 mm high, trunk and arms have no end.
        chest: What is in it.
        pose: How it lies in the scanner.
        seed: Of the noise.
        noise_hu: Its standard deviation.
        attributes: Of the series.
    """
    lies = pose or Pose()
    voxels = np.empty(grid.shape, np.float32)
    width_mm = float(np.mean(grid.spacing_mm))
    rows, columns = np.indices(grid.shape[1:])
    for k in range(grid.shape[0]):
        index = np.stack([np.full(rows.shape, k), rows, columns, np.ones(rows.shape, int)], -1)
        points = lies.to_body((index @ grid.affine.T)[..., :3]).astype(np.float32)
        voxels[k] = _density(points, chest, width_mm)
    voxels += noise_hu * np.random.default_rng(seed).standard_normal(grid.shape, dtype=np.float32)
    return Volume(voxels, grid, {"Modality": "CT", "ConvolutionKernel": "B30f", **attributes})


@cache
def true_lungs(chest: Chest = Chest(), step_mm: float = 2.0) -> dict[str, dict[str, float]]:
    """Return, by side, the volume without bronchi (mL), LAA-950 (%), and mean (HU).

    Counted on points 2 mm apart, each in or out, without a scanner.
    """
    x, y, z = (np.arange(-130, 130, step_mm, dtype=np.float32) + step_mm / 2 for _ in range(3))
    points = np.stack(np.meshgrid(x, y, z, indexing="ij"), -1)
    bronchi = np.zeros(points.shape[:3], bool)
    for tube in _AIRWAYS:
        outer = Tube(tube.start, tube.end, tube.radius + WALL_MM)
        bronchi |= outer.distance_mm(points) < 0
    found = {}
    for side, lung in (("right", chest.right), ("left", chest.left)):
        inside = (lung.distance_mm(points) < 0) & ~bronchi
        if chest is TOUCHING:
            inside &= (points[..., 0] < 1.5) == (side == "right")
        density = np.full(int(inside.sum()), LUNG)
        for bulla in chest.bullae:
            density[bulla.distance_mm(points[inside]) < 0] = EMPHYSEMA
        for vessel in chest.vessels:
            density[vessel.distance_mm(points[inside]) < 0] = TISSUE
        found[side] = {
            "volume_ml": inside.sum() * step_mm**3 / 1000.0,
            "laa_950": 100.0 * float((density < -950).mean()),
            "mean_hu": float(density.mean()),
        }
    return found


def _density(points: Points, chest: Chest, width_mm: float) -> Points:
    x, y, _ = np.moveaxis(points, -1, 0)
    density = np.full(x.shape, AIR, np.float32)

    def put(distance_mm: Points, hu: float) -> None:
        share = np.clip(0.5 - distance_mm / width_mm, 0, 1)
        density[...] += share * (np.float32(hu) - density)

    trunk = Ellipsoid((0.0, 0.0, 0.0), (150.0, 105.0, 1e5))
    put(trunk.distance_mm(points), TISSUE)
    for side in (-1.0, 1.0):
        put(
            Tube((side * 185.0, 30.0, -400.0), (side * 185.0, 30.0, 400.0), 32.0).distance_mm(
                points
            ),
            TISSUE,
        )
    table = np.maximum(np.abs(y - 125.0) - 15.0, np.abs(x) - 170.0)
    put(np.abs(table) - 1.0, 0.0)
    put(table + 1.0, -940.0)
    for lung in (chest.right, chest.left):
        put(lung.distance_mm(points), LUNG)
    for bulla in chest.bullae:
        put(bulla.distance_mm(points), EMPHYSEMA)
    for vessel in chest.vessels:
        put(vessel.distance_mm(points), TISSUE)
    for centre, diameter, hu in chest.nodules:
        put(Ellipsoid(centre, (diameter / 2,) * 3).distance_mm(points), hu)
    for tube in _AIRWAYS:
        put(Tube(tube.start, tube.end, tube.radius + WALL_MM).distance_mm(points), TISSUE)
    for tube in _AIRWAYS:
        put(tube.distance_mm(points), AIR)
    put(Ellipsoid((60.0, -30.0, -145.0), (36.0, 36.0, 24.0)).distance_mm(points), AIR)
    return density
