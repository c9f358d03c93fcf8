"""Objects in which every text names somebody: what is left of them afterwards can be searched."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from pydicom import DataElement, Dataset
from pydicom.datadict import DicomDictionary
from pydicom.uid import generate_uid

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "Zqxcanary"
"""How each begins. No word of any language, and no part of a UID or a number."""

TEXT_VRS = ("AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT")
_LONGEST = {"AE": 16, "SH": 16}
_STRUCTURE = frozenset({"CodingSchemeDesignator"})
"""Text that tells readers how to read the rest."""

EVERY_TEXT = tuple(
    (tag, entry[0])
    for tag, entry in DicomDictionary.items()
    if entry[0] in TEXT_VRS and 0x0008 <= tag >> 16 < 0x7FE0
)
"""Tag and VR of every text that PS3.6 lists."""


class Canaries:
    """Hands out canaries, no two alike."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1000)

    def __next__(self) -> str:
        return f"{CANARY}{next(self._numbers)}"

    def element(self, tag: int, vr: str) -> DataElement:
        """Return an element whose value is one."""
        return DataElement(tag, vr, next(self)[: _LONGEST.get(vr, 64)])

    def everywhere(self) -> Dataset:
        """Return an item with every text there is."""
        item = Dataset()
        for tag, vr in EVERY_TEXT:
            item.add(self.element(tag, vr))
        return item


def plant(dataset: Dataset) -> Canaries:
    """Put canaries into every text element: those that are there, all others, nested, private.

    What makes an object readable stays: its character set, classes, UIDs and codes.
    """
    canaries = Canaries()
    for element in list(_texts(dataset)):
        element.value = next(canaries)[: _LONGEST.get(element.VR, 64)]
    for tag, vr in EVERY_TEXT:
        dataset.add(canaries.element(tag, vr))
    item = canaries.everywhere()
    item.ReferencedSOPClassUID = dataset.SOPClassUID
    item.ReferencedSOPInstanceUID = generate_uid(entropy_srcs=["canary"])
    item.RequestAttributesSequence = [canaries.everywhere()]
    dataset.ReferencedImageSequence = [item]
    block = dataset.private_block(0x0009, f"{CANARY} private", create=True)
    block.add_new(0x01, "LO", next(canaries))
    nested = Dataset()
    nested.add(canaries.element(0x00104000, "LT"))
    block.add_new(0x02, "SQ", [nested])
    block.add_new(0x03, "OB", next(canaries).encode() + b"\0")
    dataset.add_new(0x60004000, "LT", next(canaries))  # Overlay Comments
    dataset.add_new(0x50000040, "SH", next(canaries)[:16])  # of a curve
    dataset.add_new(0xFFFCFFFC, "OB", next(canaries).encode() + b"\0")
    meta = dataset.file_meta
    meta.SourceApplicationEntityTitle = next(canaries)[:16]
    meta.PrivateInformationCreatorUID = generate_uid()
    meta.PrivateInformation = next(canaries).encode() + b"\0"
    dataset.preamble = next(canaries).encode().ljust(128, b"\0")
    return canaries


def _texts(dataset: Dataset) -> Iterator[DataElement]:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value or ():
                yield from _texts(item)
        elif element.VR in TEXT_VRS and element.keyword not in _STRUCTURE:
            yield element
