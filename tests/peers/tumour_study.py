"""A glioma study as a scanner sends it: four series in poses and planes of their own.

The volumes are given; attributes are those that scanners write. The patient is made up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK
from pydicom.uid import UID

from node.uids import derived_uid
from pipelines.contract import Grid, Volume
from tests.peers.head_phantom import AcquisitionPlane, to_mr_series

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pydicom import Dataset

FILES = {"t1c": "*_t1c.nii.gz", "t1": "*_t1.nii.gz", "t2": "*_t2.nii.gz", "flair": "*_fla.nii.gz"}

ATTRIBUTES: dict[str, dict[str, str]] = {
    "t1c": {
        "SeriesDescription": "AX T1 POST GAD",
        "ScanningSequence": "SE",
        "SequenceVariant": "SK",
        "RepetitionTime": "500",
        "EchoTime": "12",
        "ContrastBolusAgent": "Gadolinium chelate",
    },
    "t1": {
        "SeriesDescription": "AX T1",
        "ScanningSequence": "SE",
        "SequenceVariant": "SK",
        "RepetitionTime": "500",
        "EchoTime": "12",
    },
    "t2": {
        "SeriesDescription": "AX T2 TSE",
        "ScanningSequence": "SE",
        "SequenceVariant": "SK",
        "RepetitionTime": "4000",
        "EchoTime": "99",
    },
    "flair": {
        "SeriesDescription": "AX FLAIR",
        "ScanningSequence": "SE\\IR",
        "SequenceVariant": "SK",
        "RepetitionTime": "9000",
        "EchoTime": "110",
        "InversionTime": "2500",
    },
}
"""Of each sequence, as technical attributes."""


@dataclass(frozen=True)
class Sequence:
    """One series: its volume, and how the scanner cut its slices."""

    volume: Volume
    plane: AcquisitionPlane = "axial"


def read_glioma(folder: Path) -> dict[str, Volume]:
    """Read the four NIfTI files of a glioma, with the attributes of their sequences."""
    found = {}
    for name, pattern in FILES.items():
        (path,) = folder.glob(pattern)
        found[name] = replace(read_volume(path), attributes={"Modality": "MR"} | ATTRIBUTES[name])
    return found


def read_volume(path: Path) -> Volume:
    """Read an image file that ITK knows."""
    image = SimpleITK.ReadImage(str(path), SimpleITK.sitkFloat32)
    voxels = np.clip(SimpleITK.GetArrayFromImage(image), 0, None)
    columns = np.array(image.GetDirection()).reshape(3, 3).T[::-1]
    x, y, z = (tuple(axis.tolist()) for axis in columns)
    grid = Grid(voxels.shape, image.GetOrigin(), (x, y, z), image.GetSpacing()[::-1])
    return Volume(voxels, grid)


def tumour_study(series: Mapping[str, Sequence], root: str = "tumour-study") -> list[Dataset]:
    """Return the instances of a study, from the first series to the last."""
    instances = []
    for number, (name, sequence) in enumerate(series.items(), start=1):
        voxels = np.rint(sequence.volume.voxels).astype(np.uint16)
        made = to_mr_series(voxels, sequence.volume.grid, sequence.plane, root)
        for instance in made:
            instance.SOPInstanceUID = UID(derived_uid(root, name, instance.SOPInstanceUID))
            instance.file_meta.MediaStorageSOPInstanceUID = instance.SOPInstanceUID
            instance.SeriesInstanceUID = UID(derived_uid(root, "series", name))
            instance.FrameOfReferenceUID = UID(derived_uid(root, "frame of reference", name))
            instance.SeriesNumber = number
            instance.MRAcquisitionType = "2D"
            for keyword in ("InversionTime", "SequenceName", "ProtocolName"):
                if keyword in instance:
                    delattr(instance, keyword)
            for keyword, text in ATTRIBUTES[name].items():
                setattr(instance, keyword, text.split("\\") if "\\" in text else text)
        instances += made
    return instances
