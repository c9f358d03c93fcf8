"""What is known of findings: site, disease, and what guidelines recommend, from ``knowledge.toml``.

A rule is chosen by codes and numbers of a result, and says a sentence of its source: nothing here
is inferred, and no network has a part in it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.contract import Code, Presence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.contract import Finding, Measurement, Result

_FILE = Path(__file__).with_name("knowledge.toml")
Key = tuple[str, str]
"""Value and scheme of a code."""


@dataclass(frozen=True)
class Known:
    """What is known of a finding.

    Attributes:
        name: Within the file.
        code: In results.
        is_a: The more general finding, by its name; empty: none.
        words: How reports call it.
        sites: Where it may be.
        disease: Id of the Disease Ontology; empty: none that surely holds.
        advised_by: Pipeline that applies a guideline itself; empty: none does.
    """

    name: str
    code: Key
    is_a: str = ""
    words: tuple[str, ...] = ()
    sites: tuple[Code, ...] = ()
    disease: str = ""
    advised_by: str = ""


@dataclass(frozen=True)
class Measured:
    """A condition on a measurement: one of some codes, in a unit, within bounds."""

    codes: frozenset[Key]
    unit: str
    above: float | None = None
    at_most: float | None = None

    def holds(self, one: Measurement) -> bool:
        """Whether a measurement is one of these and within the bounds."""
        return (
            _key(one.name) in self.codes
            and one.unit == self.unit
            and (self.above is None or one.value > self.above)
            and (self.at_most is None or one.value <= self.at_most)
        )


@dataclass(frozen=True)
class Rule:
    """What a source recommends for a finding that is present, if a measurement is as it says."""

    finding: str
    sentence: str
    source: str
    measured: Measured | None = None


@dataclass(frozen=True)
class Knowledge:
    """The whole file; every name in it leads somewhere, and none in a circle."""

    findings: Mapping[str, Known]
    rules: tuple[Rule, ...] = ()

    def known(self, code: Code) -> Known | None:
        """Return what is known of a finding by its code."""
        return next((one for one in self.findings.values() if one.code == _key(code)), None)

    def kinds(self, known: Known) -> tuple[Known, ...]:
        """Return a finding and the more general ones, up to the most general."""
        found = [known]
        while found[-1].is_a:
            found.append(self.findings[found[-1].is_a])
        return tuple(found)

    def advice(self, result: Result) -> tuple[tuple[str, str], ...]:
        """Return what guidelines recommend for a result: (sentence, source), each once."""
        said: dict[tuple[str, str], None] = {}
        for finding in result.findings:
            known = self.known(finding.finding)
            if known is None or finding.presence is not Presence.PRESENT:
                continue
            names = {one.name for one in self.kinds(known)}
            for rule in self.rules:
                if rule.finding in names and _applies(rule, finding):
                    said[rule.sentence, rule.source] = None
        return tuple(said)


def advice(result: Result) -> tuple[tuple[str, str], ...]:
    """Return what guidelines recommend for a result: (sentence, source), each once."""
    return knowledge().advice(result)


@cache
def knowledge() -> Knowledge:
    """Return what ``knowledge.toml`` says.

    Raises:
        ValueError: It contradicts itself.
    """
    return read(_FILE.read_text("utf-8"))


def read(text: str) -> Knowledge:
    """Read such a file.

    Raises:
        ValueError: A name leads nowhere or in a circle, a code is there twice, a rule has no
            source, or a condition no bound.
        KeyError: Something is missing.
    """
    stated = tomllib.loads(text)
    findings = {name: _known(name, one) for name, one in stated["finding"].items()}
    rules = tuple(map(_rule, stated.get("rule", ())))
    codes = [one.code for one in findings.values()]
    if len(set(codes)) < len(codes):
        raise ValueError("Two findings have one code.")
    for one in findings.values():
        passed = [one.name]
        while above := findings[passed[-1]].is_a:
            if above not in findings:
                raise ValueError(f"{passed[-1]} is a kind of {above}, which is not there.")
            if above in passed:
                raise ValueError(f"{above} is a kind of itself.")
            passed.append(above)
    for rule in rules:
        if rule.finding not in findings:
            raise ValueError(f"A rule is about {rule.finding}, which is not there.")
        if not (rule.sentence.strip() and rule.source.strip()):
            raise ValueError(f"A rule about {rule.finding} says nothing, or has no source.")
    return Knowledge(findings, rules)


def _known(name: str, stated: Mapping[str, Any]) -> Known:
    value, scheme = stated["code"]
    return Known(
        name,
        (value, scheme),
        stated.get("is_a", ""),
        tuple(stated["words"]),
        tuple(Code(*site) for site in stated["sites"]),
        stated.get("disease", ""),
        stated.get("advised_by", ""),
    )


def _rule(stated: Mapping[str, Any]) -> Rule:
    one = stated.get("measured")
    if one is not None and not {"above", "at_most"} & one.keys():
        raise ValueError("A condition on a measurement has no bound.")
    measured = one and Measured(
        frozenset((value, scheme) for value, scheme in one["codes"]),
        one["unit"],
        one.get("above"),
        one.get("at_most"),
    )
    return Rule(stated["finding"], stated["sentence"], stated["source"], measured)


def _applies(rule: Rule, finding: Finding) -> bool:
    return rule.measured is None or any(map(rule.measured.holds, finding.measurements))


def _key(code: Code) -> Key:
    return code.value, code.scheme
