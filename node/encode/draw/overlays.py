"""What is drawn of a result, and on which images: outlines of segments, regions of findings."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipelines.contract import Finding, Graphic, Presence, Region, Result, Segment
from pipelines.outline import outlines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.encode.work import Work

Color = tuple[int, int, int]

_UNCOLORED: tuple[Color, ...] = (
    (255, 196, 61),
    (79, 195, 247),
    (240, 98, 146),
    (129, 199, 132),
    (186, 148, 255),
    (255, 138, 101),
)
"""Given in turn to findings that have no segment to take a colour from."""


@dataclass(frozen=True)
class Overlay:
    """One thing that is drawn.

    Attributes:
        label: What the reader sees beside it; unique in a result.
        color: sRGB 0..255.
        tracking_uid: Of the segment or the finding.
        segment: Whose outline it is, if any.
        regions: Shapes that the pipeline drew itself.
    """

    label: str
    color: Color
    tracking_uid: str
    segment: Segment | None
    regions: tuple[Region, ...]

    def sizes(self) -> dict[int, int]:
        """Return the images that it is drawn on, ascending, each with its pixels of the mask."""
        counted = dict.fromkeys((region.image for region in self.regions), 0)
        if self.segment is not None:
            pixels = np.count_nonzero(self.segment.mask, axis=(1, 2))
            counted |= {int(image): int(pixels[image]) for image in np.flatnonzero(pixels)}
        return dict(sorted(counted.items()))

    def shapes(self, image: int) -> tuple[Region, ...]:
        """Return what is drawn on one image: closed outlines first."""
        drawn = [region for region in self.regions if region.image == image]
        return (*self._outlines(image), *drawn)

    def _outlines(self, image: int) -> Iterator[Region]:
        if self.segment is not None:
            outer, holes = outlines(self.segment.mask[image])
            for polygon in (*outer, *holes):
                points = tuple((float(column), float(row)) for column, row in polygon)
                yield Region(image, Graphic.POLYLINE, points)


def overlays(result: Result, work: Work) -> tuple[Overlay, ...]:
    """Return all that is drawn of a result: what its findings name first, each once."""
    segments = {segment.label: segment for segment in result.segments if segment.mask.any()}
    drawn = [finding for finding in result.findings if finding.presence is not Presence.ABSENT]
    named = dict.fromkeys(one.segment for one in drawn if one.segment in segments)
    labels = [label for label in named if label is not None]
    labels += [label for label in segments if label not in named]
    outlined = [
        Overlay(
            label=label,
            color=segments[label].color,
            tracking_uid=work.tracking_uid(segments[label]),
            segment=segments[label],
            regions=tuple(
                region for one in drawn if one.segment == label for region in one.regions
            ),
        )
        for label in labels
    ]
    return (*outlined, *_regions(result, segments, work))


def _regions(result: Result, segments: dict[str, Segment], work: Work) -> Iterator[Overlay]:
    """Yield the findings that are drawn without an outline; alike ones get numbers."""
    numbered = [
        (number, finding)
        for number, finding in enumerate(result.findings, start=1)
        if finding.regions
        and finding.presence is not Presence.ABSENT
        and finding.segment not in segments
    ]
    total = Counter(_name(finding) for _, finding in numbered)
    seen: Counter[str] = Counter()
    for place, (number, finding) in enumerate(numbered):
        name = _name(finding)
        seen[name] += 1
        yield Overlay(
            label=name if total[name] == 1 else f"{name[:58]} {seen[name]}",
            color=_UNCOLORED[place % len(_UNCOLORED)],
            tracking_uid=finding.tracking_uid or work.uid(f"tracking-finding-{number}"),
            segment=None,
            regions=finding.regions,
        )


def _name(finding: Finding) -> str:
    return finding.finding.meaning[:64]
