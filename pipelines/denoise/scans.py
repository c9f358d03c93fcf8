"""Real scans to learn from or to measure on: a folder a patient, DICOM or NIfTI or NRRD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import SimpleITK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

_FILES = (".nii", ".nii.gz", ".nrrd")


class NoScans(ValueError):
    """The folder holds nothing to learn from."""


@dataclass(frozen=True)
class Scan:
    """One series of a patient.

    Attributes:
        patient: Name of its folder; the scans of one are never parted.
        voxels: float32, shape (slices, rows, columns); HU for CT.
        spacing_mm: Between (rows, columns).
    """

    patient: str
    voxels: npt.NDArray[np.float32]
    spacing_mm: tuple[float, float]


def read_scans(folder: Path) -> list[Scan]:
    """Read each folder in ``folder`` as a patient; their DICOM series and image files as scans.

    Raises:
        NoScans: There is none.
    """
    patients = sorted(path for path in folder.iterdir() if path.is_dir())
    scans = [
        Scan(patient.name, SimpleITK.GetArrayFromImage(image), _spacing_mm(image))
        for patient in patients
        for image in _images(patient)
    ]
    if not scans:
        raise NoScans(f"No folder in {folder} holds a DICOM series, a NIfTI or an NRRD file.")
    return scans


def _images(patient: Path) -> Iterator[SimpleITK.Image]:
    for path in sorted(patient.rglob("*")):
        if path.name.endswith(_FILES):
            yield SimpleITK.ReadImage(str(path), SimpleITK.sitkFloat32)
    folders = (patient, *sorted(path for path in patient.rglob("*") if path.is_dir()))
    for folder in folders:
        for series in SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
            reader = SimpleITK.ImageSeriesReader()
            reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), series))
            reader.SetOutputPixelType(SimpleITK.sitkFloat32)
            yield reader.Execute()


def _spacing_mm(image: SimpleITK.Image) -> tuple[float, float]:
    between_columns, between_rows = image.GetSpacing()[:2]
    return between_rows, between_columns
