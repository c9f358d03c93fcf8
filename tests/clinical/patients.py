"""Which public patients the denoisers learn from and which are held out, each in a folder."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LEARNED = {
    "ct": ("ct/chest_acrin_042",),
    "mr": ("mr/glioma_tcga_fg6692", "mr/head_t1_datalad.tar.xz"),
}
HELD_OUT = {
    "ct": (
        "ct/chest_2_slices",
        "ct/head_ge_tilted",
        "ct/totalsegmentator_examples/example_ct_dicom",
    ),
    "mr": (
        "mr/tumour_labels_pyradiomics/brain1_image.nrrd",
        "mr/tumour_labels_pyradiomics/brain2_image.nrrd",
        "mr/tumour_labels_pyradiomics/breast1_image.nrrd",
        "ct/totalsegmentator_examples/example_mr_sm.nii.gz",
    ),
}


def lay_out(data: Path, places: tuple[str, ...], folder: Path) -> Path:
    """Give each patient a folder below ``folder``, by links; return that."""
    for place in places:
        source = (data / place).resolve(strict=True)
        patient = folder / source.name.split(".")[0]
        patient.parent.mkdir(parents=True, exist_ok=True)
        if source.name.endswith(".tar.xz"):
            with tarfile.open(source) as archive:
                archive.extractall(patient, filter="data")
        elif source.is_dir():
            patient.symlink_to(source)
        else:
            patient.mkdir()
            (patient / source.name).symlink_to(source)
    return folder
