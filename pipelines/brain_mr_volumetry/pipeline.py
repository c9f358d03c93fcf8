"""Brain volume on a T1-weighted head MR: a mask by deepbet's networks, and its millilitres."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from pipelines.brain_mr_volumetry import suitability
from pipelines.brain_mr_volumetry.weights import read_weights
from pipelines.codes import ANATOMICAL_STRUCTURE, BRAIN, VOLUME
from pipelines.contract import (
    CouldNotLook,
    Finding,
    Grid,
    Measurement,
    Model,
    Patterns,
    Result,
    Segment,
    Study,
    Volume,
)
from pipelines.geometry import RAS, reorder_towards

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pipelines.brain_mr_volumetry.extraction import BrainExtraction

SMALLEST_ML, LARGEST_ML = 300.0, 2500.0
"""Far outside what adults have: a tripwire for a mask that is no brain, not a norm."""

CUT_OFF_CM2 = 10.0
"""A larger section at the edge of the images is more than the foramen magnum lets through, so
brain is missing. With the lowest 10 mm of one brain cut away it was 29 cm2 (card.md)."""

LABEL = "Brain"
_TOWARDS = (("right", "left"), ("front", "back"), ("feet", "head"))
"""Names of the two ways along x, y and z."""


class BrainMrVolumetry:
    """How large is the brain?"""

    name: ClassVar[str] = "brain-mr-volumetry"
    version: ClassVar[str] = "1.0.0"
    title: ClassVar[str] = "Brain volume from T1-weighted MR"
    input: ClassVar[Patterns] = {"Modality": "MR", "ImageType": "!LOCALIZER"}
    report: ClassVar[str] = "measurement_report"
    model: ClassVar[Model] = Model(
        name="deepbet",
        version="1.0.2",
        maker="University of Muenster",
        weights_sha256="2c915153495c4579410add8d7fca5ef2f64dfa6f30f37f0bef7ce32d6d3f7657",
        trained_on="7837 T1-weighted MR images of adults from 191 OpenNeuro data sets",
        citation="Fisch et al. 2024, Comput Biol Med 179:108845",
    )
    parameters: ClassVar[Mapping[str, str]] = {"threshold": "0.5"}
    deadline_s: ClassVar[float] = 300.0

    def warm_up(self) -> None:
        """Load the networks, verified by digest.

        Raises:
            RuntimeError: deepbet is not installed, or its networks are not those tested.
        """
        _networks()

    def run(self, study: Study, /) -> Result:
        """Outline the brain on the series' own grid and measure its volume.

        Raises:
            CouldNotLook: The series is no T1-weighted adult head, or the brain is cut off.
        """
        if not isinstance(study, Volume):
            raise CouldNotLook("This model looks at a volume of MR slices, and this is none.")
        suitability.require_straight(study.attributes)
        suitability.require_field(study.grid)
        notes = (
            *suitability.check_t1(study.attributes),
            *suitability.check_age(study.attributes),
            *suitability.check_contrast_agent(study.attributes),
        )
        to_ras = reorder_towards(study.grid, RAS)
        threshold = float(self.parameters["threshold"])
        brain = _networks().brain_mask(to_ras.apply(study.voxels), threshold)
        mask = np.ascontiguousarray(to_ras.undo(brain))
        volume_ml = float(mask.sum()) * study.grid.voxel_volume_ml
        if not SMALLEST_ML <= volume_ml <= LARGEST_ML:
            raise CouldNotLook(
                f"What the model outlined is no adult's whole brain: {volume_ml:.0f} mL."
            )
        notes += _require_whole(mask, study.grid)
        finding = Finding(
            BRAIN,
            category=ANATOMICAL_STRUCTURE,
            segment=LABEL,
            measurements=(Measurement(VOLUME, volume_ml, "mL"),),
        )
        return Result((finding,), (Segment(LABEL, ANATOMICAL_STRUCTURE, BRAIN, mask),), notes)


@cache
def _networks() -> BrainExtraction:
    # Listing the pipelines must not cost the seconds that importing torch takes.
    from pipelines.brain_mr_volumetry.extraction import BrainExtraction  # noqa: PLC0415

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
