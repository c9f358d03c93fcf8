"""A body whose anatomy is a formula: sampled on any grid, however the patient lies in it.

Asymmetric, with organs of different density and a texture that moves with the body, so that a
registration has something to hold on to. Lesions are spheres whose volume is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from node.uids import derived_uid
from pipelines.contract import Grid, Volume

if TYPE_CHECKING:
    import numpy.typing as npt

    Points = npt.NDArray[np.float64]
    Vector = tuple[float, float, float]

AIR, TISSUE = -1000.0, 40.0
_ORGANS: tuple[tuple[Vector, Vector, float], ...] = (
    ((-45.0, -5.0, 25.0), (38.0, 55.0, 75.0), -820.0),
    ((48.0, -8.0, 35.0), (34.0, 50.0, 62.0), -840.0),
    ((14.0, -28.0, 10.0), (30.0, 26.0, 38.0), 60.0),
    ((0.0, 58.0, 0.0), (14.0, 16.0, 110.0), 420.0),
    ((-45.0, 0.0, -70.0), (52.0, 48.0, 32.0), 110.0),
    ((55.0, 12.0, -62.0), (22.0, 26.0, 30.0), 160.0),
)
"""Centre, half axes (mm), HU: two lungs, heart, spine, liver, spleen."""


@dataclass(frozen=True)
class Lesion:
    """A ball in the body.

    Attributes:
        name: What a pipeline calls it.
        centre_mm: In the body's own coordinates.
        diameter_mm: Of the ball.
        density_hu: Of all of it.
    """

    name: str
    centre_mm: Vector
    diameter_mm: float
    density_hu: float = 90.0


@dataclass(frozen=True)
class Pose:
    """How the body lies in the scanner: turned about its centre, then moved (mm)."""

    degrees: Vector = (0.0, 0.0, 0.0)
    shift_mm: Vector = (0.0, 0.0, 0.0)

    @property
    def rotation(self) -> npt.NDArray[np.float64]:
        """3x3, from the body's coordinates to the scanner's."""
        matrix = np.eye(3)
        for axis, angle in enumerate(np.radians(self.degrees)):
            turn = np.eye(3)
            first, second = (axis + 1) % 3, (axis + 2) % 3
            turn[first, first] = turn[second, second] = np.cos(angle)
            turn[second, first] = np.sin(angle)
            turn[first, second] = -np.sin(angle)
            matrix = turn @ matrix
        return matrix

    def to_scanner(self, points_mm: Points) -> Points:
        """Return where points of the body are in the scanner."""
        return points_mm @ self.rotation.T + np.array(self.shift_mm)

    def to_body(self, points_mm: Points) -> Points:
        """Return which points of the body are at places in the scanner."""
        return (points_mm - np.array(self.shift_mm)) @ self.rotation


def axial_grid(
    shape: tuple[int, int, int], spacing_mm: Vector, centre_mm: Vector = (0.0, 0.0, 0.0)
) -> Grid:
    """Return an axial grid around a point."""
    half = (np.array(shape) - 1) / 2 * np.array(spacing_mm)
    x, y, z = np.array(centre_mm) - half[::-1]
    axes = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    return Grid(shape, (float(x), float(y), float(z)), axes, spacing_mm)


def body(
    grid: Grid, lesions: tuple[Lesion, ...] = (), pose: Pose | None = None, seed: int = 0
) -> tuple[Volume, dict[str, npt.NDArray[np.bool_]]]:
    """Return the body on a grid (HU, 10 HU of noise) and the mask of each lesion in it."""
    lies = pose or Pose()
    voxels = np.empty(grid.shape, np.float32)
    masks = {lesion.name: np.zeros(grid.shape, bool) for lesion in lesions}
    rows, columns = np.indices(grid.shape[1:])
    for k in range(grid.shape[0]):
        index = np.stack([np.full(rows.shape, k), rows, columns, np.ones(rows.shape, int)], -1)
        points = lies.to_body((index @ grid.affine.T)[..., :3])
        voxels[k] = _density(points)
        for lesion in lesions:
            distance = np.linalg.norm(points - np.array(lesion.centre_mm), axis=-1)
            masks[lesion.name][k] = distance <= lesion.diameter_mm / 2
            voxels[k][masks[lesion.name][k]] = lesion.density_hu
    voxels += 10.0 * np.random.default_rng(seed).standard_normal(grid.shape, dtype=np.float32)
    return Volume(voxels, grid, {"Modality": "CT"}), masks


def to_ct_series(volume: Volume, root: str, **attributes: object) -> list[Dataset]:
    """Return the body as CT Image Storage, an instance a slice; all UIDs derive from ``root``.

    Args:
        volume: On an axial grid.
        root: Of the study.
        attributes: By keyword, to be set on every instance: who, when.
    """
    series = []
    for k, plane in enumerate(volume.voxels):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = CTImageStorage
        image.SOPInstanceUID = derived_uid(root, "instance", str(k))
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.StudyInstanceUID = derived_uid(root, "study")
        image.SeriesInstanceUID = derived_uid(root, "series")
        image.FrameOfReferenceUID = derived_uid(root, "frame of reference")
        image.PatientName, image.PatientID = "Phantom^Body", "BODY-1"
        image.PatientBirthDate, image.PatientSex = "19600101", "O"
        image.StudyDate, image.StudyTime = "20250110", "101112"
        image.StudyID, image.AccessionNumber, image.ReferringPhysicianName = "1", "A1", ""
        image.Modality, image.SeriesNumber, image.InstanceNumber = "CT", 1, k + 1
        image.Manufacturer, image.PositionReferenceIndicator = "Phantom", ""
        image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.BodyPartExamined, image.PatientPosition = "CHEST", "HFS"
        image.KVP, image.SliceThickness, image.AcquisitionNumber = "120", "2", "1"
        image.RescaleIntercept, image.RescaleSlope, image.RescaleType = "0", "1", "HU"
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        origin = (volume.grid.affine @ (k, 0, 0, 1))[:3]
        image.ImagePositionPatient = [round(float(value), 4) for value in origin]
        image.PixelSpacing = list(volume.spacing_mm[1:])
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.Rows, image.Columns = plane.shape
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
        image.PixelRepresentation = 1
        image.PixelData = np.rint(plane).astype("<i2").tobytes()
        for keyword, value in attributes.items():
            setattr(image, keyword, value)
        series.append(image)
    return series


def _density(points: Points) -> Points:
    x, y, z = np.moveaxis(points, -1, 0)
    texture = 25.0 * (
        np.sin(0.11 * x + 0.07 * z)
        + np.sin(0.13 * y - 0.05 * x + 1.0)
        + np.sin(0.09 * z + 0.06 * y + 2.0)
    )
    density = np.where(_ellipsoid(points, (0, 0, 0), (110, 80, 150)), TISSUE + texture, AIR)
    for centre, half_axes, level in _ORGANS:
        inside = _ellipsoid(points, centre, half_axes)
        density[inside] = level + texture[inside]
    return density


def _ellipsoid(
    points: Points, centre: tuple[float, ...], half_axes: tuple[float, ...]
) -> npt.NDArray[np.bool_]:
    inside: npt.NDArray[np.bool_] = (((points - centre) / half_axes) ** 2).sum(-1) <= 1.0
    return inside
