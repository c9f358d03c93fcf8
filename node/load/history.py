"""What earlier reports of the patient say of what was found now: known, or denied, and when.

Of a report only its date is told, and the finding's own words: never a word of the report.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EncapsulatedCDAStorage,
    EnhancedSRStorage,
)

from node.load.source import read_headers
from node.malformed import MALFORMED
from pipelines.codes import ANATOMICAL_STRUCTURE, TISSUE
from pipelines.contract import Presence
from pipelines.knowledge import ontology
from pipelines.knowledge.graph import knowledge
from pipelines.knowledge.negation import Status, mentions
from pipelines.models import ModelChanged
from sr_templates.tree import name_of, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from pydicom import Dataset

    from pipelines.contract import Finding, Result
    from pipelines.knowledge.ontology import Ontology

STRUCTURED = tuple(
    map(
        str,
        (
            BasicTextSRStorage,
            EnhancedSRStorage,
            ComprehensiveSRStorage,
            Comprehensive3DSRStorage,
        ),
    )
)
CLINICAL_DOCUMENT = str(EncapsulatedCDAStorage)
LARGEST_DOCUMENT_BYTES = 5_000_000

_SAYS_WHAT_IS = frozenset(
    {
        ("DCM", "121070"),  # Findings
        ("DCM", "121071"),  # Finding
        ("DCM", "121072"),  # Impressions
        ("DCM", "121073"),  # Impression
        ("DCM", "121076"),  # Conclusions
        ("DCM", "121077"),  # Conclusion
        ("LN", "59776-5"),  # Findings
        ("LN", "18782-3"),  # Radiology Study observation
        ("LN", "19005-8"),  # Impressions
        ("LN", "55110-1"),  # Conclusions
    }
)
"""Headings of TID 2000 (CID 7002, 7003) and of PS3.20 section 9 under which a report says what is.
The question, the history, and earlier findings stand under others."""
_LOINC = "2.16.840.1.113883.6.1"
_CDA = "{urn:hl7-org:v3}"


@dataclass(frozen=True)
class EarlierReport:
    """What an earlier report says is there, as text, and the day of its study."""

    day: date
    text: str


def with_history(result: Result, reports: Sequence[Path]) -> Result:
    """Return a result with a note for each finding that earlier reports speak of.

    A report counts that affirms a finding and nowhere denies it, or the other way around; one that
    does both, or is unsure, says nothing of use.

    Args:
        result: Of the present study.
        reports: Structured reports and clinical documents of earlier studies of the same patient.
    """
    read, problems = [], []
    for path in reports:
        try:
            read.append(report_of(read_headers([path])[0]))
        except (OSError, ET.ParseError, *MALFORMED):
            problems.append("An earlier report could not be read.")
    diseases = _diseases() if read else ontology.Ontology()
    notes: list[str] = []
    for finding in result.findings:
        if _is_looked_up(finding):
            notes += _notes(finding, sorted(read, key=lambda one: one.day), diseases)
    return replace(result, notes=(*result.notes, *dict.fromkeys([*notes, *problems])))


def report_of(header: Dataset) -> EarlierReport:
    """Return what a report says is there.

    Raises:
        ValueError: It does not say when, is of another kind, or too large; what reading a damaged
            one raises is in ``MALFORMED``, or an ``ET.ParseError``.
    """
    day = datetime.strptime(str(header.get("StudyDate", "")), "%Y%m%d").date()  # noqa: DTZ007 - DA
    if str(header.SOPClassUID) in STRUCTURED:
        return EarlierReport(day, "\n".join(_structured(header)))
    if str(header.SOPClassUID) == CLINICAL_DOCUMENT:
        return EarlierReport(day, "\n".join(_clinical_document(header.EncapsulatedDocument)))
    raise ValueError("It is no report that is read.")


def _structured(node: Dataset) -> Iterator[str]:
    for item in node.get("ContentSequence") or ():
        name = name_of(item)
        if (name.scheme, name.value) in _SAYS_WHAT_IS:
            yield from (
                str(text.TextValue)
                for text in (item, *walk(item))
                if text.get("ValueType") == "TEXT" and text.get("TextValue")
            )
        else:
            yield from _structured(item)


def _clinical_document(content: bytes) -> Iterator[str]:
    """Yield the text of the sections that say what is.

    Raises:
        ValueError: It is too large, or declares entities, with which a page becomes gigabytes.
    """
    if len(content) > LARGEST_DOCUMENT_BYTES or b"<!" in content.replace(b"<!--", b""):
        raise ValueError("The document is too large, or has a DOCTYPE.")
    root = ET.fromstring(content.rstrip(b"\0"))  # noqa: S314 - no entity but XML's own
    for section in root.iter(f"{_CDA}section"):
        code, text = section.find(f"{_CDA}code"), section.find(f"{_CDA}text")
        if code is None or text is None or code.get("codeSystem") != _LOINC:
            continue
        if ("LN", code.get("code", "")) in _SAYS_WHAT_IS:
            yield "\n".join(part.strip() for part in text.itertext() if part.strip())


def _is_looked_up(finding: Finding) -> bool:
    """Whether it is something to be known of: there, and neither normal nor a part of the body."""
    return (
        finding.presence is Presence.PRESENT
        and not finding.normal
        and finding.category not in (ANATOMICAL_STRUCTURE, TISSUE)
    )


def _notes(finding: Finding, reports: Sequence[EarlierReport], diseases: Ontology) -> Iterator[str]:
    words = _words(finding, diseases)
    said = [(one.day, _said(one.text, words)) for one in reports]
    affirmed = [day for day, status in said if status is Status.AFFIRMED]
    negated = [day for day, status in said if status is Status.NEGATED]
    name = finding.finding.meaning
    if affirmed:
        yield (
            f"Known since {affirmed[0]}: {name}, as an earlier report says. "
            "Whether it is the same one is for the reader."
        )
    if negated:
        yield f"Negated in the report of {negated[-1]}: {name}."


def _words(finding: Finding, diseases: Ontology) -> tuple[str, ...]:
    """Return how reports call a finding: as it is coded, as is known, as its disease is called."""
    meaning = finding.finding.meaning
    known = knowledge().known(finding.finding)
    disease = diseases.find(meaning)
    return (
        meaning,
        *(known.words if known else ()),
        *(diseases.words(disease.id) if disease else ()),
    )


def _said(text: str, words: Iterable[str]) -> Status | None:
    """Return what a report says of a finding; None where it says nothing, or not one thing."""
    statuses = {one.status for one in mentions(text, words)}
    if Status.NEGATED in statuses and Status.AFFIRMED not in statuses:
        return Status.NEGATED if Status.UNCERTAIN not in statuses else None
    if Status.AFFIRMED in statuses and Status.NEGATED not in statuses:
        return Status.AFFIRMED
    return None


def _diseases() -> Ontology:
    try:
        return ontology.added()
    except (ModelChanged, ontology.NotAnOntology):  # 'radnode models verify' says so
        return ontology.Ontology()
