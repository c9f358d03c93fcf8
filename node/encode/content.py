"""What a picture and a document say of a result: the words of the report, and its views."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from node.encode.overlays import overlays
from node.encode.views import strip, views
from sr_templates import context
from sr_templates.could_not_look import NOT_ANALYSED

if TYPE_CHECKING:
    from node.encode.overlays import Color, Overlay
    from node.encode.views import Strip, View
    from node.encode.work import Work
    from node.load.source import Source
    from pipelines.contract import Measurement, Result

_UNITS = {
    "1": "",
    "[hnsf'U]": "HU",
    "{pixels}": "pixels",
    "cm2": "cm²",
    "cm3": "cm³",
    "mm2": "mm²",
    "mm3": "mm³",
    "uV": "µV",
}
"""UCUM -> as it is printed; other units print as they are."""


class Measured(NamedTuple):
    """A measurement in words: ``interval`` is empty where the pipeline knows none."""

    name: str
    value: str
    interval: str


@dataclass(frozen=True)
class Statement:
    """One sentence of the summary, and what was measured of what it is about.

    Attributes:
        about: What it is about, the sentence up to its colon; empty for a note.
        text: The rest of the sentence.
        color: In which it is drawn; None for what is not drawn.
        measurements: Of what it is about.
    """

    about: str
    text: str
    color: Color | None = None
    measurements: tuple[Measured, ...] = ()


@dataclass(frozen=True)
class Content:
    """All that is shown of one result.

    Attributes:
        title: Of the series.
        refusal: Why there is no result, as a headline; empty if there is one.
        statements: In the report's order.
        provenance: Who made it, from what.
        views: Images; empty for a recording.
        strip: The recording, if it is one.
    """

    title: str
    refusal: str
    statements: tuple[Statement, ...]
    provenance: tuple[str, ...]
    views: tuple[View, ...] = ()
    strip: Strip | None = None


def content(source: Source, result: Result, work: Work) -> Content:
    """Return what is shown of a result."""
    drawn = overlays(result, work)
    return Content(
        title=work.title,
        refusal="",
        statements=_statements(result, drawn),
        provenance=tuple(context.provenance(work.author)),
        views=views(source, drawn),
        strip=strip(source, result),
    )


def refusal(reason: str, work: Work) -> Content:
    """Return what is shown of a study that was not judged."""
    headline, _, rest = NOT_ANALYSED.partition(". ")
    return Content(
        title=work.title,
        refusal=headline,
        statements=(Statement("", reason), Statement("", rest)),
        provenance=tuple(context.provenance(work.author)),
    )


def _statements(result: Result, drawn: tuple[Overlay, ...]) -> tuple[Statement, ...]:
    """Return the summary's sentences; those of findings come first, in their order."""
    colors = {overlay.label: overlay.color for overlay in drawn}
    regions = {overlay.regions: overlay.color for overlay in drawn if overlay.segment is None}
    statements = []
    for place, sentence in enumerate(context.summary(result)):
        finding = result.findings[place] if place < len(result.findings) else None
        if finding is not None:
            about, _, text = sentence.partition(": ")
            color = colors.get(finding.segment or "") or regions.get(finding.regions)
            measurements = tuple(map(_measured, finding.measurements))
            statements.append(Statement(about, text, color, measurements))
            continue
        outlined = sentence.removeprefix("Outlined: ").removesuffix(".")
        about, text = ("Outlined", outlined) if outlined in colors else ("", sentence)
        statements.append(Statement(about, text, colors.get(outlined)))
    return tuple(statements)


def _measured(measurement: Measurement) -> Measured:
    name = measurement.name.meaning
    if measurement.derivation is not None:
        name = f"{name}, {measurement.derivation.meaning.lower()}"
    unit = _UNITS.get(measurement.unit, measurement.unit)
    value = f"{_number(measurement.value)} {unit}".strip()
    if measurement.lowest is None or measurement.highest is None:
        return Measured(name, value, "")
    bounds = f"{_number(measurement.lowest)} to {_number(measurement.highest)}"
    return Measured(name, value, f"(95 % interval {bounds})")


def _number(value: float) -> str:
    """Return four significant digits, never an exponent."""
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    digits = min(max(3 - magnitude, 0), 9)
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
