"""Two spheres of known place and size, and the series of CT or MR that a scanner makes of them.

A larger and a smaller one, so that every flip and turn shows. Their edge is a ramp, two pixels
wide and half as high exactly at the surface: half the height finds it, even interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    MRImageStorage,
)
from scipy.spatial.transform import Rotation

from node.uids import derived_uid
from tests.peers.made_images import ds, item, made_image, save

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset

FloatArray = npt.NDArray[np.float64]

BACKGROUND, HEIGHT = 100.0, 1000.0
"""Stored values outside, and by how much the bodies are above."""
HALF = BACKGROUND + HEIGHT / 2

STEEPEST_TILT = 30.0
_CLASSES = {
    "ct": CTImageStorage,
    "mr": MRImageStorage,
    "enhanced-ct": EnhancedCTImageStorage,
    "enhanced-mr": EnhancedMRImageStorage,
}
_SEQUENCE = {"mr": {"ScanningSequence": "GR", "SequenceVariant": "SP"}}
"""What every scanner says of its MR images (PS3.3 C.8.3.1)."""
_EXPOSURE = {
    "enhanced-ct": {
        "IrradiationEventIdentificationSequence": item(
            IrradiationEventUID=derived_uid("sphere phantom", "exposure")
        )
    }
}
"""Functional group that a CT must have."""
_INTERCEPT = {"ct": -1024.0, "enhanced-ct": -1024.0, "mr": 0.0, "enhanced-mr": 0.0}


@dataclass(frozen=True)
class Body:
    """A sphere (millimetres; x, y, z of the patient) or a disc (pixels; row, column)."""

    centre: FloatArray
    radius: float


@dataclass(frozen=True)
class Scan:
    """How a scanner cuts a patient who holds the two spheres.

    Attributes:
        kind: "ct", "mr", "enhanced-ct" or "enhanced-mr".
        shape: Images, rows, columns.
        steps_mm: Rows are the vectors from an image, row, column to the next. That of the images
            is not perpendicular to the others where the gantry is tilted.
        spacing_mm: Between images (along their normal), rows, columns.
        positions_mm: Of the first voxel of each image, rounded as its header is.
        stored_order: Which image comes as which file or frame.
        spheres: The larger, then the smaller.
    """

    kind: str
    shape: tuple[int, int, int]
    steps_mm: FloatArray
    spacing_mm: FloatArray
    positions_mm: FloatArray
    stored_order: npt.NDArray[np.intp]
    spheres: tuple[Body, Body]

    @property
    def half(self) -> float:
        """Value at the surface of the spheres, after the modality's rescale."""
        return HALF + _INTERCEPT[self.kind]

    def in_voxels(self, vector_mm: FloatArray) -> FloatArray:
        """Return a vector's components along images' normal, rows and columns, in voxels."""
        down, right = self.steps_mm[1] / self.spacing_mm[1], self.steps_mm[2] / self.spacing_mm[2]
        axes = np.array([np.cross(right, down), down, right])
        return np.asarray(axes @ vector_mm / self.spacing_mm)


def random_scan(random: np.random.Generator, kind: str, *, tilted: bool) -> Scan:
    """Draw a geometry at random that shows both spheres whole.

    Axial, sagittal, coronal with rows and columns running either way, or oblique; pixels that
    are no squares; positions with nine, three or two decimals; images in any order.

    Args:
        random: Where all chance comes from.
        kind: Of the objects to be.
        tilted: By 1 to 30 degrees, along rows or columns.
    """
    while True:
        scan = _draw(random, kind, tilted=tilted)
        inside = _distance_mm(scan) < 0.0
        edges = (0, -1)
        cut = any(inside.take(edge, axis).any() for axis in (1, 2, 3) for edge in edges)
        if not cut:
            return scan


