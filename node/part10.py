"""Part 10 files read without a pass of pydicom over every element.

pydicom takes a millisecond for the header of an image, and a series has hundreds that are read
more than once. Here the usual encodings are cut into raw elements in one loop, which pydicom
parses when they are asked for; the data set is the one that ``dcmread`` returns. Whatever is not
usual, or damaged, is left to ``dcmread``, with its own errors.
"""

from __future__ import annotations

import os
from functools import cache, lru_cache
from io import BytesIO
from struct import Struct
from typing import TYPE_CHECKING, Any

from pydicom import DataElement, Dataset, FileDataset, dcmread
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import RawDataElement, convert_raw_data_element, empty_value_for_VR
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import data_element_generator, read_partial
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

from node.malformed import MALFORMED

if TYPE_CHECKING:
    from collections.abc import MutableSequence, Sequence
    from pathlib import Path

    Elements = dict[BaseTag, RawDataElement | DataElement]
    Encoding = str | MutableSequence[str]

_tag = lru_cache(4096)(BaseTag)
"""A dictionary finds the very same tag without a call of pydicom's comparison."""

PIXEL_DATA = _tag(0x7FE00010)
_AFTER_FILE_META = 0x00030000
_FIRST_GROUP = 0x0004
_TRANSFER_SYNTAX = _tag(0x00020010)
_CHARACTER_SET = _tag(0x00080005)
_DELIMITERS = 0xFFFE
_ITEM = (0xFFFE, 0xE000)
_UNDEFINED = 0xFFFFFFFF

_PREFIX_BYTES = (1 << 15, 1 << 22)
"""Hold the header of most images, and of one of many frames; else all of the file is read."""

