"""How large the brain and its parts are on a T1-weighted head MR.

deepbet outlines the brain. What else is measured depends on the networks that were added to the
node: see ``networks.py``.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from pipelines.brain_mr_volumetry import suitability
from pipelines.brain_mr_volumetry.codes import (
    ASYMMETRY,
    BRAIN_TISSUE_SHARE,
    GREY_MATTER,
    HIPPOCAMPUS,
    WHITE_MATTER,
)
from pipelines.brain_mr_volumetry.networks import installed
from pipelines.brain_mr_volumetry.weights import read_weights
from pipelines.codes import ANATOMICAL_STRUCTURE, BRAIN, LEFT, RIGHT, VOLUME
from pipelines.contract import (
    CouldNotLook,
    Finding,
    Grid,
    Measurement,
    Model,
    Patterns,
    Presence,
    Result,
    Segment,
    Study,
    Volume,
)
from pipelines.geometry import RAS, reorder_towards

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pipelines.brain_mr_volumetry.extraction import BrainExtraction
    from pipelines.brain_mr_volumetry.parts import Part

THRESHOLD = 0.5
SMALLEST_ML, LARGEST_ML = 300.0, 2500.0
"""Far outside what adults have: a tripwire for a mask that is no brain, not a norm."""

HIPPOCAMPUS_ML = (1.73, 5.68)
"""Smallest and largest volume of one side in the studies of healthy adults that Honeycutt and
Smith 1995 reviewed, J Neuroimaging 5:95-100."""

CUT_OFF_CM2 = 10.0
"""A larger section at the edge of the images is more than the foramen magnum lets through, so
brain is missing. With the lowest 10 mm of one brain cut away it was 29 cm2 (card.md)."""

LABEL = "Brain"
_TOWARDS = (("right", "left"), ("front", "back"), ("feet", "head"))
"""Names of the two ways along x, y and z."""
_DEEPBET_DATA = "7837 T1-weighted MR images of adults from 191 OpenNeuro data sets"


class BrainMrVolumetry:
    """How large are the brain and its parts?"""

    name: ClassVar[str] = "brain-mr-volumetry"
    version: ClassVar[str] = "2.0.0"
    title: ClassVar[str] = "Brain volumes from T1-weighted MR"
    input: ClassVar[Patterns] = {
        "Modality": "MR",
        "ImageType": "!LOCALIZER",
        # Never a T1-weighted head: echo-planar images, and what its own name calls T2.
        "ScanningSequence": "!EP",
        "SeriesDescription": "!T2*",
    }
    report: ClassVar[str] = "measurement_report"
    deadline_s: ClassVar[float] = 900.0

    @property
    def model(self) -> Model:
        """All networks that this node has for a brain, as one."""
        found = installed()
        return Model(
            name=", ".join(found.names),
            version=self.version if found.added else "1.0.2",
            maker="University of Muenster" + " and others" * bool(found.added),
            weights_sha256=found.sha256,
            trained_on=f"deepbet: {_DEEPBET_DATA}" + "; others: see the card" * bool(found.added),
            citation="Fisch et al. 2024, Comput Biol Med 179:108845",
        )

    @property
    def parameters(self) -> Mapping[str, str]:
        """The threshold of the brain mask, and which networks were there."""
        return {"threshold": str(THRESHOLD), "networks": ", ".join(installed().names)}

    def warm_up(self) -> None:
        """Load the networks, verified by digest.

        Raises:
            RuntimeError: deepbet is not installed, or networks are not those tested or added.
        """
        # Listing the pipelines must not cost the seconds that importing torch takes.
        from pipelines.brain_mr_volumetry import parts  # noqa: PLC0415

        _networks()
        parts.warm_up(installed())

    def run(self, study: Study, /) -> Result:
        """Outline the brain and its parts on the series' own grid and measure their volumes.

        Raises:
            CouldNotLook: The series is no T1-weighted adult head, or the brain is cut off.
        """
        if not isinstance(study, Volume) or study.attributes.get("Modality", "MR") != "MR":
            raise CouldNotLook("This model looks at a volume of MR slices, and this is none.")
        from pipelines.brain_mr_volumetry.parts import parts_of  # noqa: PLC0415 - as in warm_up

        suitability.require_straight(study.attributes)
        suitability.require_field(study.grid)
        notes = (
            *suitability.check_t1(study.attributes),
            *suitability.check_age(study.attributes),
            *suitability.check_contrast_agent(study.attributes),
        )
        mask, volume_ml = _brain(study)
        notes += _require_whole(mask, study.grid)
        found = installed()
        parts = tuple(parts_of(study, mask, found))
        volumes_ml = [float(part.mask.sum()) * study.grid.voxel_volume_ml for part in parts]
        brain = Finding(
            BRAIN,
            category=ANATOMICAL_STRUCTURE,
            segment=LABEL,
            measurements=(
                Measurement(VOLUME, volume_ml, "mL"),
                *_tissue_share(parts, volumes_ml, volume_ml),
            ),
        )
        findings = (brain, *map(_finding, parts, volumes_ml), *_asymmetry(parts, volumes_ml))
        segments = (
            Segment(LABEL, ANATOMICAL_STRUCTURE, BRAIN, mask),
            *(
                Segment(
                    part.structure.label,
                    part.structure.category,
                    part.structure.property,
                    part.mask,
                    part.structure.color,
                )
                for part in parts
            ),
        )
        return Result(findings, segments, notes + _notes(parts, volumes_ml))


def _brain(study: Volume) -> tuple[npt.NDArray[np.bool_], float]:
    """Return the brain and its volume in mL.

    Raises:
        CouldNotLook: What was outlined is no adult's whole brain.
    """
    to_ras = reorder_towards(study.grid, RAS)
    brain = _networks().brain_mask(to_ras.apply(study.voxels), THRESHOLD)
    mask = np.ascontiguousarray(to_ras.undo(brain))
    volume_ml = float(mask.sum()) * study.grid.voxel_volume_ml
    if not SMALLEST_ML <= volume_ml <= LARGEST_ML:
        raise CouldNotLook(
            f"What the model outlined is no adult's whole brain: {volume_ml:.0f} mL."
        )
    return mask, volume_ml


def _finding(part: Part, volume_ml: float) -> Finding:
    """Return the finding of one part; of one without a voxel, that it was not found."""
    return Finding(
        part.structure.property,
        presence=Presence.PRESENT if volume_ml else Presence.ABSENT,
        category=part.structure.category,
        site=part.structure.property if part.side else None,
        laterality=part.side,
        segment=part.structure.label,
        measurements=(Measurement(VOLUME, volume_ml, "mL"),),
    )


def _tissue_share(
    parts: Sequence[Part], volumes_ml: Sequence[float], brain_ml: float
) -> tuple[Measurement, ...]:
    """Return grey and white matter as a percentage of the brain mask, if they were outlined."""
    tissue_ml = sum(
        volume
        for part, volume in zip(parts, volumes_ml, strict=True)
        if part.structure.property in (GREY_MATTER, WHITE_MATTER)
    )
    if not tissue_ml:
        return ()
    return (Measurement(BRAIN_TISSUE_SHARE, 100.0 * tissue_ml / brain_ml, "%"),)


def _asymmetry(parts: Sequence[Part], volumes_ml: Sequence[float]) -> tuple[Finding, ...]:
    """Return the asymmetry of the hippocampi, where both were outlined."""
    sides = {part.side: volume for part, volume in zip(parts, volumes_ml, strict=True)}
    left, right = sides.get(LEFT, 0.0), sides.get(RIGHT, 0.0)
    if not (left and right):
        return ()
    index = Measurement(ASYMMETRY, 200.0 * (left - right) / (left + right), "%")
    return (Finding(HIPPOCAMPUS, category=ANATOMICAL_STRUCTURE, measurements=(index,)),)


def _notes(parts: Sequence[Part], volumes_ml: Sequence[float]) -> tuple[str, ...]:
    """Return what a reader must know of the parts."""
    notes = []
    for part, volume in zip(parts, volumes_ml, strict=True):
        label = part.structure.label
        if not volume:
            notes.append(f"{label}: not found. Look at the images.")
        elif part.side and not HIPPOCAMPUS_ML[0] <= volume <= HIPPOCAMPUS_ML[1]:
            notes.append(
                f"{label}: {volume:.1f} mL, outside of the range of {HIPPOCAMPUS_ML[0]} to "
                f"{HIPPOCAMPUS_ML[1]} mL that studies of healthy adults report (Honeycutt and "
                "Smith 1995). Check the outline."
            )
    return tuple(notes)


@cache
def _networks() -> BrainExtraction:
    from pipelines.brain_mr_volumetry.extraction import BrainExtraction  # noqa: PLC0415 - as above

    return BrainExtraction(read_weights())


def _require_whole(mask: npt.NDArray[np.bool_], grid: Grid) -> tuple[str, ...]:
    """Return a note for each edge of the images that the brain reaches.

    Raises:
        CouldNotLook: It is cut off there.
    """
    notes = []
    for side, section_cm2 in _sections_cm2(mask, grid):
        if section_cm2 > CUT_OFF_CM2:
            raise CouldNotLook(
                f"The brain is cut off where the images end towards the {side}: "
                f"its section there is {section_cm2:.0f} cm2."
            )
        if section_cm2 > 0:
            notes.append(
                f"The brain reaches the edge of the images towards the {side} "
                f"({section_cm2:.1f} cm2); a little of it may be missing."
            )
    return tuple(notes)


def _sections_cm2(mask: npt.NDArray[np.bool_], grid: Grid) -> Iterator[tuple[str, float]]:
    """Yield, for each of the six faces of the grid, which side it is and the brain's area on it."""
    for axis, direction in enumerate(np.array(grid.axes)):
        main = int(np.argmax(np.abs(direction)))
        ways = _TOWARDS[main] if direction[main] > 0 else _TOWARDS[main][::-1]
        pixel_cm2 = 10.0 * grid.voxel_volume_ml / grid.spacing_mm[axis]
        for side, index in zip(ways, (0, -1), strict=True):
            yield side, float(mask.take(index, axis).sum()) * pixel_cm2
