"""From what the networks see to what the report says: kinds, volumes, sides, how sure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines import codes as shared
from pipelines.contract import Code, Finding, Measurement, Presence, Segment
from pipelines.head_ct_haemorrhage import codes, lesions
from pipelines.midline import side_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.contract import Grid
    from pipelines.head_ct_haemorrhage.lesions import Lesions

LEAST_ML = 0.5
"""Own limit: less than this of one kind is told as undecided. Nobody has measured it."""


class Kind(NamedTuple):
    """One of the things the networks tell apart."""

    label: int
    name: str
    code: Code
    color: tuple[int, int, int]


KINDS = (
    Kind(
        lesions.INTRAPARENCHYMAL,
        "Intraparenchymal haemorrhage",
        codes.INTRAPARENCHYMAL,
        (230, 70, 60),
    ),
    Kind(lesions.EXTRA_AXIAL, "Extra-axial haemorrhage", codes.EXTRA_AXIAL, (250, 150, 40)),
    Kind(
        lesions.INTRAVENTRICULAR,
        "Intraventricular haemorrhage",
        codes.INTRAVENTRICULAR,
        (200, 60, 200),
    ),
    Kind(lesions.OEDEMA, "Perilesional oedema", codes.OEDEMA, (80, 170, 230)),
)


def segments(found: Lesions) -> tuple[Segment, ...]:
    """Return a segment for each kind of which there is a voxel."""
    return tuple(
        Segment(kind.name, shared.MORPHOLOGICALLY_ABNORMAL, kind.code, mask, kind.color)
        for kind in KINDS
        if (mask := found.mask(kind.label)).any()
    )


def of_each_kind(
    found: Lesions, grid: Grid, left_mm: npt.NDArray[np.float32] | None
) -> tuple[Finding, ...]:
    """Return a finding for each kind, also for those that were not found.

    Args:
        found: On the series' grid.
        grid: Of the series.
        left_mm: How far each voxel is left of the midline; None: that is not known.
    """
    return tuple(_finding(kind, found, grid, left_mm) for kind in KINDS)


def _finding(
    kind: Kind, found: Lesions, grid: Grid, left_mm: npt.NDArray[np.float32] | None
) -> Finding:
    mask = found.mask(kind.label)
    volume_ml = int(mask.sum()) * grid.voxel_volume_ml
    if not volume_ml:
        highest = float(found.probability[kind.label].max(initial=0.0))
        return Finding(
            kind.code,
            Presence.ABSENT,
            category=shared.MORPHOLOGICALLY_ABNORMAL,
            site=shared.BRAIN,
            confidence=min(max(1.0 - highest, 0.0), 1.0),
        )
    side, share = side_of(mask, left_mm)
    measurements = [Measurement(shared.VOLUME, volume_ml, "mL")]
    if share is not None:
        measurements.append(Measurement(codes.LEFT_SHARE, 100.0 * share, "%"))
    confident = float(found.probability[kind.label][mask].max())
    return Finding(
        kind.code,
        Presence.PRESENT if volume_ml >= LEAST_ML else Presence.INDETERMINATE,
        category=shared.MORPHOLOGICALLY_ABNORMAL,
        site=shared.BRAIN,
        laterality=side,
        confidence=min(max(confident, 0.0), 1.0),
        segment=kind.name,
        measurements=tuple(measurements),
    )


def together(each: Sequence[Finding], found: Lesions, grid: Grid) -> Finding:
    """Return the finding that is asked for first: is there blood, of whatever kind."""
    blood = np.isin(found.labels, lesions.BLOOD)
    volume_ml = int(blood.sum()) * grid.voxel_volume_ml
    of_blood = [one for one in each if one.finding != codes.OEDEMA]
    said = {one.presence for one in of_blood}
    presence = next(
        one for one in (Presence.PRESENT, Presence.INDETERMINATE, Presence.ABSENT) if one in said
    )
    chosen = [one.confidence or 0.0 for one in of_blood if one.presence is presence]
    return Finding(
        shared.HAEMORRHAGE,
        presence,
        category=shared.MORPHOLOGICALLY_ABNORMAL,
        site=shared.BRAIN,
        confidence=min(chosen) if presence is Presence.ABSENT else max(chosen),
        measurements=(Measurement(codes.TOTAL_VOLUME, volume_ml, "mL"),) if volume_ml else (),
    )
