"""Walking a content tree as plain datasets, as read from a file.

Of the hundreds of items of a report most have their name in the same bytes: a name that is still
as it was read is parsed once. A keyword that an item lacks costs pydicom an exception, so tags
are asked for first.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from pipelines.contract import Code

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONTENT = Tag("ContentSequence")
_NAME = Tag("ConceptNameCodeSequence")
_NAMES_KEPT = 1024


def walk(node: Dataset) -> Iterator[Dataset]:
    """Yield every content item below ``node``, parents first."""
    for child in _children(node):
        yield child
        yield from walk(child)


def code_of(item: Dataset) -> Code:
    """Return an item of a code sequence as a code; what is missing is empty (PS3.3 table 8.8-1)."""
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or ""
    return Code(
        str(value),
        str(item.get("CodingSchemeDesignator", "")),
        str(item.get("CodeMeaning", "")),
    )


def name_of(item: Dataset) -> Code:
    """Return the concept name of a content item; empty where it has none."""
    element: Any = item.get_item(_NAME)
    if element is None:
        return Code("", "", "")
    if isinstance(element, RawDataElement) and isinstance(element.value, bytes):
        encoding = item.original_character_set or "iso8859"
        return _name_in(
            element._replace(value_tell=0),
            encoding if isinstance(encoding, str) else tuple(encoding),
        )
    return code_of(element.value[0]) if element.value else Code("", "", "")


def is_named(item: Dataset, name: Code) -> bool:
    """Whether a content item has this concept name, whatever its meaning says."""
    own = name_of(item)
    return (own.value, own.scheme) == (name.value, name.scheme)


def children_named(node: Dataset, name: Code) -> list[Dataset]:
    """Return the direct children of ``node`` with this concept name."""
    return [child for child in _children(node) if is_named(child, name)]


def _children(node: Dataset) -> Any:
    return (node[_CONTENT].value or ()) if _CONTENT in node else ()


@lru_cache(_NAMES_KEPT)
def _name_in(names: RawDataElement, encoding: str | tuple[str, ...]) -> Code:
    """Return the name that a sequence holds which nobody has parsed yet."""
    item = Dataset({_NAME: names})
    item.set_original_encoding(
        names.is_implicit_VR,
        names.is_little_endian,
        encoding if isinstance(encoding, str) else list(encoding),
    )
    parsed: Any = item[_NAME].value
    return code_of(parsed[0]) if parsed else Code("", "", "")
