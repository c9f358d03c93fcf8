"""A second look at what was written: nothing that identified the original may be in its bytes.

It shares no table with the rules and reads the file, not what was meant to be written.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydicom import dcmread
from pydicom.uid import UID

from node.deidentify.identity import NUMBERS, elements_of, texts_of
from node.deidentify.text import vocabulary, words_of
from node.errors import NotDeidentified

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pydicom import Dataset

SHORTEST_WORD = 3
"""Shorter ones are found in every text by chance."""
SHORTEST_IN_BYTES, SHORTEST_NUMBER_IN_BYTES = 6, 9
"""In bytes of any kind. Numbers of six to eight digits are times and dates, too."""
_TEXT_VRS = frozenset({"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_SCHEMES = frozenset({0x0008010C, 0x00080117, 0x00080118})
"""UIDs of coding schemes, context groups and mapping resources are no instance's."""
_IS_CLASS = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1(\.\d{1,3}){1,4}")
_UID = re.compile(r"[0-9.]{10,64}")


def verify(original: Dataset, written: Path) -> None:
    """Look for the original's names, numbers and UIDs in a file that shall have none of them.

    Args:
        original: Whole, nested items too.
        written: Part 10 file.

    Raises:
        NotDeidentified: One is there. What it is, is not said.
    """
    words = _words(original)
    made = dcmread(written, defer_size=1 << 16)
    texts = (
        text
        for element in elements_of(made)
        if element.VR in _TEXT_VRS and element.tag not in (0x00100010, 0x00100020)
        for text in texts_of(element)
    )
    left = next((word for text in texts for word in words_of(text) if word in words), None)
    if left is not None:
        raise _found("A word of a name or a number")
    content = written.read_bytes()
    if _occurs(_in_bytes(words), content.lower()):
        raise _found("A name or a number")
    if _occurs((uid.encode() for uid in _uids(original)), content):
        raise _found("A UID")


def _found(what: str) -> NotDeidentified:
    return NotDeidentified(
        f"{what} of the original was still in the de-identified object: it was discarded.",
        do="Leave it out, and tell the makers of radnode the kind of object and its device.",
    )


def _words(original: Dataset) -> frozenset[str]:
    """Return the words of names and numbers, but those that every description may have."""
    found = {
        word
        for element in elements_of(original)
        if element.VR == "PN" or element.tag in NUMBERS
        for text in texts_of(element)
        for word in words_of(text)
        if len(word) >= SHORTEST_WORD
    }
    return frozenset(found - vocabulary())


def _in_bytes(words: Iterable[str]) -> Iterator[bytes]:
    for word in words:
        shortest = SHORTEST_NUMBER_IN_BYTES if word.isdecimal() else SHORTEST_IN_BYTES
        if len(word) >= shortest and word.isascii():
            yield word.encode()


def _uids(original: Dataset) -> set[str]:
    return {
        uid
        for element in elements_of(original)
        if element.VR == "UI" and element.tag not in _SCHEMES
        for uid in texts_of(element)
        if _UID.fullmatch(uid) and UID(uid).name == uid and not _IS_CLASS.fullmatch(uid)
    }


def _occurs(needles: Iterable[bytes], content: bytes) -> bool:
    """Whether one of the needles stands in ``content`` as a word of its own."""
    for needle in needles:
        place = content.find(needle)
        while place >= 0:
            around = content[max(place - 1, 0) : place] + content[place + len(needle) :][:1]
            if not re.search(rb"[0-9a-z]", around):
                return True
            place = content.find(needle, place + 1)
    return False
