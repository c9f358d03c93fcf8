"""What a picture and a document say of a result: the words of the report, and its views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.encode.draw.overlays import overlays
from node.encode.draw.views import strip, views
from sr_templates import context
from sr_templates.could_not_look import NOT_ANALYSED
from sr_templates.quantities import in_words

if TYPE_CHECKING:
    from node.encode.draw.overlays import Color, Overlay
    from node.encode.draw.views import Strip, View
    from node.encode.work import Work
    from node.load.source import Source
    from pipelines.contract import Chart, Result
    from sr_templates.quantities import Quantity


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
    measurements: tuple[Quantity, ...] = ()


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
        charts: As the pipeline gave them.
    """

    title: str
    refusal: str
    statements: tuple[Statement, ...]
    provenance: tuple[str, ...]
    views: tuple[View, ...] = ()
    strip: Strip | None = None
    charts: tuple[Chart, ...] = ()


def content(source: Source, result: Result, work: Work) -> Content:
    """Return what is shown of a result."""
    drawn = overlays(result, work)
    return Content(
        title=work.title,
        refusal="",
        statements=_statements(result, drawn),
        provenance=tuple(context.provenance(work.author)),
        views=views(source, drawn, result.maps),
        strip=strip(source, result),
        charts=result.charts,
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
            measurements = tuple(map(in_words, finding.measurements))
            said = " ".join([text, *context.place(finding)])
            statements.append(Statement(about, said, color, measurements))
            continue
        outlined = sentence.removeprefix("Outlined: ").removesuffix(".")
        about, text = ("Outlined", outlined) if outlined in colors else ("", sentence)
        statements.append(Statement(about, text, colors.get(outlined)))
    return tuple(statements)
