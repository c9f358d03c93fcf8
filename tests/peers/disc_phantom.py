"""Two discs of known place and size in each frame of a radiograph or ultrasound clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydicom.uid import DigitalXRayImageStorageForPresentation, UltrasoundMultiFrameImageStorage

from tests.peers.made_images import ds, item, made_image, save
from tests.peers.sphere_phantom import HALF, Body, stored

if TYPE_CHECKING:
    from pathlib import Path

_DARKER = 8
"""Stored values of a clip, which have 8 bits, are those of the phantom divided by this."""


@dataclass(frozen=True)
class Pictures:
    """A radiograph or a clip with two discs in each frame.

    Attributes:
        kind: "radiograph" or "clip".
        shape: Frames, rows, columns.
        spacing_mm: Between rows, columns; None where it is not stated.
        discs: Of each frame, the larger and the smaller.
        inverted: Stored dark on bright (MONOCHROME1); radiographs only.
        colour: Stored as RGB, the discs brightest in green; clips only.
    """

    kind: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float] | None
    discs: tuple[tuple[Body, Body], ...]
    inverted: bool
    colour: bool

    @property
    def half(self) -> float:
        """Value at the edge of the discs."""
        return HALF if self.kind == "radiograph" else HALF / _DARKER


def random_pictures(random: np.random.Generator, kind: str) -> Pictures:
    """Draw a picture, or several frames each with its own discs, whole and apart."""
    frames = 1 if kind == "radiograph" else int(random.integers(2, 7))
    shape = (frames, *(int(n) for n in random.integers(28, 44, size=2)))
    down, right = random.uniform(0.1, 0.9, size=2)
    return Pictures(
        kind=kind,
        shape=(shape[0], shape[1], shape[2]),
        spacing_mm=(float(down), float(right)) if random.random() < 0.7 else None,
        discs=tuple(_two_discs(random, np.array(shape[1:])) for _ in range(frames)),
        inverted=kind == "radiograph" and bool(random.integers(2)),
        colour=kind == "clip" and bool(random.integers(2)),
    )


def _two_discs(random: np.random.Generator, shape: npt.NDArray[np.int_]) -> tuple[Body, Body]:
    while True:
        radii = random.uniform(4.5, 6.0), random.uniform(2.5, 3.5)
        centres = [random.uniform(radius + 1.0, shape - radius - 2.0) for radius in radii]
        if np.linalg.norm(centres[0] - centres[1]) > sum(radii) + 5.0:
            return Body(centres[0], radii[0]), Body(centres[1], radii[1])


def write_pictures(pictures: Pictures, folder: Path) -> Path:
    """Write the one object."""
    rows, columns = np.indices(pictures.shape[1:])
    pixels = np.stack([_frame(rows, columns, discs) for discs in pictures.discs])
    spacing = pictures.spacing_mm
    if pictures.kind == "radiograph":
        image = made_image(
            4095 - pixels[0] if pictures.inverted else pixels[0],
            DigitalXRayImageStorageForPresentation,
            PhotometricInterpretation="MONOCHROME1" if pictures.inverted else "MONOCHROME2",
        )
        if spacing:
            image.ImagerPixelSpacing = ds(*spacing)
        return save(image, folder)
    grey = np.rint(pixels / _DARKER).astype(np.uint8)
    frames = np.stack([grey // 2, grey, grey // 3], axis=-1) if pictures.colour else grey
    image = made_image(frames, UltrasoundMultiFrameImageStorage, FrameTime="33.3")
    if spacing:
        image.SequenceOfUltrasoundRegions = item(
            RegionSpatialFormat=1,
            RegionDataType=1,
            RegionLocationMinX0=0,
            RegionLocationMinY0=0,
            RegionLocationMaxX1=pictures.shape[2] - 1,
            RegionLocationMaxY1=pictures.shape[1] - 1,
            PhysicalUnitsXDirection=3,
            PhysicalUnitsYDirection=3,
            PhysicalDeltaX=spacing[1] / 10.0,
            PhysicalDeltaY=spacing[0] / 10.0,
        )
    return save(image, folder)


def _frame(
    rows: npt.NDArray[np.int_], columns: npt.NDArray[np.int_], discs: tuple[Body, Body]
) -> npt.NDArray[np.uint16]:
    outside = [
        np.hypot(rows - disc.centre[0], columns - disc.centre[1]) - disc.radius for disc in discs
    ]
    return stored(np.stack(outside), ramp=2.0)
