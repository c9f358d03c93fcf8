"""A CT of a body with two lesions and a liver, and the objects of a result that found them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from pydicom.filewriter import dcmwrite

from node.domain import Role
from node.encode.objects import encode
from node.encode.write import write
from node.load.source import load
from pipelines import codes
from pipelines.contract import Code, Finding, Measurement, ParametricMap, Result, Segment
from sr_templates.codes import PROBABILITY
from tests.peers.body_phantom import Lesion, axial_grid, body
from tests.peers.bright_spot import ct_series
from tests.sr_templates.made import work

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from pydicom import Dataset

    Mask = npt.NDArray[np.bool_]

GRID = axial_grid((18, 124, 121), (15.0, 2.0, 2.0))
"""Neither rows nor frames of bits end with a byte: OHIF 3.13 scrambles or refuses those. Frames
are a multiple of four pixels, without which it draws no parametric map."""
LESIONS = (
    Lesion("Nodule right", (-50.0, -20.0, 22.5), 36.0),
    Lesion("Nodule left", (46.0, 16.0, 52.5), 28.0),
)
"""Each centre is on a slice."""
LIVER, LIVER_MM = "Liver", (-45.0, 0.0, -70.0)
_LIVER_HALF_AXES_MM = (52.0, 48.0, 32.0)
COLORS = {"Liver": (70, 190, 90), "Nodule right": (230, 70, 60), "Nodule left": (60, 120, 235)}
ROLES = frozenset(
    {Role.SEG, Role.LABELMAP, Role.SR, Role.VIEWER_SR, Role.TEXT_SR, Role.MAP, Role.SC}
)
NOTE = "Two nodules were outlined."


def write_study(folder: Path) -> dict[str, Path]:
    """Write the images and everything a node makes of them; ``image-K`` or role -> file."""
    voxels, masks = _phantom()
    files = {f"image-{k}": folder / f"image-{k}.dcm" for k in range(GRID.shape[0])}
    for path, image in zip(files.values(), _images(voxels), strict=True):
        dcmwrite(path, image, enforce_file_format=True)
    job = work(title="Nodules", roles=ROLES)
    for encoded in encode(load([*files.values()]), _result(masks), job):
        files[encoded.role] = folder / f"{encoded.role}.dcm"
        write(encoded.dataset, files[encoded.role])
    return files


def volume_ml(lesion: Lesion) -> float:
    """Return what a pipeline measures of a lesion."""
    return float(_phantom()[1][lesion.name].sum()) * GRID.voxel_volume_ml


def image_of(lesion: Lesion) -> str:
    """Return the name of the image that shows a lesion's centre."""
    return f"image-{round((lesion.centre_mm[2] - GRID.origin_mm[2]) / GRID.spacing_mm[0])}"


@cache
def _phantom() -> tuple[npt.NDArray[np.float32], dict[str, Mask]]:
    volume, masks = body(GRID, LESIONS)
    return volume.voxels, masks


def _images(voxels: npt.NDArray[np.float32]) -> list[Dataset]:
    images = ct_series("browser", GRID.shape[0], spot=False)
    for k, image in enumerate(images):
        image.Rows, image.Columns = GRID.shape[1:]
        image.PixelSpacing = list(GRID.spacing_mm[1:])
        image.SliceThickness = str(GRID.spacing_mm[0])
        image.ImagePositionPatient = [float(x) for x in (GRID.affine @ [k, 0, 0, 1])[:3]]
        image.WindowCenter, image.WindowWidth = "0", "800"
        image.BodyPartExamined, image.SeriesDescription = "CHEST", "Phantom"
        image.PixelData = np.rint(voxels[k]).astype("<i2").tobytes()
    return images


def _result(masks: dict[str, Mask]) -> Result:
    liver = Code("10200004", "SCT", "Liver")
    off_mm = np.linalg.norm((_points_mm() - LESIONS[0].centre_mm) / LESIONS[0].diameter_mm, axis=-1)
    return Result(
        findings=tuple(
            Finding(
                codes.NODULE,
                category=codes.MORPHOLOGICALLY_ABNORMAL,
                site=codes.LUNG,
                confidence=0.87,
                segment=lesion.name,
                measurements=(Measurement(codes.VOLUME, volume_ml(lesion), "mL"),),
            )
            for lesion in LESIONS
        ),
        segments=(
            Segment(LIVER, codes.ANATOMICAL_STRUCTURE, liver, _liver(), COLORS[LIVER]),
            *(
                Segment(name, codes.MORPHOLOGICALLY_ABNORMAL, codes.NODULE, mask, COLORS[name])
                for name, mask in masks.items()
            ),
        ),
        notes=(NOTE,),
        maps=(
            ParametricMap("Nodule right", PROBABILITY, "1", np.exp(-(off_mm**2), dtype=np.float32)),
        ),
    )


def _liver() -> Mask:
    inside: Mask = (((_points_mm() - LIVER_MM) / _LIVER_HALF_AXES_MM) ** 2).sum(-1) <= 1.0
    return inside


def _points_mm() -> npt.NDArray[np.float64]:
    index = np.stack([*np.indices(GRID.shape), np.ones(GRID.shape)], axis=-1)
    points: npt.NDArray[np.float64] = (index @ GRID.affine.T)[..., :3]
    return points
