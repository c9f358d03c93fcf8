"""Fractures on one radiograph, as a detector of the site finds them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pipelines.contract import (
    Code,
    Finding,
    Graphic,
    ParametricMap,
    Patterns,
    Presence,
    Region,
    Result,
    Study,
)
from pipelines.runtimes.results import decided
from pipelines.site_reading import SiteReading
from pipelines.xray_fracture.detector import FLOOR, box_density, floor_of, suspicions
from pipelines.xray_fracture.places import site_of
from pipelines.xray_fracture.suitability import require_radiograph

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.runtimes import SiteNetwork
    from pipelines.runtimes.boxes import Box

MAP_LABEL = "Suspicion of the detector"
_SUSPICION = Code("DETECTORSUSPICION", "99RADNODE", "Suspicion of a detector")


class XrayFracture(SiteReading):
    """Draws the boxes of a site's detector. What that means is in ``card.md``."""

    name: ClassVar[str] = "xray-fracture"
    version: ClassVar[str] = "1.0.0"
    title: ClassVar[str] = "Radiograph: fractures"
    report: ClassVar[str] = "measurement_report"
    deadline_s: ClassVar[float] = 600.0
    settings: ClassVar[Mapping[str, str]] = {"floor": f"{FLOOR:g}"}
    missing: ClassVar[str] = (
        "No fracture model was added to this node, so nobody looked for fractures."
    )

    @property
    def input(self) -> Patterns:
        """Radiographs for presentation, of the parts that the site's model was made for."""
        network = self._stated()
        own: dict[str, str | tuple[str, ...]] = {
            "Modality": ("DX", "CR"),
            "SOPClassUID": ("1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1"),
        }
        return own if network is None else {**own, **network.manifest.input.match}

    def run(self, study: Study, /) -> Result:
        """Judge one radiograph by itself.

        Raises:
            CouldNotLook: There is no model, or the image is no radiograph that may be judged.
        """
        radiograph = require_radiograph(study)
        network = self.network()
        boxes = suspicions(network, radiograph)
        findings = [*_seen(boxes, network), *_unseen(boxes, network)]
        site, side = site_of(radiograph.attributes)
        placed = tuple(
            one if one.site is not None else replace(one, site=site, laterality=side)
            for one in findings
        )
        notes = [
            "This radiograph was judged alone: other views of the same part were not compared.",
            "Probabilities are the detector's own; nobody at this node calibrated them.",
        ]
        if site is None:
            notes.append("The header does not say for certain which part of the body this is.")
        density = box_density(boxes, radiograph.shape)
        maps = (ParametricMap(MAP_LABEL, _SUSPICION, "1", density),) if boxes else ()
        return Result(placed, notes=tuple(notes), maps=maps)


def _seen(boxes: tuple[Box, ...], network: SiteNetwork) -> list[Finding]:
    """Return what is there or undecided, each with its box."""
    threshold = network.manifest.output.threshold
    found = []
    for box in boxes:
        finding = decided(box.label, box.probability, threshold)
        if finding.presence is not Presence.ABSENT:
            found.append(replace(finding, regions=(_outline(box),)))
    return found


def _unseen(boxes: tuple[Box, ...], network: SiteNetwork) -> list[Finding]:
    """Return each label of which no box counts, as sure as its most probable box leaves it."""
    threshold = network.manifest.output.threshold
    found = []
    for label in network.labels:
        mine = [box.probability for box in boxes if box.label.index == label.index]
        highest = max(mine, default=floor_of(label, network.manifest))
        finding = decided(label, highest, threshold)
        if finding.presence is Presence.ABSENT and label.report_absent:
            found.append(finding)
    return found


def _outline(box: Box) -> Region:
    (_, top, left), (_, bottom, right) = box.low, box.high
    points = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
    return Region(0, Graphic.POLYLINE, points)
