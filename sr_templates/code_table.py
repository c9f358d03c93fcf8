"""Which codes a report may carry: pydicom's copy of PS3.16, and the table of exceptions."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from pydicom.sr._concepts_dict import concepts

from pipelines.codes import OUTSIDE_PS3_16, UNIT_MEANINGS

if TYPE_CHECKING:
    from pipelines.contract import Code


@cache
def _meanings_by_scheme() -> dict[tuple[str, str], frozenset[str]]:
    """Meanings of each (scheme, value): a value may have one per context group."""
    collected: dict[tuple[str, str], set[str]] = {}
    table: Any = concepts  # scheme -> keyword -> value -> (meaning, context groups)
    for scheme, keywords in table.items():
        for entries in keywords.values():
            for value, (meaning, _context_groups) in entries.items():
                collected.setdefault((scheme, value), set()).add(meaning)
    return {key: frozenset(meanings) for key, meanings in collected.items()}


def meanings(value: str, scheme: str) -> frozenset[str]:
    """Return the meanings that PS3.16 gives a code; empty where it lists none."""
    return _meanings_by_scheme().get((scheme, value), frozenset())


@cache
def _members() -> dict[int, frozenset[tuple[str, str]]]:
    """(scheme, value) of the codes of each context group."""
    collected: dict[int, set[tuple[str, str]]] = {}
    table: Any = concepts
    for scheme, keywords in table.items():
        for entries in keywords.values():
            for value, (_meaning, context_groups) in entries.items():
                for group in context_groups:
                    collected.setdefault(group, set()).add((scheme, value))
    return {group: frozenset(codes) for group, codes in collected.items()}


def is_in_context_group(code: Code, *context_groups: int) -> bool:
    """Whether PS3.16 lists a code in one of the context groups (CID), whatever it means there."""
    return any(
        (code.scheme, code.value) in _members().get(group, frozenset()) for group in context_groups
    )


def problem_with(code: Code) -> str | None:
    """Return what is wrong with a code, as a sentence, or None.

    Private schemes (designator beginning with 99, PS3.3 section 8.2) are their owner's
    business and pass with any meaning.
    """
    if not (code.value and code.scheme and code.meaning):
        return "A code has no value, no scheme or no meaning."
    written = f"({code.value}, {code.scheme}, {code.meaning!r})"
    known = meanings(code.value, code.scheme)
    if code.meaning in known or code in OUTSIDE_PS3_16:
        return None
    if code.scheme == "UCUM" and code.meaning in (code.value, UNIT_MEANINGS.get(code.value)):
        return None
    if code.scheme.startswith("99") and code.scheme != "99IHE":
        return None
    if known:
        return f"The code {written} should mean {' or '.join(sorted(map(repr, known)))}."
    return f"The code {written} is neither in PS3.16 nor in pipelines.codes.OUTSIDE_PS3_16."
