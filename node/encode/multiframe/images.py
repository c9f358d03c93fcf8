"""The images of a source one by one: which instance and frame each is, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom import Dataset

from node.load.headers import groups

if TYPE_CHECKING:
    from node.load.source import Source


@dataclass(frozen=True)
class Image:
    """One image of a source.

    Attributes:
        instance: Header of the instance that holds it.
        frame_number: In a multi-frame instance, from 1; None otherwise.
        description: The header and its functional groups, the frame's own before the shared.
    """

    instance: Dataset
    frame_number: int | None
    description: tuple[Dataset, ...]

    def first(self, keyword: str) -> object:
        """Return the value closest to the image, or None where nothing has one."""
        values = (one[keyword].value for one in self.description if keyword in one)
        return next((value for value in values if value not in (None, "")), None)

    def reference(self) -> Dataset:
        """Return the item that refers to it (PS3.3 table 10-3)."""
        item = Dataset()
        item.ReferencedSOPClassUID = self.instance.SOPClassUID
        item.ReferencedSOPInstanceUID = self.instance.SOPInstanceUID
        if self.frame_number is not None:
            item.ReferencedFrameNumber = self.frame_number
        return item


def image(source: Source, index: int) -> Image:
    """Return image ``index`` of the study, from 0."""
    if source.frame_numbers:
        (instance,) = source.instances
        number = source.frame_numbers[index]
        return Image(instance, number, tuple(groups(instance, number - 1)))
    instance = source.instances[index]
    return Image(instance, None, tuple(groups(instance, 0)))
