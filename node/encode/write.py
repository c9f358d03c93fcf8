"""Result objects as Part 10 files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset


def write(dataset: Dataset, path: Path) -> None:
    """Write ``dataset`` to ``path`` in Explicit VR Little Endian (PS3.10 section 7.1).

    The file is neither renamed into place nor synced; that is the spool's business.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset.file_meta = meta
    dataset.save_as(path, enforce_file_format=True)
