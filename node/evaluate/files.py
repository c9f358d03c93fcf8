"""What lies in a folder of studies with their truth beside them, by its headers."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import SegmentationStorage

from node.profiles import LABEL_MAP_SEGMENTATION_STORAGE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydicom import Dataset

SEGMENTATIONS = (str(SegmentationStorage), str(LABEL_MAP_SEGMENTATION_STORAGE))
REPORTS = "1.2.840.10008.5.1.4.1.1.88."
"""Structured reports begin with it (PS3.4 table B.5-1)."""

_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_TAGS = [*_UIDS, "PatientID", "ReferencedSeriesSequence", "Rows"]


def headers(folder: Path) -> Iterator[tuple[Path, Dataset]]:
    """Yield each DICOM object of a study below a folder, with what tells where it belongs."""
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        with suppress(InvalidDicomError):
            header: Dataset = dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
            if all(header.get(keyword) for keyword in _UIDS):
                yield path, header


def outlined_series(segmentation: Dataset) -> frozenset[str]:
    """Return the UIDs of the series that a segmentation was drawn on."""
    referred = segmentation.get("ReferencedSeriesSequence") or ()
    return frozenset(str(one.SeriesInstanceUID) for one in referred)


def patient_of(header: Dataset) -> str:
    """Return the id of whose object it is; that of the study where there is none. Not for logs."""
    return str(header.get("PatientID") or header.StudyInstanceUID)


def patient_key(patient_id: str) -> str:
    """Return what tells patients apart and does not name them."""
    return hashlib.sha256(f"patient {patient_id}".encode()).hexdigest()[:16]
