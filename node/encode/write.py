"""Result objects as Part 10 files."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

    from pydicom import DataElement, Dataset

_PIXEL_DATA = 0x7FE00010
_LONG = Struct("<HH2s2xI")
"""Tag, VR and length of an element of a long VR (PS3.5 section 7.1.2)."""


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
    pixels = dataset.get("PixelData")
    element = None if pixels is None else dataset["PixelData"]
    if element is None or not _is_plain(element) or max(dataset.keys()) != _PIXEL_DATA:
        dataset.save_as(path, enforce_file_format=True)
        return
    # pydicom copies a value twice on its way to the file.
    del dataset[_PIXEL_DATA]
    try:
        dataset.save_as(path, enforce_file_format=True)
    finally:
        dataset[_PIXEL_DATA] = element
    with path.open("ab", buffering=0) as file:
        file.write(_LONG.pack(0x7FE0, 0x0010, element.VR.encode(), len(element.value)))
        _write_all(file, element.value)


def _is_plain(element: DataElement) -> bool:
    value = element.value
    return element.VR in ("OB", "OW") and isinstance(value, bytes) and len(value) % 2 == 0


def _write_all(file: FileIO, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]