_IMPLICIT = b"1.2.840.10008.1.2"
_EXPLICIT = (b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.5")
_JPEG_FAMILY = b"1.2.840.10008.1.2.4."

_SHORT = Struct("<HH2sH").unpack_from
_PLAIN = Struct("<HHI").unpack_from
_LENGTH = Struct("<I").unpack_from
"""An element's tag, VR and length in Explicit and in Implicit VR Little Endian (PS3.5 7.1)."""

_VRS = {
    one.value.encode(): (one.value, one in EXPLICIT_VR_LENGTH_32)
    for one in VR
    if len(one.value) == 2
}
"""As they are stored -> as text, and whether their length has four bytes."""


class _Unusual(Exception):
    """The bytes are not of the plain kind that is read here."""


def read(path: Path, *, stop_at: int | None = None) -> Dataset:
    """Read a file as ``pydicom.dcmread`` does; Pixel Data of a defined length stay on the disk.

    They are read when they are asked for, or found at ``value_tell`` of their raw element.

    Args:
        path: Of the file.
        stop_at: The first tag that is not read, in order of tags; None: to the end.

    Raises:
        pydicom.errors.InvalidDicomError: It is not DICOM Part 10. What else reading a damaged file
            raises is in ``MALFORMED``.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        for prefix_bytes in (*_PREFIX_BYTES, size):
            head = os.pread(descriptor, prefix_bytes, 0)
            try:
                return _dataset(path, head, size, descriptor, stop_at)
            except (_Unusual, *MALFORMED):
                if len(head) == size:
                    break
    finally:
        os.close(descriptor)
    if stop_at is None:
        return dcmread(path)
    with path.open("rb") as file:
        return read_partial(file, lambda tag, _vr, _length: tag >= stop_at)


@cache
def tag_of(keyword: str) -> BaseTag:
    """Return the tag of a keyword as it stands in what is read here."""
    return _tag(int(Tag(keyword)))


def unparsed(dataset: Dataset, tag: BaseTag) -> RawDataElement | None:
    """Return an element that nobody has parsed yet; None where there is none, or it has been.

    Its value is None where that is still on the disk.
    """
    if tag not in dataset:
        return None
    element: Any = dataset.get_item(tag, keep_deferred=True)
    return element if isinstance(element, RawDataElement) else None


def once_read(element: Any) -> bytes | None:
    """Return the bytes of an element that nobody has parsed yet, to know it again by."""
    raw = isinstance(element, RawDataElement) and isinstance(element.value, bytes)
    return element.value if raw else None


def uid_of(element: Any) -> str:
    """Return a UID; empty where there is none. A plain one is not worth a parser."""
    raw = once_read(element)
    plain = None if raw is None else raw.rstrip(b"\0 ")
    if plain and not plain.translate(None, b"0123456789."):
        return plain.decode("ascii")
    return "" if element is None else str(value_of(element))


def value_of(element: Any) -> Any:
    """Return the value of an element, parsed or not, that is no text but digits."""
    if not isinstance(element, RawDataElement):
        return element.value
    return convert_raw_data_element(element).value


def said(dataset: Dataset, tags: Sequence[BaseTag]) -> tuple[object, ...] | None:
    """Return what a data set says here, as bytes, to know it again by.

    Of pixel data only whether there are any. None where something has been parsed.
    """
    found: list[object] = [uid_of(dataset.file_meta.get_item(_TRANSFER_SYNTAX))]
    for tag in tags:
        element: Any = dataset.get_item(tag, keep_deferred=True)
        if element is not None and not isinstance(element, RawDataElement):
            return None
        found.append(element and (element.VR, tag == PIXEL_DATA or element.value))
    return tuple(found)


def items(sequence: RawDataElement) -> list[Elements] | None:
    """Return what is in each item of a sequence that nobody has parsed, its own values as raw.

    None where that is not plain Explicit VR Little Endian with lengths: pydicom can parse it.
    """
    content = sequence.value
    if not isinstance(content, bytes) or sequence.is_implicit_VR or not sequence.is_little_endian:
        return None
    found: list[Elements] = []
    place = 0
    try:
        while place < len(content):
            group, element, length = _PLAIN(content, place)
            place += 8
            if (group, element) != _ITEM or place + length > len(content):
                return None
            elements: Elements = {}
            _cut(content, place, place + length, elements, implicit=False)
            if _CHARACTER_SET in elements:
                return None  # its text is in another than what is around it
            found.append(elements)
            place += length
    except (_Unusual, *MALFORMED):
        return None
    return found


def _dataset(path: Path, head: bytes, size: int, descriptor: int, stop_at: int | None) -> Dataset:
    if head[128:132] != b"DICM":
        raise _Unusual
    meta: Elements = {}
    place = _cut(head, 132, len(head), meta, implicit=False, stop_at=_AFTER_FILE_META)
    stated: Any = meta[_TRANSFER_SYNTAX].value
    syntax = stated.rstrip(b"\0 ")
    implicit = syntax == _IMPLICIT
    if not (implicit or syntax in _EXPLICIT or syntax.startswith(_JPEG_FAMILY)):
        raise _Unusual
    if _SHORT(head, place)[0] < _FIRST_GROUP or (head[place + 4 : place + 6] in _VRS) == implicit:
        raise _Unusual
    elements: Elements = {}
    place = _cut(head, place, size, elements, implicit=implicit, stop_at=stop_at)
    if place > len(head):  # the last value is pixel data, left on the disk
        tail = os.pread(descriptor, size - place, place)
        after = _cut(tail, 0, len(tail), elements, implicit=implicit, stop_at=stop_at)
        if after != len(tail):
            raise _Unusual
    read = FileDataset(
        str(path), elements, head[:128], FileMetaDataset(meta), implicit, is_little_endian=True
    )
    read.set_original_encoding(implicit, True, _encoding(elements))
    return read


def _cut(  # noqa: PLR0913 - the state of a parser
    data: bytes,
    place: int,
    end: int,
    into: Elements,
    *,
    implicit: bool,
    stop_at: int | None = None,
) -> int:
    """Add the elements of ``data`` from ``place`` on; return where the next one begins.

    Args:
        data: What has been read; its end may come before ``end``.
        place: Of the first element.
        end: Of the data set.
        into: What is added to.
        implicit: Whether elements state no VR.
        stop_at: The first tag that is not read.

    Raises:
        _Unusual: The bytes are not plain, or ``data`` is too short.
    """
    known = len(data)
    while place < end:
        if implicit:
            group, element, length = _PLAIN(data, place)
            vr, value_at = None, place + 8
        else:
            group, element, stated, length = _SHORT(data, place)
            vr, is_long = _VRS[stated]
            value_at = place + 8
            if is_long:
                (length,) = _LENGTH(data, value_at)
                value_at += 4
        number = group << 16 | element
        if stop_at is not None and number >= stop_at:
            return place
        if group == _DELIMITERS:
            raise _Unusual
        tag = _tag(number)
        if length == _UNDEFINED:
            into[tag], place = _undefined(data, place, end, into, implicit=implicit)
            continue
        place = value_at + length
        if place > known:
            # Pixel data may stay where they are; all else must have been read.
            if number != PIXEL_DATA or place > end:
                raise _Unusual
            value = None
        else:
            value = data[value_at:place] if length else _nothing(vr)
        into[tag] = RawDataElement(tag, vr, length, value, value_at, implicit, True)
        if value is None and length:
            return place
    return place


def _undefined(
    data: bytes, place: int, end: int, before: Elements, *, implicit: bool
) -> tuple[RawDataElement | DataElement, int]:
    """Have pydicom read the one element that ends with a delimiter."""
    if len(data) < end:
        raise _Unusual  # it may end anywhere
    file = BytesIO(data)
    file.seek(place)
    element = next(data_element_generator(file, implicit, True, encoding=_encoding(before)))
    return element, file.tell()


def _encoding(elements: Elements) -> Encoding:
    """Return Python's names of the character sets that a data set states."""
    stated = elements.get(_CHARACTER_SET)
    if stated is None:
        return default_encoding
    if isinstance(stated, RawDataElement):
        stated = convert_raw_data_element(stated)
    return convert_encodings(stated.value)


@cache
def _nothing(vr: str | None) -> Any:
    return empty_value_for_VR(vr, raw=True)
