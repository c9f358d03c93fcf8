"""What became of the lesions of earlier studies: the same, grown, gone, or new.

An earlier study is laid over the present one, lesions of the same kind are paired by where they
are, and a pair keeps the tracking UID that it has had since it was first seen. Volumes are those
of each study's own voxels: nothing that is measured was resampled.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import dist, pi
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipelines.assignment import assign
from pipelines.contract import Code, Finding, Grid, Presence, Result, Volume
from pipelines.growth import Growth, before
from pipelines.registration import Alignment, align

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from pipelines.geometry import Vector

SAME_PLACE_MM = 10.0
"""How far apart the centres of one lesion may be: lungs, rigidly aligned, breathe by as much.
A larger lesion's centre may be off by its radius, for it need not grow evenly."""

NO_PRIOR = "No earlier result was found."


@dataclass(frozen=True)
class Lesion:
    """Something that a result outlines.

    Attributes:
        label: What that result calls it.
        finding: What it is.
        tracking_uid: By which it has been known since it was first seen; empty: by none.
        centre_mm: Of its voxels, in its study's patient coordinates (LPS).
        volume_ml: Of its voxels, not zero.
    """

    label: str
    finding: Code
    tracking_uid: str
    centre_mm: Vector
    volume_ml: float

    @property
    def radius_mm(self) -> float:
        """Of a ball of its volume."""
        return float((750.0 * self.volume_ml / pi) ** (1.0 / 3.0))


@dataclass(frozen=True)
class Prior:
    """An earlier result of the same pipeline for the same patient.

    Attributes:
        acquired: When its images were taken.
        volume: Those images.
        lesions: What it outlines; none: looked, found nothing.
        imaged: Which voxels images show, where the volume is more than them; None: all.
    """

    acquired: date
    volume: Volume
    lesions: tuple[Lesion, ...] = ()
    imaged: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class _Known:
    """A present lesion's former self, and when that was."""

    lesion: Lesion
    acquired: date


@dataclass
class _Comparison:
    """What is known so far.

    Attributes:
        known: Label of a present lesion -> the latest earlier one that it is.
        gone: Of the latest study that could be compared, what is not there any more ...
        unseen: ... and what these images do not show.
        latest: That study; None: none could be.
        reached: Labels of present lesions whose place that study shows.
        notes: For the reader.
    """

    known: dict[str, _Known] = field(default_factory=dict)
    gone: list[Lesion] = field(default_factory=list)
    unseen: list[Lesion] = field(default_factory=list)
    latest: Prior | None = None
    reached: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)


def follow_up(
    volume: Volume,
    result: Result,
    priors: Sequence[Prior],
    acquired: date,
    imaged: npt.NDArray[np.bool_] | None = None,
) -> Result:
    """Return the result with what earlier studies add to it.

    Each lesion is looked for in the latest study that can be laid over this one, then in the one
    before it, and so on. Gone is what the latest of them shows and this one does not.

    Args:
        volume: What the pipeline saw.
        result: What it found.
        priors: Earlier results of the same pipeline, in any order.
        acquired: When the present images were taken.
        imaged: Which voxels they show, where the volume is more than them; None: all.

    Returns:
        The same findings and segments, with their tracking UID and growth where they were known
        before; an absent finding for each that is gone; a note for every lesion.
    """
    if not priors:
        return replace(result, notes=(*result.notes, NO_PRIOR))
    present = _present(volume, result)
    compared = _compare(
        volume, present, [one for one in priors if one.acquired <= acquired], imaged
    )
    compared.notes += [
        f"The images of {one.acquired} are later than these, so their result was not compared."
        for one in priors
        if one.acquired > acquired
    ]
    if not present and any(map(_is_found, result.findings)):
        compared.notes.append("What was found here is not outlined, so it was not compared.")
    return _told(result, present, compared, acquired)


def _is_found(finding: Finding) -> bool:
    return finding.presence is not Presence.ABSENT and not finding.normal


def _compare(
    volume: Volume,
    present: Mapping[str, Lesion],
    priors: Sequence[Prior],
    imaged: npt.NDArray[np.bool_] | None,
) -> _Comparison:
    so_far = _Comparison()
    handled: set[str] = set()
    for prior in sorted(priors, key=lambda one: one.acquired, reverse=True):
        sought = [one for label, one in present.items() if label not in so_far.known]
        if so_far.latest is not None and not sought:
            break
        if not present and not prior.lesions:
            so_far.latest = prior
            so_far.notes.append(f"The result of {prior.acquired} has no outlined finding either.")
            break
        alignment = align(prior.volume, volume)
        if not alignment.is_good:
            so_far.notes.append(
                f"The study of {prior.acquired} could not be laid over this one (correlation "
                f"{alignment.similarity:.2f}), so its result was not compared."
            )
            continue
        earlier = [
            _moved(one, alignment) for one in prior.lesions if one.tracking_uid not in handled
        ]
        handled |= {one.tracking_uid for one in earlier} - {""}
        pairs = assign(_distances(earlier, sought), limit=1.0)
        so_far.known |= {
            sought[now].label: _Known(earlier[then], prior.acquired) for then, now in pairs
        }
        if so_far.latest is None:
            so_far.latest = prior
            there = alignment.inverse
            so_far.reached = frozenset(
                one.label
                for one in sought
                if _shows(prior.volume, prior.imaged, there(np.array(one.centre_mm)))
            )
            paired = {then for then, _ in pairs}
            for one in (one for then, one in enumerate(earlier) if then not in paired):
                seen = _shows(volume, imaged, one.centre_mm)
                (so_far.gone if seen else so_far.unseen).append(one)
    return so_far


