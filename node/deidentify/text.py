"""What may stay of a text. Words are let through, never hunted: a name that nobody listed goes.

Nobody can find every name, number and address in free text. So it is turned around: of a text for
people stays what ``words.toml`` and PS3.16 know, of a technical one also what is too short to name
anybody. What stands in the patient's or in a person's name never stays, wherever it is met.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom.sr._concepts_dict import concepts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WORDS = Path(__file__).with_name("words.toml")
_UNITS = "mm2|mm3|mm|cm|ml|kv|ms|hz|mas|ma|hu|s|t|x|%"
_NUMBER = rf"(?:\d{{1,3}}(?:[.,]\d{{1,3}})?\s?(?:{_UNITS})|\d\.\d(?:\.\d)?|0\.\d{{1,3}})"
"""A measurement, a version or a probability: none of them can be a date."""
_TOKEN = re.compile(rf"((?<![\w.,/:-]){_NUMBER}(?!\w|[.,/:-]\w))|([^\W_]+)", re.IGNORECASE)
_LETTERS = re.compile(r"[a-z]+")
_DIGITS = re.compile(r"\d+")
_NO_SEPARATOR = re.compile(r"[^ -/:-@\[-`{-~\r\n]")
"""What is neither a letter nor a digit, and no ASCII punctuation either: a letter's accent."""
LONGEST_FREE_LETTERS, LONGEST_FREE_DIGITS = 3, 4
"""Runs that a technical text may have, whatever they say: B30f, tfl3d1_ns, DV26.0_R02."""


@dataclass(frozen=True)
class Cleaner:
    """Cleans the texts of one object.

    Attributes:
        own: Words, in small letters, of the people and numbers that the object names.
    """

    own: frozenset[str]

    def descriptive(self, text: str) -> str:
        """Return the words of ``text`` that are known to name nobody, and measurements."""
        return _filtered(text, self._is_harmless)

    def technical(self, text: str) -> str:
        """Return, of a text that a machine wrote, also what is too short to identify."""
        return _filtered(text, lambda word: self._is_harmless(word) or self._is_short(word))

    def is_safe(self, text: str) -> bool:
        """Whether ``text`` holds no word of the people and numbers that the object names."""
        return all(word in vocabulary() or word not in self.own for word in words_of(text.lower()))

    def _is_harmless(self, word: str) -> bool:
        return word in vocabulary() and word not in self.own

    def _is_short(self, word: str) -> bool:
        return (
            word not in self.own
            and word.isascii()
            and all(len(run) <= LONGEST_FREE_DIGITS for run in _DIGITS.findall(word))
            and all(
                run in vocabulary() or (len(run) <= LONGEST_FREE_LETTERS and run not in _names())
                for run in _LETTERS.findall(word)
            )
        )


def words_of(text: str) -> Iterator[str]:
    """Yield the runs of letters and digits in a text, in small letters."""
    return (match.lower() for match in re.findall(r"[^\W_]+", text))


def _filtered(text: str, may_stay: Callable[[str], bool]) -> str:
    kept: list[str] = []
    end_of_last: int | None = 0
    for match in _TOKEN.finditer(text):
        if match[1] is None and not may_stay(match[2].lower()):
            end_of_last = None
            continue
        if kept:
            # What stands between two words stays where both do.
            between = " " if end_of_last is None else text[end_of_last : match.start()]
            kept.append(_NO_SEPARATOR.sub(" ", between))
        kept.append(match[0])
        end_of_last = match.end()
    return "".join(kept)


@cache
def vocabulary() -> frozenset[str]:
    """Return the words that name nobody, in small letters."""
    lists = _lists()
    listed = {word for name, words in lists.items() if name != "names" for word in words.split()}
    table: Any = concepts  # scheme -> keyword -> value -> (meaning, context groups)
    meant = {
        word
        for entries in table["DCM"].values()
        for meaning, _context_groups in entries.values()
        for word in words_of(meaning)
        if not word.isdecimal()
    }
    return frozenset((listed | meant) - _names())


@cache
def _names() -> frozenset[str]:
    return frozenset(_lists()["names"].split())


@cache
def _lists() -> dict[str, str]:
    return tomllib.loads(_WORDS.read_text(encoding="utf-8"))
