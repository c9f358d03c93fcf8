"""Lung volumes and densitometry on a chest CT: published methods, no learned weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pipelines.codes import (
    ANATOMICAL_STRUCTURE,
    LEFT,
    LUNG,
    RIGHT,
    VOLUME,
)
from pipelines.contract import (
    CouldNotLook,
    Finding,
    Measurement,
    Model,
    Patterns,
    Result,
    Segment,
    Study,
)
from pipelines.lung_ct_quantification import checks
from pipelines.lung_ct_quantification.codes import AIRWAYS, TOTAL_VOLUME, TRACHEA_AIR
from pipelines.lung_ct_quantification.densitometry import densitometry
from pipelines.lungs import suitability
from pipelines.lungs.segmentation import find_lungs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.contract import Code, Volume
    from pipelines.lungs.airways import Airways
    from pipelines.lungs.morphology import Mask

SMALLEST_ML, LARGEST_ML = 400.0, 7000.0
"""Of one lung. Far outside what adults have: a tripwire for a mask that is no lung, not a norm."""

_METHOD_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""Of no bytes: the method has no weights."""


class LungCtQuantification:
    """How large are the lungs, and how dense?"""

    name: ClassVar[str] = "lung-ct-quantification"
    version: ClassVar[str] = "1.0.0"
    title: ClassVar[str] = "Lung volume and density from CT"
    input: ClassVar[Patterns] = {"Modality": "CT", "ImageType": "!LOCALIZER"}
    report: ClassVar[str] = "measurement_report"
    model: ClassVar[Model] = Model(
        name="radnode lung densitometry",
        version="1.0.0",
        maker="radnode",
        weights_sha256=_METHOD_SHA256,
        trained_on="Nothing: thresholds, region growing and a watershed, without learned weights",
        citation="Hu et al. 2001, IEEE Trans Med Imaging 20:490-498",
    )
    parameters: ClassVar[Mapping[str, str]] = {
        "emphysema_hu": "-950",
        "percentile": "15",
        "mean_density": "without the outermost voxels of the outline",
    }
    deadline_s: ClassVar[float] = 300.0

    def warm_up(self) -> None:
        """Load nothing: there are no weights."""

    def run(self, study: Study, /) -> Result:
        """Outline lungs and airways on the series' own grid and measure them.

        Raises:
            CouldNotLook: The series is no whole chest on CT, or its lungs were not found.
        """
        volume = suitability.require_chest_ct(study)
        lungs = find_lungs(volume.voxels, volume.grid)
        notes = suitability.require_whole(lungs)
        if lungs.airways is None:
            raise CouldNotLook(
                "No trachea was found in the images, without which lungs are not told from bowel."
            )
        total_ml = int(lungs.both.sum()) * volume.grid.voxel_volume_ml
        histogram = checks.has_valid_histogram(volume)
        density = densitometry(volume, lungs.both, histogram=histogram)
        right = _side(volume, lungs.right, RIGHT)
        left = _side(volume, lungs.left, LEFT)
        airways = _airways(volume, lungs.airways)
        total = Finding(
            LUNG,
            category=ANATOMICAL_STRUCTURE,
            measurements=(
                Measurement(TOTAL_VOLUME, total_ml, "mL"),
                *density,
            ),
        )
        return Result(
            findings=(total, right[0], left[0], airways[0]),
            segments=(right[1], left[1], airways[1]),
            notes=(
                *notes,
                *checks.acquisition_notes(volume),
                *checks.inspiration_notes(total_ml, density[0].value, lungs.airways),
                *checks.calibration_notes(lungs.airways),
                (
                    "Airless lung, as in consolidation, collapse or a large mass, and fluid are "
                    "not part of the outlines."
                ),
            ),
        )


def _side(volume: Volume, mask: Mask, side: Code) -> tuple[Finding, Segment]:
    """Return one lung, measured.

    Raises:
        CouldNotLook: It is far too small or too large for one.
    """
    volume_ml = int(mask.sum()) * volume.grid.voxel_volume_ml
    if not SMALLEST_ML <= volume_ml <= LARGEST_ML:
        raise CouldNotLook(
            f"What was outlined as the {side.meaning.lower()} lung is no adult's whole lung: "
            f"{volume_ml:.0f} mL."
        )
    label = f"{side.meaning} lung"
    measured = densitometry(volume, mask, histogram=checks.has_valid_histogram(volume))
    finding = Finding(
        LUNG,
        category=ANATOMICAL_STRUCTURE,
        site=LUNG,
        laterality=side,
        segment=label,
        measurements=(Measurement(VOLUME, volume_ml, "mL"), *measured),
    )
    color = (230, 110, 80) if side == RIGHT else (80, 150, 230)
    return finding, Segment(label, ANATOMICAL_STRUCTURE, LUNG, mask, color)


def _airways(volume: Volume, airways: Airways) -> tuple[Finding, Segment]:
    label = "Trachea and main bronchi"
    volume_ml = int(airways.mask.sum()) * volume.grid.voxel_volume_ml
    measured = [Measurement(VOLUME, volume_ml, "mL")]
    if not math.isnan(airways.air_hu):
        measured.append(Measurement(TRACHEA_AIR, airways.air_hu, "[hnsf'U]"))
    finding = Finding(
        AIRWAYS, category=ANATOMICAL_STRUCTURE, segment=label, measurements=tuple(measured)
    )
    return finding, Segment(label, ANATOMICAL_STRUCTURE, AIRWAYS, airways.mask, (90, 200, 110))
