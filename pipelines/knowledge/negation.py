"""Whether a report says that something is there, is not, may be, or was: NegEx.

Chapman et al. 2001, J Biomed Inform 34:301-310. A word such as "no" speaks of every term from
there to the end of its sentence, or to a word such as "but"; the lists are in ``negation.toml``.
The five words that the paper lets it reach are not enough for "no mass, effusion, ...": here, as
in its later versions, it reaches on. "No effusion, nodule on the left" is therefore misread as no
nodule. English only.
"""

from __future__ import annotations

import enum
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LONGEST_TEXT = 200_000
"""Characters of a text that are read: a report has some thousand."""
AFTER_WORDS = 5
"""How far after a term a word may stand that speaks of it, as in the paper."""


class Status(enum.Enum):
    """What a sentence says of a term; where several would do, the first."""

    NEGATED = "negated"
    UNCERTAIN = "uncertain"
    HISTORICAL = "historical"
    AFFIRMED = "affirmed"


@dataclass(frozen=True)
class Mention:
    """A term in a sentence.

    Attributes:
        term: As it was asked for.
        sentence: Which sentence of the text, from 0.
        status: What the sentence says of it.
    """

    term: str
    sentence: int
    status: Status


def mentions(text: str, terms: Iterable[str]) -> tuple[Mention, ...]:
    """Return every mention of terms in a text, in its order.

    Args:
        text: Sentences end at ``.``, ``;``, ``!``, ``?`` and line breaks; only the first
            ``LONGEST_TEXT`` characters are read.
        terms: Words as a report writes them, also in the plural; capitals do not count. Of terms
            that overlap the longest is taken.
    """
    wanted = {_normal(term): term for term in terms if _normal(term)}
    if not wanted:
        return ()
    sought = re.compile(rf"\b({_alternatives(wanted)})(?:e?s)?\b")
    found = []
    for number, sentence in enumerate(sentences(text)):
        words = _normal(sentence)
        found += [
            Mention(wanted[match[1]], number, _status(words, *match.span()))
            for match in sought.finditer(words)
        ]
    return tuple(found)


def sentences(text: str) -> list[str]:
    """Return the sentences of a text; a point within a number, as in 1.5 mm, ends none."""
    lines = re.split(r"(?:[.;!?](?=\s|$)|[\r\n]+)", text[:LONGEST_TEXT])
    return [line.strip() for line in lines if line.strip()]


def _status(words: str, start: int, end: int) -> Status:
    """Return what a sentence says of what is from ``start`` to ``end`` of it."""
    # What stands within "no change" is no negation.
    before = _pattern("ends").split(_pattern("pseudo").sub("_", words[:start]))[-1]
    after = _pattern("ends").split(words[end:])[0]
    said = {*_kinds(before, "_before"), *_kinds(after, "_after", AFTER_WORDS)}
    return next((status for status in Status if status.value in said), Status.AFFIRMED)


def _kinds(part: str, side: str, within_words: int | None = None) -> Iterator[str]:
    """Yield which lists have a word in a part of a sentence; of words that overlap the longest.

    Args:
        part: Of a sentence.
        side: End of the names of the lists.
        within_words: The word must begin among so many; None: anywhere.
    """
    of_side = [(kind, words) for kind, words in _lists().items() if kind.endswith(side)]
    kind_of = {word: kind.removesuffix(side) for kind, words in of_side for word in words}
    for match in re.finditer(rf"(?<!\w)({_alternatives(kind_of)})(?!\w)", part):
        if within_words is None or len(part[: match.start()].split()) < within_words:
            yield kind_of[match[1]]


@cache
def _lists() -> dict[str, tuple[str, ...]]:
    stated = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
    return {kind: tuple(map(_normal, words)) for kind, words in stated.items()}


@cache
def _pattern(kind: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{_alternatives(_lists()[kind])})(?!\w)")


def _alternatives(words: Iterable[str]) -> str:
    """Return a pattern of words, the longest first."""
    return "|".join(re.escape(word) for word in sorted(words, key=lambda word: (-len(word), word)))


def _normal(text: str) -> str:
    """Return a text in small letters with single spaces; no-break spaces and hyphens as spaces."""
    return " ".join(re.sub(r"[\s\-\u2010-\u2015]+", " ", text.casefold()).split())
