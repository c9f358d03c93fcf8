"""The detector of our own: candidates, judged by a network, as places in the volume."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipelines.lung_nodule_ct.candidates import find_candidates, search_grid
from pipelines.lung_nodule_ct.network import Judge, probabilities, read_judge

if TYPE_CHECKING:
    from pipelines.contract import Volume
    from pipelines.lungs.segmentation import Lungs


class Detection(NamedTuple):
    """A place that may be a nodule.

    Attributes:
        centre: (slice, row, column) in the volume, in voxels.
        diameter_mm: As expected from the filter that answered.
        probability: The network's, not calibrated.
    """

    centre: tuple[float, float, float]
    diameter_mm: float
    probability: float


def detect(volume: Volume, lungs: Lungs, sha256: str) -> list[Detection]:
    """Return every candidate, the most probable first.

    Raises:
        RuntimeError: The weights are not those of this digest.
    """
    search = search_grid(volume, lungs)
    found = find_candidates(search)
    to_volume = np.linalg.inv(volume.grid.affine) @ search.to_patient
    detections = []
    for one, probability in zip(found, probabilities(_judge(sha256), search, found), strict=True):
        at = to_volume @ (*one.centre, 1.0)
        centre = (float(at[0]), float(at[1]), float(at[2]))
        detections.append(Detection(centre, one.diameter_mm, float(probability)))
    return sorted(detections, key=lambda one: -one.probability)


@lru_cache(maxsize=1)
def _judge(sha256: str) -> Judge:
    return read_judge(sha256)
