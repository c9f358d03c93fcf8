"""From nodules to a result: findings, outlines, and what the guidelines say for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.codes import (
    ATTENUATION_COEFFICIENT,
    LONG_AXIS,
    LUNG,
    MEAN,
    MORPHOLOGICALLY_ABNORMAL,
    NODULE,
    SHORT_AXIS,
    VOLUME,
)
from pipelines.contract import Finding, Measurement, Presence, Result, Segment
from pipelines.lung_nodule_ct.codes import DIAMETER
from pipelines.lung_nodule_ct.guidelines import Kind, fleischner, lung_rads
from pipelines.lung_nodule_ct.nodule import place
from pipelines.lungs.suitability import age_years, thickness_mm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.contract import Volume
    from pipelines.lung_nodule_ct.nodule import Nodule
    from pipelines.lungs.segmentation import Lungs

MOST = 10
"""Nodules that are reported, the most probable first; Fleischner judges the most suspicious."""
_THIN_MM = 1.5
_YOUNGEST = 35
_LARGEST_MM = 30.0
"""Above, it is a mass (Hansell et al. 2008, Radiology 246:697-722), which no table here is for."""
NOT_FOR = (
    "The Fleischner table is for incidental nodules at 35 years or older, without known cancer or "
    "immunosuppression; Lung-RADS for a first screening CT, by size alone. Both state what the "
    "table says for these sizes, whether the detections are nodules or not."
)


def result(
    volume: Volume, lungs: Lungs, nodules: Sequence[Nodule], notes: tuple[str, ...]
) -> Result:
    """Return the result, whether or not there is a nodule."""
    if not nodules:
        absent = Finding(NODULE, Presence.ABSENT, category=MORPHOLOGICALLY_ABNORMAL, site=LUNG)
        return Result((absent,), notes=notes)
    shown = nodules[:MOST]
    if len(nodules) > MOST:
        notes += (f"Of {len(nodules)} detections the {MOST} most probable are reported.",)
    findings, segments = [], []
    for number, nodule in enumerate(shown, 1):
        label = f"Nodule {number}"
        site, side = place(volume, lungs, nodule.mask)
        findings.append(
            Finding(
                NODULE,
                category=MORPHOLOGICALLY_ABNORMAL,
                site=site,
                laterality=side,
                confidence=nodule.probability,
                segment=label,
                measurements=_measurements(volume, nodule),
            )
        )
        segments.append(Segment(label, MORPHOLOGICALLY_ABNORMAL, NODULE, nodule.mask))
    return Result(tuple(findings), tuple(segments), (*notes, *_advice(volume, nodules)))


def _measurements(volume: Volume, nodule: Nodule) -> tuple[Measurement, ...]:
    volume_ml = int(nodule.mask.sum()) * volume.grid.voxel_volume_ml
    mean_hu = float(volume.voxels[nodule.mask].mean())
    return (
        Measurement(LONG_AXIS, nodule.long_mm, "mm"),
        Measurement(SHORT_AXIS, nodule.short_mm, "mm"),
        Measurement(DIAMETER, nodule.mean_mm, "mm", derivation=MEAN),
        Measurement(VOLUME, volume_ml, "mL"),
        Measurement(ATTENUATION_COEFFICIENT, mean_hu, "[hnsf'U]", derivation=MEAN),
    )


def _advice(volume: Volume, nodules: Sequence[Nodule]) -> tuple[str, ...]:
    """Return what both tables say for the largest nodule."""
    largest = max(nodules, key=lambda one: one.mean_mm)
    if largest.mean_mm > _LARGEST_MM:
        return (
            (
                f"The largest detection measures {largest.mean_mm:.0f} mm in the mean: a mass, for "
                "which these tables for nodules are not made."
            ),
        )
    notes = []
    if thickness_mm(volume) > _THIN_MM:
        notes.append(
            f"The slices are {thickness_mm(volume):.1f} mm thick or apart; the guidelines ask for "
            f"{_THIN_MM} mm or less. Sizes are coarse, and solid is not told from subsolid."
        )
    age = age_years(volume.attributes)
    if age is not None and age < _YOUNGEST:
        notes.append(
            f"The patient is under {_YOUNGEST} years old: neither table is for this patient."
        )
        return tuple(notes)
    several = len(nodules) > 1
    number = f"the largest of {len(nodules)} nodules" if several else "a single nodule"
    kinds = (Kind.SOLID,) if largest.solid else tuple(Kind)
    for kind in kinds:
        advice = fleischner(largest.mean_mm, kind, several=several)
        said = f"Fleischner 2017 for {number} of {largest.mean_mm:.0f} mm, "
        said += "solid by its density: " if largest.solid else f"if {kind.value}: "
        if advice.low_risk == advice.high_risk:
            notes.append(f"{said}{advice.low_risk}.")
        else:
            notes.append(f"{said}at low risk {advice.low_risk}; at high risk {advice.high_risk}.")
    notes.append(_screening(largest))
    return (*notes, NOT_FOR)


def _screening(largest: Nodule) -> str:
    size = f"Lung-RADS v2022, first screening, for {largest.mean_mm:.1f} mm: "
    solid = lung_rads(largest.mean_mm, Kind.SOLID)
    if largest.solid:
        return f"{size}category {solid}."
    glass = lung_rads(largest.mean_mm, Kind.GROUND_GLASS)
    return (
        f"{size}category {solid} if solid, {glass} if ground glass; a part-solid nodule goes by "
        "its solid component."
    )
