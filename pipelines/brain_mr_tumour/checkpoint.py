"""TensorFlow's tensor bundle (checkpoint version 2), read without TensorFlow and without trust.

A bundle is an index and data files. The index is a sorted-string table as LevelDB writes it:
blocks of entries whose keys share their beginning with the key before, a check sum behind each
block, and a footer that says where the block of blocks is. Each value is a protocol buffer that
says where in the data a tensor is, and what its check sum is.

Whatever the bytes are, reading ends with tensors or with ``CorruptCheckpoint``: every length is
held against what is there before it is used.

Sources: LevelDB, doc/table_format.md; TensorFlow, core/protobuf/tensor_bundle.proto,
core/framework/tensor_shape.proto; CRC-32C: RFC 3720 appendix B.4, masked as in LevelDB's
util/crc32c.h.
"""

from __future__ import annotations

from itertools import starmap
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST_INDEX_BYTES = 1 << 20
LARGEST_DATA_BYTES = 1 << 28

_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5
"""Behind each block: how it is compressed, and its check sum."""
_NOT_COMPRESSED = 0
_MASK_DELTA = 0xA282EAD8
_FLOAT32 = 1
"""DT_FLOAT of core/framework/types.proto: networks have no other weights."""
_MOST_DIMENSIONS = 8
_VARINT, _BYTES, _FIXED32 = 0, 2, 5
_UNSET = 0


class CorruptCheckpoint(ValueError):
    """The bytes are no whole, uncompressed, little-endian bundle of one data file."""


class _Entry(NamedTuple):
    shape: tuple[int, ...]
    offset: int
    size: int
    masked_crc: int


class Checkpoint:
    """The float tensors of a bundle, by name; each is checked when it is read."""

    def __init__(self, index: bytes, data: bytes) -> None:
        """Read the index.

        Args:
            index: The file ``*.index``.
            data: The file ``*.data-00000-of-00001``.

        Raises:
            CorruptCheckpoint: They are no such files.
        """
        if len(index) > LARGEST_INDEX_BYTES or len(data) > LARGEST_DATA_BYTES:
            raise CorruptCheckpoint("The checkpoint is larger than any that this reader is for.")
        self._data = data
        self._entries: dict[str, _Entry] = {}
        for key, value in _table(index):
            if not key:
                _require_plain(value)
            elif (entry := _entry(value, len(data))) is not None:
                self._entries[_text(key)] = entry

    @property
    def names(self) -> tuple[str, ...]:
        """Of all float tensors."""
        return tuple(self._entries)

    def tensor(self, name: str) -> npt.NDArray[np.float32]:
        """Return one tensor, in the axis order in which TensorFlow keeps it.

        Raises:
            CorruptCheckpoint: It is not there, or its check sum is wrong.
        """
        if name not in self._entries:
            raise CorruptCheckpoint(f"The checkpoint has no tensor {name}.")
        entry = self._entries[name]
        content = self._data[entry.offset : entry.offset + entry.size]
        if _masked_crc(content) != entry.masked_crc:
            raise CorruptCheckpoint(f"The check sum of the tensor {name} is wrong.")
        values = np.frombuffer(content, "<f4").astype(np.float32)
        if not np.isfinite(values).all():
            raise CorruptCheckpoint(f"The tensor {name} holds values that are no numbers.")
        return values.reshape(entry.shape)


def crc32c(content: bytes) -> int:
    """Return the Castagnoli check sum of RFC 3720."""
    register = 0xFFFFFFFF
    table = _CRC_TABLE
    for byte in content:
        register = table[(register ^ byte) & 0xFF] ^ register >> 8
    return register ^ 0xFFFFFFFF


