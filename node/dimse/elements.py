"""Read a few elements of an encoded data set, and check the structure of all the others.

A parser for bytes that nobody vouches for: it does not recurse, holds no value but the few
asked for, and never reads outside the element it is in. It knows implicit and explicit VR, both
byte orders, sequences and encapsulated pixel data of defined and undefined length (PS3.5
sections 7 and A.4).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from pydicom._dicom_dict import DicomDictionary
from pydicom.uid import UID

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from mmap import mmap

MAXIMUM_DEPTH = 32
"""Sequences within sequences."""

MAXIMUM_VALUE = 1024
"""Bytes of a value that is read at all. A UID has 64."""

MAXIMUM_HEADER_VALUE = 65_536
"""Bytes of a value of ``HEADER_TAGS``: whoever routes by one holds it in memory."""

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

_TWO_SHORTS = {True: struct.Struct("<HH"), False: struct.Struct(">HH")}
_SHORT = {True: struct.Struct("<H"), False: struct.Struct(">H")}
_LONG = {True: struct.Struct("<L"), False: struct.Struct(">L")}
"""By byte order: whether it is little endian."""

_EXPLICIT = struct.Struct("<HH2sH")
_SPECIAL_GROUPS = frozenset((0x0000, 0x0002, 0xFFFE))
"""Of commands, of file meta information, of items and delimiters."""

SHORT_LENGTH = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
"""VRs with a length of two bytes in explicit VR; all others have four (PS3.5 table 7.1-1)."""

SEQUENCE_TAGS = frozenset(tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ")
"""In implicit VR only the dictionary tells a sequence of defined length from a value."""


_TEXT = SHORT_LENGTH - frozenset(b"AT DS FD FL IS SL SS UL US".split())
HEADER_TAGS = frozenset(
    tag
    for tag, entry in DicomDictionary.items()
    if entry[0].encode() in _TEXT or (entry[0] != "SQ" and tag >> 16 in (0x0008, 0x0020))
)
"""Short by definition, whatever VR or length a data set states: text (PS3.5 section 6.2), and
what identifies an instance and its place."""


class MalformedDataSet(ValueError):
    """The bytes are not a data set in the stated encoding, or go beyond a limit.

    The message goes on "The data set ..." and has at most 36 characters.
    """


@dataclass(frozen=True, slots=True)
class _Level:
    """What encloses the next element: a data set or item, a sequence, or fragments."""

    kind: str
    end: int
    closed_by: int
    """Delimiter that ends it; 0: ends at ``end``, its length is defined."""
    explicit: bool
    little_endian: bool


class Encoding(NamedTuple):
    """How a transfer syntax encodes a data set (PS3.5 section 10)."""

    deflated: bool
    explicit: bool
    little_endian: bool


@lru_cache(maxsize=256)
def encoding_of(transfer_syntax_uid: str) -> Encoding:
    """Return how a transfer syntax encodes; pydicom takes as long to say as a header to read.

    Raises:
        ValueError: It is not a transfer syntax.
    """
    syntax = UID(transfer_syntax_uid)
    return Encoding(syntax.is_deflated, not syntax.is_implicit_VR, syntax.is_little_endian)


def read_values(
    encoded: mmap | bytes,
    start: int,
    wanted: AbstractSet[int],
    encoding: Encoding,
    *,
    maximum_elements: int,
) -> dict[int, bytes]:
    """Return the raw values of ``wanted``; an element that is not there has none.

    Args:
        encoded: A file or message; the data set goes to its end.
        start: Where in it the data set begins.
        wanted: Tags of elements of the data set itself, not of items within.
        encoding: Of the data set once it is inflated.
        maximum_elements: Elements and items together, at every level.

    Raises:
        MalformedDataSet: Also where a wanted element is there twice.
    """
    levels = [_Level("data set", len(encoded), 0, encoding.explicit, encoding.little_endian)]
    values: dict[int, bytes] = {}
    position = start
    left = maximum_elements
    while left > 0:
        while levels and not levels[-1].closed_by and position == levels[-1].end:
            levels.pop()
        if not levels:
            return values
        level = levels[-1]
        if level.kind == "data set" and level.explicit and level.little_endian:
            position, left = _plain_elements(encoded, position, level.end, wanted, left)
            if position == level.end and not level.closed_by:
                continue
        left -= 1
        if position + 8 > level.end:
            raise MalformedDataSet("ends within an element")
        if level.kind == "data set":
            position = _element(encoded, position, levels, wanted, values)
        else:
            position = _item(encoded, position, levels)
        if len(levels) > 2 * MAXIMUM_DEPTH + 1:  # a sequence and its item are two levels
            raise MalformedDataSet("nests too deeply")
    raise MalformedDataSet("has too many elements")


def _plain_elements(
    encoded: mmap | bytes, position: int, end: int, wanted: AbstractSet[int], left: int
) -> tuple[int, int]:
    """Pass over elements that nothing is to be said of, in explicit VR little endian.

    Most are: short values of defined length that nobody wants. Whatever is not stays for
    ``_element``, which alone judges.

    Returns:
        Where the next element begins, and how many more may come.
    """
    while left and position + 8 <= end:
        group, number, vr, length = _EXPLICIT.unpack_from(encoded, position)
        following = position + 8 + length
        if (
            vr not in SHORT_LENGTH
            or following > end
            or group in _SPECIAL_GROUPS
            or group << 16 | number in wanted
        ):
            break
        position = following
        left -= 1
    return position, left


def _element(
    encoded: mmap | bytes,
    position: int,
    levels: list[_Level],
    wanted: AbstractSet[int],
    values: dict[int, bytes],
) -> int:
    """Take one element of a data set; return where the next one begins."""
    level = levels[-1]
    group, number = _TWO_SHORTS[level.little_endian].unpack_from(encoded, position)
    tag = group << 16 | number
    if group == 0xFFFE:
        if tag != level.closed_by:
            raise MalformedDataSet("has a delimiter out of place")
        levels.pop()
        return position + 8
    if group in (0x0000, 0x0002):
        raise MalformedDataSet("holds group 0000 or 0002")
    vr, length, value = _header(encoded, position, level)
    if length > MAXIMUM_HEADER_VALUE and len(levels) == 1 and tag in HEADER_TAGS:
        raise MalformedDataSet("has a header value too long")
    if length == UNDEFINED:
        levels.append(_undefined(vr, level))
        return value
    end = value + length
    if end > level.end:
        raise MalformedDataSet("has an element that overruns")
    if vr == b"SQ" or (vr == b"" and tag in SEQUENCE_TAGS):
        levels.append(_Level("sequence", end, 0, level.explicit, level.little_endian))
        return value
    if tag in wanted and len(levels) == 1:
        if tag in values:
            raise MalformedDataSet("has an identifying element twice")
        values[tag] = bytes(encoded[value : min(end, value + MAXIMUM_VALUE)])
    return end


def _undefined(vr: bytes, level: _Level) -> _Level:
    """Return what an element of undefined length opens."""
    if vr in (b"OB", b"OW"):
        kind = "fragments"
    elif vr in (b"SQ", b"UN", b""):
        kind = "sequence"
    else:
        raise MalformedDataSet("has a value of undefined length")
    if vr == b"UN":  # whatever the transfer syntax (PS3.5 section 6.2.2 note 7)
        return _Level(kind, level.end, SEQUENCE_END, explicit=False, little_endian=True)
    return _Level(kind, level.end, SEQUENCE_END, level.explicit, level.little_endian)


def _header(encoded: mmap | bytes, position: int, level: _Level) -> tuple[bytes, int, int]:
    """Return VR (empty in implicit VR), length, and where the value begins."""
    long = _LONG[level.little_endian]
    if not level.explicit:
        return b"", long.unpack_from(encoded, position + 4)[0], position + 8
    vr = bytes(encoded[position + 4 : position + 6])
    if vr in SHORT_LENGTH:
        length = _SHORT[level.little_endian].unpack_from(encoded, position + 6)[0]
        return vr, length, position + 8
    if not (vr.isalpha() and vr.isupper()):
        raise MalformedDataSet("has no VR where one is due")
    if position + 12 > level.end:
        raise MalformedDataSet("ends within an element")
    return vr, long.unpack_from(encoded, position + 8)[0], position + 12


def _item(encoded: mmap | bytes, position: int, levels: list[_Level]) -> int:
    """Take one item, fragment or delimiter of a sequence; return where the next one begins."""
    level = levels[-1]
    group, number = _TWO_SHORTS[level.little_endian].unpack_from(encoded, position)
    tag = group << 16 | number
    length: int = _LONG[level.little_endian].unpack_from(encoded, position + 4)[0]
    value = position + 8
    if tag == SEQUENCE_END and level.closed_by:
        levels.pop()
        return value
    if tag != ITEM:
        raise MalformedDataSet("has a non-item in a sequence")
    if level.kind == "fragments":
        if length > level.end - value:
            raise MalformedDataSet("has a fragment that overruns")
        return value + length
    closed_by = ITEM_END if length == UNDEFINED else 0
    end = level.end if closed_by else value + length
    if end > level.end:
        raise MalformedDataSet("has an item that overruns")
    levels.append(_Level("data set", end, closed_by, level.explicit, level.little_endian))
    return value
