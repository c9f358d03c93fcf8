"""The Disease Ontology, or a part of it: names and synonyms of diseases, and their kinds.

Reads the OBO flat file format 1.4 as far as its ``[Term]`` stanzas: ``id``, ``name``,
``synonym``, ``is_a``, ``is_obsolete``. The file is one that a site added (``radnode models add
disease-ontology-radiology``); it is held to limits, and is only ever data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from pipelines import models

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "disease-ontology-radiology"
FILE = "DO_RAD_slim.obo"
LARGEST_BYTES = 50_000_000
"""The whole Disease Ontology has some 8 million."""
LONGEST_LINE = 20_000
_ID = re.compile(r"[A-Za-z][\w.-]{0,30}:[\w.-]{1,60}")
_SYNONYM = re.compile(r'"((?:[^"\\]|\\.)*)"\s+(EXACT|BROAD|NARROW|RELATED)\b')


class NotAnOntology(ValueError):
    """A file is no OBO file, or one beyond the limits."""


@dataclass(frozen=True)
class Term:
    """A disease.

    Attributes:
        id: Such as ``DOID:3083``.
        name: The preferred one.
        synonyms: Others that mean the same (EXACT).
        parents: What it is a kind of, by their ids; some may not be in a part of the ontology.
    """

    id: str
    name: str
    synonyms: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ontology:
    """Diseases by their id."""

    terms: dict[str, Term] = field(default_factory=dict)

    @cached_property
    def _ids(self) -> dict[str, str]:
        synonyms = {
            word.casefold(): term.id for term in self.terms.values() for word in term.synonyms
        }
        return synonyms | {term.name.casefold(): term.id for term in self.terms.values()}

    def find(self, words: str) -> Term | None:
        """Return the disease of a name or a synonym, whatever its capitals."""
        found = self._ids.get(" ".join(words.casefold().split()))
        return None if found is None else self.terms[found]

    def words(self, term_id: str) -> tuple[str, ...]:
        """Return name and synonyms of a disease; none where it is not known."""
        term = self.terms.get(term_id)
        return () if term is None else (term.name, *term.synonyms)

    def ancestors(self, term_id: str) -> frozenset[str]:
        """Return the ids of all that a disease is a kind of, whether their terms are here or not.

        Of a circle, each of its members but the disease itself.
        """
        found: set[str] = set()
        waiting = [term_id]
        while waiting:
            term = self.terms.get(waiting.pop())
            new = set(term.parents if term else ()) - found
            found |= new
            waiting += new
        return frozenset(found - {term_id})


def added() -> Ontology:
    """Return the ontology that was added to this node; an empty one where none was.

    Raises:
        ModelChanged: Its file is not the one that was added.
        NotAnOntology: As ``read``.
    """
    model = models.find(MODEL)
    return Ontology() if model is None else read(model.read(FILE))


def read(content: bytes) -> Ontology:
    """Read an OBO file.

    Raises:
        NotAnOntology: It is none, or larger than any that is known.
    """
    if len(content) > LARGEST_BYTES:
        raise NotAnOntology(f"It has more than {LARGEST_BYTES} bytes.")
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise NotAnOntology("It is no UTF-8.") from error
    if not lines or not lines[0].startswith("format-version: 1."):
        raise NotAnOntology("It does not begin with an OBO format version.")
    if any(len(line) > LONGEST_LINE for line in lines):
        raise NotAnOntology(f"It has a line of more than {LONGEST_LINE} characters.")
    terms: dict[str, Term] = {}
    for stanza in _stanzas(lines):
        term = _term(stanza)
        if term is None:
            continue
        if term.id in terms:
            raise NotAnOntology(f"It defines {term.id} twice.")
        terms[term.id] = term
    return Ontology(terms)


def _stanzas(lines: list[str]) -> Iterator[list[tuple[str, str]]]:
    """Yield the tags and values of each term."""
    stanza: list[tuple[str, str]] | None = None
    for line in lines:
        if line.startswith("["):
            if stanza is not None:
                yield stanza
            stanza = [] if line.strip() == "[Term]" else None
        elif stanza is not None and ": " in line:
            tag, _, value = line.partition(": ")
            stanza.append((tag, value))
    if stanza is not None:
        yield stanza


def _term(stanza: list[tuple[str, str]]) -> Term | None:
    """Return a term; None for one that its makers have withdrawn.

    Raises:
        NotAnOntology: It has no name, or an id that is none.
    """
    if ("is_obsolete", "true") in stanza:
        return None
    one = {tag: value.partition(" ! ")[0].strip() for tag, value in stanza}
    if not _ID.fullmatch(one.get("id", "")) or not one.get("name"):
        raise NotAnOntology("A term has no name, or an id that is none.")
    synonyms = (_SYNONYM.match(value) for tag, value in stanza if tag == "synonym")
    above = (value for tag, value in stanza if tag == "is_a")
    parents = (value.partition(" ! ")[0].partition(" {")[0].strip() for value in above)
    return Term(
        one["id"],
        one["name"],
        tuple(found[1].replace('\\"', '"') for found in synonyms if found and found[2] == "EXACT"),
        tuple(parents),
    )