def _draw(random: np.random.Generator, kind: str, *, tilted: bool) -> Scan:
    down, right = _axes(random)
    normal = np.cross(right, down)
    spacing_mm = random.uniform((0.8, 0.5, 0.5), (2.0, 1.1, 1.1))
    shape = tuple(int(n) for n in random.integers((16, 28, 28), (22, 44, 44)))
    lean = spacing_mm[0] * np.tan(np.radians(random.uniform(1.0, STEEPEST_TILT))) if tilted else 0
    sideways = (down, right)[random.integers(2)] * random.choice((-1, 1)) * lean
    steps_mm = np.array([normal, down, right]) * spacing_mm[:, np.newaxis]
    steps_mm[0] += sideways
    coarsest = spacing_mm.max()
    large, small = random.uniform(2.6, 3.2) * coarsest, random.uniform(1.7, 2.1) * coarsest
    gap = 2.0 * coarsest + _ramp_mm(spacing_mm) + large + small
    between = random.normal(size=3)
    between *= gap * random.uniform(1.0, 1.3) / np.linalg.norm(between)
    centre = random.uniform(-250.0, 250.0, size=3)
    middle = np.array(shape) * random.uniform(0.35, 0.65, size=3)
    numbers = np.arange(shape[0])[:, np.newaxis]
    positions = centre + between / 2 - middle @ steps_mm + numbers * steps_mm[0]
    return Scan(
        kind=kind,
        shape=(shape[0], shape[1], shape[2]),
        steps_mm=steps_mm,
        spacing_mm=spacing_mm,
        positions_mm=np.round(positions, int(random.choice((9, 3, 2)))),
        stored_order=random.permutation(shape[0]),
        spheres=(Body(centre, large), Body(centre + between, small)),
    )


def _axes(random: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Return the unit vectors along which rows and columns grow."""
    if random.random() < 0.5:
        turn = Rotation.random(rng=random).as_matrix()
        return turn[0], turn[1]
    main = random.permutation(np.eye(3))
    return main[0] * random.choice((-1, 1)), main[1] * random.choice((-1, 1))


def _ramp_mm(spacing_mm: FloatArray) -> float:
    return float(2.0 * spacing_mm[1:].max())


def _distance_mm(scan: Scan) -> FloatArray:
    """Return how far each voxel is outside of each sphere, shape (2, images, rows, columns)."""
    rows, columns = np.arange(scan.shape[1])[:, np.newaxis], np.arange(scan.shape[2])
    in_plane = rows[..., np.newaxis] * scan.steps_mm[1] + columns[:, np.newaxis] * scan.steps_mm[2]
    voxels_mm = scan.positions_mm[:, np.newaxis, np.newaxis] + in_plane
    return np.stack(
        [np.linalg.norm(voxels_mm - body.centre, axis=-1) - body.radius for body in scan.spheres]
    )


def stored(distance: FloatArray, ramp: float) -> npt.NDArray[np.uint16]:
    """Return stored values by distance from the surface of the nearest body."""
    share = np.clip(0.5 - distance.min(axis=0) / ramp, 0.0, 1.0)
    return np.rint(BACKGROUND + HEIGHT * share).astype(np.uint16)


def write_scan(scan: Scan, folder: Path) -> list[Path]:
    """Write the objects, in their stored order."""
    pixels = stored(_distance_mm(scan), _ramp_mm(scan.spacing_mm))[scan.stored_order]
    positions = [ds(*position) for position in scan.positions_mm[scan.stored_order]]
    down, right = scan.steps_mm[1:] / scan.spacing_mm[1:, np.newaxis]
    measures = {
        "PixelSpacing": ds(*scan.spacing_mm[1:]),
        "SliceThickness": ds(scan.spacing_mm[0])[0],
    }
    orientation = {"ImageOrientationPatient": ds(*right, *down)}
    rescale = {"RescaleSlope": 1, "RescaleIntercept": _INTERCEPT[scan.kind]}
    if scan.kind in ("enhanced-ct", "enhanced-mr"):
        shared = item(
            PixelMeasuresSequence=item(**measures),
            PlaneOrientationSequence=item(**orientation),
            PixelValueTransformationSequence=item(**rescale, RescaleType="US"),
            **_EXPOSURE.get(scan.kind, {}),
        )
        per_frame = [
            item(PlanePositionSequence=item(ImagePositionPatient=position))[0]
            for position in positions
        ]
        frames = made_image(
            pixels,
            _CLASSES[scan.kind],
            ApplicableSafetyStandardAgency="IEC",
            SharedFunctionalGroupsSequence=shared,
            PerFrameFunctionalGroupsSequence=per_frame,
        )
        return [save(frames, folder)]
    images: list[Dataset] = [
        made_image(
            plane,
            _CLASSES[scan.kind],
            str(number),
            InstanceNumber=number,
            ImagePositionPatient=position,
            **orientation,
            **measures,
            **rescale,
            **_SEQUENCE.get(scan.kind, {}),
        )
        for number, (plane, position) in enumerate(zip(pixels, positions, strict=True), start=1)
    ]
    return [save(image, folder) for image in images]