def _crc_of_byte(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_CRC_TABLE = tuple(_crc_of_byte(byte) for byte in range(256))


def _masked_crc(content: bytes) -> int:
    crc = crc32c(content)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def _table(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of a sorted-string table."""
    footer = content[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or not footer.endswith(_MAGIC):
        raise CorruptCheckpoint("The index does not end as a sorted-string table does.")
    _, place = _handle(footer, 0)  # of the table's own statistics
    index_handle, _ = _handle(footer, place)
    read = 0
    for _, handle in _block(content, *index_handle):
        (offset, size), _ = _handle(handle, 0)
        read += size
        if read > len(content):  # blocks do not overlap: a table cannot hold more than itself
            raise CorruptCheckpoint("The index lists the same block again.")
        yield from _block(content, offset, size)


def _handle(content: bytes, place: int) -> tuple[tuple[int, int], int]:
    offset, place = _varint(content, place)
    size, place = _varint(content, place)
    return (offset, size), place


def _block(content: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of one block, its check sum verified."""
    block = content[offset : offset + size]
    trailer = content[offset + size : offset + size + _TRAILER_BYTES]
    if len(block) < size or len(trailer) < _TRAILER_BYTES or size < 4:
        raise CorruptCheckpoint("A block of the index lies outside of it.")
    if trailer[0] != _NOT_COMPRESSED:
        raise CorruptCheckpoint("The index is compressed, which this reader does not read.")
    if _masked_crc(block + trailer[:1]) != int.from_bytes(trailer[1:], "little"):
        raise CorruptCheckpoint("The check sum of a block of the index is wrong.")
    restarts = int.from_bytes(block[-4:], "little")
    end = size - 4 - 4 * restarts
    if end < 0:
        raise CorruptCheckpoint("A block of the index states more restart points than it has.")
    key, place = b"", 0
    while place < end:
        shared, place = _varint(block, place)
        unshared, place = _varint(block, place)
        length, place = _varint(block, place)
        if shared > len(key) or place + unshared + length > end:
            raise CorruptCheckpoint("An entry of the index reaches outside of its block.")
        key = key[:shared] + block[place : place + unshared]
        place += unshared
        yield key, block[place : place + length]
        place += length


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, the lowest first, and the place behind it."""
    value = 0
    for shift in range(0, 64, 7):
        if place >= len(content):
            break
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise CorruptCheckpoint("A number of the index has no end.")


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a protocol buffer."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, place = _varint(message, place)
            yield number, value
            continue
        length = 4
        if kind == _BYTES:
            length, place = _varint(message, place)
        elif kind != _FIXED32:
            raise CorruptCheckpoint("A field of the index is of a kind that bundles do not have.")
        if place + length > len(message):
            raise CorruptCheckpoint("A field of the index reaches outside of its entry.")
        part = message[place : place + length]
        yield number, int.from_bytes(part, "little") if kind == _FIXED32 else part
        place += length


def _require_plain(message: bytes) -> None:
    """Hold the bundle's header against what this reader reads: one file, little-endian."""
    header = dict(_fields(message))
    if header.get(1) != 1 or header.get(2, _UNSET) != _UNSET:
        raise CorruptCheckpoint("The checkpoint has several data files, or is big-endian.")


def _entry(message: bytes, data_bytes: int) -> _Entry | None:
    """Return where a tensor is, or None if it holds no floats."""
    fields = dict(_fields(message))
    if fields.get(1) != _FLOAT32:
        return None
    shape = tuple(starmap(_dimension, _fields(_message(fields.get(2, b"")))))
    offset, size, crc = (_number(fields.get(number, _UNSET)) for number in (4, 5, 6))
    if fields.get(3, _UNSET) != _UNSET or 7 in fields or len(shape) > _MOST_DIMENSIONS:
        raise CorruptCheckpoint("A tensor is cut into slices or lies in another data file.")
    if size != 4 * prod(shape) or offset + size > data_bytes:
        raise CorruptCheckpoint(
            "A tensor has another size than its shape, or ends behind the data."
        )
    return _Entry(shape, offset, size, crc)


def _dimension(number: int, value: int | bytes) -> int:
    if number != 2:
        raise CorruptCheckpoint("The shape of a tensor is not known.")
    return _number(dict(_fields(_message(value))).get(1, _UNSET))


def _number(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise CorruptCheckpoint("A field of the index holds bytes where a number belongs.")
    return value


def _message(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise CorruptCheckpoint("A field of the index holds a number where a message belongs.")
    return value


def _text(key: bytes) -> str:
    try:
        return key.decode("ascii")
    except UnicodeDecodeError:
        raise CorruptCheckpoint("A name in the index is no plain text.") from None
