"""Values of elements that nobody has parsed yet, straight from the bytes that hold them.

A result has thousands of references, names and positions, and pydicom takes some ten
microseconds for each. Whatever is not plain, or has been parsed, is left to pydicom.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue

from node import part10
from node.part10 import once_read, uid_of, value_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydicom.tag import BaseTag

    from node.part10 import Encoding

    Part = Mapping[BaseTag, Any]
    """The elements of a data set or of an item, as they stand in it."""


def elements_of(dataset: Dataset) -> dict[BaseTag, Any]:
    """Return the elements of a data set; those that nobody has parsed yet stay so."""
    return {tag: dataset.get_item(tag) for tag in list(dataset.keys())}


def encoding_of(dataset: Dataset) -> Encoding:
    """Return Python's names of the character sets of a data set."""
    return dataset.original_character_set or "iso8859"


def parsed(part: Part, encoding: Encoding) -> Dataset:
    """Return elements in Explicit VR Little Endian as a data set."""
    dataset = Dataset(dict(part))
    dataset.set_original_encoding(
        is_implicit_vr=False, is_little_endian=True, character_encoding=encoding
    )
    return dataset


def items_of(element: Any, encoding: Encoding) -> Sequence[Part]:
    """Return the items of an element, if it is a sequence, as mappings of what is in them.

    Those of one that nobody has parsed yet are cut out of its bytes.
    """
    if element is None:
        return ()
    if isinstance(element, RawDataElement):
        plain = part10.items(element)
        if plain is not None:
            return plain
        element = parsed({element.tag: element}, encoding)[element.tag]
    if element.VR != "SQ":
        return ()
    return [elements_of(item) for item in element.value or ()]


def uids_at(holder: Dataset, *path: BaseTag) -> Iterator[str]:
    """Yield the UIDs that stand in ``holder`` at the end of a path of sequences."""
    first, *rest = path
    if first in holder:
        yield from _uids_at(holder.get_item(first), rest, encoding_of(holder))


def decimals_of(element: Any) -> tuple[float, ...] | None:
    """Return the values of a decimal string; None where it has none."""
    raw = once_read(element)
    if raw is not None and element.VR in ("DS", None):
        with suppress(ValueError):
            return tuple(map(float, raw.rstrip(b"\0 ").split(b"\\")))
    value = None if element is None else value_of(element)
    if value in (None, ""):
        return None
    return tuple(float(one) for one in (value if isinstance(value, MultiValue | list) else [value]))


def _uids_at(element: Any, path: Sequence[BaseTag], encoding: Encoding) -> Iterator[str]:
    if not path:
        yield uid_of(element)
        return
    first, *rest = path
    for item in items_of(element, encoding):
        if first in item:
            yield from _uids_at(item[first], rest, encoding)
