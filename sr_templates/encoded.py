"""Parts of a data set as bytes in Explicit VR Little Endian (PS3.5 section 7.1).

What a result says of hundreds of images, or thousands of frames, is alike but for a UID or a
number. Such parts are put together here; a data set that is written as it stands is not parsed
for it, and pydicom decodes what is asked for.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import TYPE_CHECKING, Any

from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.tag import Tag

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydicom import Dataset
    from pydicom.tag import BaseTag

    from pipelines.contract import Code

_ITEM = struct.Struct("<HHI")
_SHORT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<HH2s2xI")
"""Tag, VR and length of an element, as PS3.5 section 7.1.2 has them; an item has no VR."""

_TEXTS = frozenset({"CS", "LO", "SH", "UI"})
"""Most of what there is; results are in UTF-8."""


def element(keyword: str, vr: str, value: str | bytes) -> bytes:
    """Return an element of a VR with a short length, padded to even."""
    stored = value.encode("ascii") if isinstance(value, str) else value
    if len(stored) % 2:
        stored += b"\0" if vr == "UI" else b" "
    return _SHORT.pack(*_tag(keyword), vr.encode(), len(stored)) + stored


def sequence(keyword: str, items: bytes) -> bytes:
    """Return a sequence of encoded items."""
    return _LONG.pack(*_tag(keyword), b"SQ", len(items)) + items


def item(*elements: bytes) -> bytes:
    """Return an item of a sequence; elements are in the order of their tags."""
    content = b"".join(elements)
    return _ITEM.pack(0xFFFE, 0xE000, len(content)) + content


def concept(code: Code) -> bytes:
    """Return a code as an item of a code sequence."""
    return item(
        element("CodeValue", "SH", code.value),
        element("CodingSchemeDesignator", "SH", code.scheme),
        element("CodeMeaning", "LO", code.meaning),
    )


def reference(instance: Dataset) -> bytes:
    """Return the elements that refer to an instance (PS3.3 table 10-11)."""
    return element("ReferencedSOPClassUID", "UI", uid_in(instance, "SOPClassUID")) + element(
        "ReferencedSOPInstanceUID", "UI", uid_in(instance, "SOPInstanceUID")
    )


def uid_in(dataset: Dataset, keyword: str) -> bytes:
    """Return a UID that a data set has, without having it parsed."""
    stored: Any = dataset.get_item(_tag_of(keyword))
    if isinstance(stored, RawDataElement) and isinstance(stored.value, bytes):
        return stored.value.rstrip(b"\0 ")
    return str(dataset[keyword].value).encode("ascii")


def items_of(datasets: Iterable[Dataset]) -> bytes:
    """Return data sets as the items of a sequence; what is encoded in them stays as it is."""
    return b"".join(
        item(*(_encoded(one.get_item(tag)) for tag in sorted(one.keys()))) for one in datasets
    )


def set_items(dataset: Dataset, keyword: str, items: bytes) -> None:
    """Give a data set a sequence of encoded items.

    pydicom writes it as it is where the data set counts as one read in this encoding.
    """
    tag = Tag(keyword)
    dataset[tag] = RawDataElement(
        tag, "SQ", len(items), items, 0, is_implicit_VR=False, is_little_endian=True
    )


def _encoded(one: Any) -> bytes:
    """Return an element of an item as pydicom writes it, which takes it several times as long."""
    if one.VR == "SQ":
        given: Any = one.value or b""
        items = given if isinstance(given, bytes) else items_of(given)
        return _LONG.pack(one.tag.group, one.tag.element, b"SQ", len(items)) + items
    if one.VR in _TEXTS and isinstance(one.value, str):
        stored = one.value.encode()
        if len(stored) % 2:
            stored += b"\0" if one.VR == "UI" else b" "
        return _SHORT.pack(one.tag.group, one.tag.element, one.VR.encode(), len(stored)) + stored
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = False, True
    write_data_element(file, one, ["utf8"])
    return file.getvalue()


@cache
def _tag_of(keyword: str) -> BaseTag:
    return Tag(keyword)


@cache
def _tag(keyword: str) -> tuple[int, int]:
    tag = _tag_of(keyword)
    return tag.group, tag.element
