"""What a model says, as a ``Result``: one function for each task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipelines import codes
from pipelines.contract import (
    CouldNotLook,
    Finding,
    Graphic,
    Images,
    Measurement,
    Presence,
    Region,
    Result,
    Segment,
    Study,
    Volume,
    Waveform,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.contract import Code
    from pipelines.runtimes.boxes import Box
    from pipelines.runtimes.sections import Label, Quantity
    from pipelines.runtimes.site_network import SiteNetwork

_SIDES = {"left": codes.LEFT, "right": codes.RIGHT}
ALIGNED_BY_SCANNER = (
    "The series were laid over each other by the scanner's coordinates; they were not registered."
)


def segmentation(network: SiteNetwork, series: Sequence[Study]) -> Result:
    """Outline every label on the grid of the first series."""
    findings, segments = [], []
    for label, mask in zip(network.labels, network.masks(*series).values(), strict=True):
        if not mask.any():
            findings += absent(label)
            continue
        segments.append(Segment(label.label, label.category, label.property, mask, label.colour))
        findings.append(
            Finding(
                label.property,
                category=label.category,
                site=label.site,
                laterality=_side(label),
                segment=label.label,
                measurements=_size(mask, series[0]),
                normal=label.normal,
            )
        )
    notes = (ALIGNED_BY_SCANNER,) if len(series) > 1 else ()
    return Result(tuple(findings), tuple(segments), notes)


def detection(network: SiteNetwork, series: Sequence[Study]) -> Result:
    """Draw every box on the images that it crosses."""
    study = series[0]
    boxes = network.boxes(*series)
    if isinstance(study, Waveform):  # refused by now
        raise CouldNotLook("This model looks at images, and this is a waveform.")
    findings = [_boxed(box, network.manifest.output.threshold, study) for box in boxes]
    seen = {box.label.index for box in boxes}
    for label in network.labels:
        if label.index not in seen:
            findings += absent(label)
    return Result(tuple(findings))


def classification(network: SiteNetwork, series: Sequence[Study]) -> Result:
    """State of every label whether it is there, and how sure the model is."""
    threshold = network.manifest.output.threshold
    findings = []
    for label, probability, _image in network.scores(*series):
        finding = decided(label, probability, threshold)
        if finding.presence is not Presence.ABSENT or label.report_absent:
            findings.append(finding)
    return Result(tuple(findings))


def regression(network: SiteNetwork, series: Sequence[Study]) -> Result:
    """Measure every quantity.

    Raises:
        CouldNotLook: One is outside of the range in which it makes sense.
    """
    numbers = network.numbers(*series)
    return Result(measured(network.manifest.quantities, numbers.tolist()))


def absent(label: Label, confidence: float | None = None) -> list[Finding]:
    """Return that the model looked for a label in vain, unless it is not to be said."""
    if not label.report_absent:
        return []
    return [
        Finding(
            label.property,
            Presence.ABSENT,
            category=label.category,
            site=label.site,
            laterality=_side(label),
            confidence=confidence,
            normal=label.normal,
        )
    ]


def decided(label: Label, probability: float, threshold: float) -> Finding:
    """Return what a probability means for a label.

    The confidence is of what is stated: of an absent finding, that it is absent.
    """
    least = threshold if label.threshold is None else label.threshold
    presence, confidence = Presence.ABSENT, 1.0 - probability
    if label.indeterminate and label.indeterminate[0] <= probability < label.indeterminate[1]:
        presence, confidence = Presence.INDETERMINATE, probability
    elif probability >= least:
        presence, confidence = Presence.PRESENT, probability
    return Finding(
        label.property,
        presence,
        category=label.category,
        site=label.site,
        laterality=_side(label),
        confidence=float(np.clip(confidence, 0.0, 1.0)),
        normal=label.normal,
    )


def measured(quantities: Sequence[Quantity], numbers: Sequence[float]) -> tuple[Finding, ...]:
    """Return one finding for each thing that was measured, with all its numbers.

    Raises:
        CouldNotLook: A number is outside of the range in which it makes sense, or missing.
    """
    by_finding: dict[Code, list[Measurement]] = {}
    for quantity in quantities:
        if quantity.index >= len(numbers):
            raise CouldNotLook(f"The model gave no number for {quantity.name.meaning}.")
        value = float(numbers[quantity.index]) * quantity.scale + quantity.offset
        if not quantity.lowest <= value <= quantity.highest:
            raise CouldNotLook(
                f"The model's number for {quantity.name.meaning} makes no sense: {value:.4g} "
                f"{quantity.unit}, where {quantity.lowest:g} to {quantity.highest:g} is possible."
            )
        measurement = Measurement(quantity.name, value, quantity.unit)
        by_finding.setdefault(quantity.finding, []).append(measurement)
    return tuple(
        Finding(finding, measurements=tuple(values)) for finding, values in by_finding.items()
    )


def _size(mask: np.ndarray, study: Study) -> tuple[Measurement, ...]:
    if not isinstance(study, Volume):
        return ()
    return (Measurement(codes.VOLUME, float(mask.sum()) * study.grid.voxel_volume_ml, "mL"),)


def _boxed(box: Box, threshold: float, study: Volume | Images) -> Finding:
    finding = decided(box.label, box.probability, threshold)
    (_, top, left), (_, bottom, right) = box.low, box.high
    points = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
    first = int(np.floor(box.low[0] + 0.5))
    last = max(first + 1, int(np.ceil(box.high[0] - 0.5)))
    images = range(min(first, study.shape[0] - 1), min(last, study.shape[0]))
    return Finding(
        finding.finding,
        finding.presence,
        category=finding.category,
        site=finding.site,
        laterality=finding.laterality,
        confidence=finding.confidence,
        measurements=_diameters(box, study),
        regions=tuple(Region(image, Graphic.POLYLINE, points) for image in images),
    )


def _diameters(box: Box, study: Volume | Images) -> tuple[Measurement, ...]:
    """Return the longer and the shorter side of the box in the slices, where that has a length."""
    spacing = study.spacing_mm
    if spacing is None:
        return ()
    row_mm, column_mm = spacing[-2:]
    sides = sorted(
        ((box.high[1] - box.low[1]) * row_mm, (box.high[2] - box.low[2]) * column_mm), reverse=True
    )
    return (
        Measurement(codes.LONG_AXIS, float(sides[0]), "mm"),
        Measurement(codes.SHORT_AXIS, float(sides[1]), "mm"),
    )


def _side(label: Label) -> Code | None:
    return _SIDES[label.laterality] if label.laterality else None
