"""Walking a content tree as plain datasets, as read from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.contract import Code

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom import Dataset


def walk(node: Dataset) -> Iterator[Dataset]:
    """Yield every content item below ``node``, parents first."""
    for child in node.get("ContentSequence") or ():
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
    names = item.get("ConceptNameCodeSequence") or ()
    return code_of(names[0]) if names else Code("", "", "")


def is_named(item: Dataset, name: Code) -> bool:
    """Whether a content item has this concept name, whatever its meaning says."""
    own = name_of(item)
    return (own.value, own.scheme) == (name.value, name.scheme)


def children_named(node: Dataset, name: Code) -> list[Dataset]:
    """Return the direct children of ``node`` with this concept name."""
    return [child for child in node.get("ContentSequence") or () if is_named(child, name)]