def _present(volume: Volume, result: Result) -> dict[str, Lesion]:
    """Return the lesions of the present result by their label."""
    kinds = {one.segment: one.finding for one in reversed(result.findings) if one.segment}
    return {
        one.label: Lesion(
            one.label,
            kinds.get(one.label, one.property),
            "",
            _centre_mm(one.mask, volume.grid),
            float(one.mask.sum()) * volume.grid.voxel_volume_ml,
        )
        for one in result.segments
        if one.mask.any()
    }


def _centre_mm(mask: npt.NDArray[np.bool_], grid: Grid) -> Vector:
    along = (mask.sum(axis=axes) for axes in ((1, 2), (0, 2), (0, 1)))
    index = [float(np.average(np.arange(len(count)), weights=count)) for count in along]
    return _vector((grid.affine @ (*index, 1.0))[:3])


def _vector(values: npt.NDArray[np.float64]) -> Vector:
    return (float(values[0]), float(values[1]), float(values[2]))


def _moved(lesion: Lesion, alignment: Alignment) -> Lesion:
    return replace(lesion, centre_mm=_vector(alignment(np.array(lesion.centre_mm))))


def _distances(earlier: Sequence[Lesion], now: Sequence[Lesion]) -> npt.NDArray[np.float64]:
    """Return how far apart each pair is; 1 and more: no pair."""
    apart = np.ones((len(earlier), len(now)))
    for row, old in enumerate(earlier):
        for column, new in enumerate(now):
            if old.finding == new.finding:
                allowed_mm = max(SAME_PLACE_MM, old.radius_mm, new.radius_mm)
                distance_mm = dist(old.centre_mm, new.centre_mm)
                apart[row, column] = distance_mm / allowed_mm
    return apart


def _shows(
    volume: Volume,
    imaged: npt.NDArray[np.bool_] | None,
    point_mm: Vector | npt.NDArray[np.float64],
) -> bool:
    index = (np.linalg.inv(volume.grid.affine) @ (*point_mm, 1.0))[:3]
    inside = bool(((index >= -0.5) & (index <= np.array(volume.shape) - 0.5)).all())
    if imaged is None or not inside:
        return inside
    nearest = np.clip(np.rint(index).astype(int), 0, np.array(volume.shape) - 1)
    return bool(imaged[tuple(nearest)])


def _told(
    result: Result, present: Mapping[str, Lesion], compared: _Comparison, acquired: date
) -> Result:
    """Write the comparison into the result."""
    known = compared.known
    growth = {
        label: Growth(one.lesion.volume_ml, present[label].volume_ml, one.acquired, acquired)
        for label, one in known.items()
    }
    findings = []
    unsaid = dict(growth)
    for finding in result.findings:
        label = finding.segment
        if label is None or label not in known:
            findings.append(finding)
            continue
        grown = unsaid.pop(label, None)  # once, where several findings are about one segment
        findings.append(
            replace(
                finding,
                tracking_uid=known[label].lesion.tracking_uid,
                measurements=(*finding.measurements, *(grown.measurements if grown else ())),
            )
        )
    findings += [
        Finding(
            segment.property,
            category=segment.category,
            segment=segment.label,
            measurements=growth[segment.label].measurements,
            tracking_uid=known[segment.label].lesion.tracking_uid,
        )
        for segment in result.segments
        if segment.label in unsaid
    ]
    if compared.latest is not None:
        days = (acquired - compared.latest.acquired).days
        findings += [
            Finding(
                one.finding,
                Presence.ABSENT,
                measurements=before(one.volume_ml, days),
                tracking_uid=one.tracking_uid,
            )
            for one in compared.gone
        ]
    segments = tuple(
        replace(segment, tracking_uid=known[segment.label].lesion.tracking_uid)
        if segment.label in known
        else segment
        for segment in result.segments
    )
    notes = (*result.notes, *compared.notes, *_sentences(present, compared, growth))
    return replace(result, findings=tuple(findings), segments=segments, notes=notes)


def _sentences(
    present: Mapping[str, Lesion], compared: _Comparison, growth: Mapping[str, Growth]
) -> list[str]:
    """Return one for every lesion, present or not; none where nothing could be compared."""
    if compared.latest is None:
        return []
    then = compared.latest.acquired
    said = []
    for label in present:
        if label in growth:
            said.append(f"{label}: {growth[label]}.")
        elif label in compared.reached:
            said.append(f"{label}: new, not in the result of {then}.")
        else:
            said.append(f"{label}: lies where the images of {then} do not reach.")
    said += [
        f"{one.label} of {then} ({one.volume_ml:.3g} mL): not found any more."
        for one in compared.gone
    ]
    said += [
        f"{one.label} of {then} ({one.volume_ml:.3g} mL): lies where these images do not reach."
        for one in compared.unseen
    ]
    return said
