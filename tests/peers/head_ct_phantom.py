"""A head on plain CT whose bleeding is known: shells of bone and brain, and balls of blood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.contract import Grid, Volume

AIR_HU, SCALP_HU, BONE_HU, BRAIN_HU, BLOOD_HU = -1000.0, 20.0, 900.0, 32.0, 68.0
_RADII_MM = np.array([62.0, 88.0, 70.0])
"""Of the cavity along x, y and z."""
_BONE_MM, _SCALP_MM = 7.0, 6.0


@dataclass(frozen=True)
class Bleeding:
    """A ball of blood: its centre (x, y, z) in the patient, from the middle of the head."""

    centre_mm: tuple[float, float, float]
    radius_mm: float

    @property
    def volume_ml(self) -> float:
        return 4.0 / 3.0 * np.pi * self.radius_mm**3 / 1000.0


def head_ct(
    *bleedings: Bleeding,
    spacing_mm: tuple[float, float, float] = (2.5, 1.0, 1.0),
    noise_hu: float = 3.0,
    scale: float = 1.0,
    attributes: dict[str, str] | None = None,
) -> tuple[Volume, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return the head in axial slices, where its blood is, and where its cavity is.

    Args:
        bleedings: Balls of blood.
        spacing_mm: Along slices, rows and columns.
        noise_hu: Standard deviation.
        scale: Of the head, though not of the bleedings: a doll's head is quick to look at.
        attributes: Of the series.
    """
    radii_mm = scale * _RADII_MM
    bone_mm, scalp_mm = scale * _BONE_MM, scale * _SCALP_MM
    extent_mm = 2.0 * (radii_mm + bone_mm + scalp_mm + 2.0)
    shape = tuple(
        int(size / spacing) for size, spacing in zip(extent_mm[::-1], spacing_mm, strict=True)
    )
    origin = -(np.array(shape[::-1]) - 1) / 2 * np.array(spacing_mm[::-1])
    grid = Grid(
        (shape[0], shape[1], shape[2]),
        (float(origin[0]), float(origin[1]), float(origin[2])),
        ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
        spacing_mm,
    )
    z, y, x = (
        (np.arange(count) - (count - 1) / 2) * spacing
        for count, spacing in zip(shape, spacing_mm, strict=True)
    )
    places = np.stack(np.broadcast_arrays(x, y[:, None], z[:, None, None]))
    voxels = np.full(shape, AIR_HU, dtype=np.float32)
    for grown_mm, hounsfield in (
        (bone_mm + scalp_mm, SCALP_HU),
        (bone_mm, BONE_HU),
        (0.0, BRAIN_HU),
    ):
        inside = ((places / (radii_mm + grown_mm)[:, None, None, None]) ** 2).sum(axis=0) <= 1.0
        voxels[inside] = hounsfield
    cavity = voxels == BRAIN_HU
    blood = np.zeros(shape, np.bool_)
    for one in bleedings:
        away = places - np.array(one.centre_mm)[:, None, None, None]
        blood |= (away**2).sum(axis=0) <= one.radius_mm**2
    voxels[blood] = BLOOD_HU
    voxels += np.random.default_rng(0).normal(0.0, noise_hu, shape).astype(np.float32)
    return Volume(voxels, grid, attributes or {"Modality": "CT"}), blood, cavity
