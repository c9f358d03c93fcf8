"""Nodules on a chest CT, found by a model of the site; and by a small one of our own, off."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pipelines.contract import CouldNotLook, Model, Patterns, Result, Study
from pipelines.lung_nodule_ct.nodule import Nodule, measured, outline
from pipelines.lung_nodule_ct.report import result
from pipelines.lungs import suitability
from pipelines.lungs.morphology import pieces
from pipelines.lungs.segmentation import Lungs, find_lungs
from pipelines.site_reading import SiteReading

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from pipelines.contract import Volume
    from pipelines.lungs.morphology import Mask
    from pipelines.runtimes import SiteNetwork

THICKEST_MM = 4.0
"""Own limit: the detector of our own learned on slices of 3.75 mm, and a nodule of 4 mm is lost
between thicker ones."""


class LungNoduleCt(SiteReading):
    """Nodules as a network finds them that the site added for this question."""

    name: ClassVar[str] = "lung-nodule-ct"
    version: ClassVar[str] = "1.0.0"
    title: ClassVar[str] = "Lung nodules on CT"
    input: ClassVar[Patterns] = {"Modality": "CT", "ImageType": "!LOCALIZER"}
    report: ClassVar[str] = "measurement_report"
    deadline_s: ClassVar[float] = 600.0

    missing: ClassVar[str] = (
        "No model of lung nodules has been added to this node, so nobody looked for them."
    )

    def run(self, study: Study, /) -> Result:
        """Find nodules, outline and measure them on the series' own grid.

        Raises:
            CouldNotLook: There is no model, or the series is no chest on CT with slices thin
                enough.
        """
        suitability.require_chest_ct(study)
        network = self.network()
        volume, lungs, notes = _looked_at(study)
        if network.manifest.task == "segmentation":
            nodules = list(_segmented(network, volume))
        else:
            nodules = list(_boxed(network, volume, lungs))
        nodules.sort(key=lambda one: -one.probability)
        return result(volume, lungs, nodules, notes)


class SimulatedLungNoduleCt:
    """Nodules as a small network finds them that has seen simulated ones only."""

    name: ClassVar[str] = "lung-nodule-ct-simulated"
    version: ClassVar[str] = "1.0.0"
    title: ClassVar[str] = "Lung nodules on CT (trained on simulated ones)"
    input: ClassVar[Patterns] = LungNoduleCt.input
    report: ClassVar[str] = "measurement_report"
    enabled: ClassVar[bool] = False
    """Nobody knows how it does on real nodules."""
    model: ClassVar[Model] = Model(
        name="radnode nodule judge",
        version="1.0.0",
        maker="radnode",
        weights_sha256="d64f8e4992a87a9adbabb9b4eac619e7b435f9d035874a0f4e4cbd1b525f2602",
        trained_on="synthetic: simulated nodules in one lung of one CT (ACRIN-NSCLC-FDG-PET-042)",
        citation="card.md; Kinahan et al. 2019, doi:10.7937/tcia.2019.30ilqfcl",
    )
    parameters: ClassVar[Mapping[str, str]] = {"threshold": "0.8"}
    deadline_s: ClassVar[float] = 600.0

    def warm_up(self) -> None:
        """Load the network, verified by digest."""
        from pipelines.lung_nodule_ct.network import read_judge  # noqa: PLC0415 - imports torch

        read_judge(self.model.weights_sha256)

    def run(self, study: Study, /) -> Result:
        """Find nodules, outline and measure them on the series' own grid.

        Raises:
            CouldNotLook: The series is no chest on CT with slices thin enough.
        """
        volume, lungs, notes = _looked_at(study)
        threshold = float(self.parameters["threshold"])
        nodules = _judged(volume, lungs, threshold, self.model.weights_sha256)
        said = (
            "Research only: this detector has learned from simulated nodules in the CT of one "
            "patient. How many real nodules it finds is unknown; its probability is not "
            "calibrated."
        )
        return result(volume, lungs, nodules, (said, *notes))


def _looked_at(study: Study) -> tuple[Volume, Lungs, tuple[str, ...]]:
    volume = suitability.require_chest_ct(study)
    thickness = suitability.thickness_mm(volume)
    if thickness > THICKEST_MM:
        raise CouldNotLook(
            f"The slices are {thickness:.1f} mm thick or apart; beyond {THICKEST_MM:.0f} mm small "
            "nodules would be missed."
        )
    lungs = find_lungs(volume.voxels, volume.grid)
    if lungs.airways is None:
        raise CouldNotLook(
            "No trachea was found in the images, without which lungs are not told from bowel."
        )
    notes = tuple(
        f"The lungs go on beyond the images towards the {side}; nobody looked there."
        for side, area_cm2 in zip(("feet", "head"), lungs.edges_cm2, strict=True)
        if area_cm2 > suitability.CUT_OFF_CM2
    )
    return volume, lungs, notes


def _segmented(network: SiteNetwork, volume: Volume) -> Iterator[Nodule]:
    """Yield each piece of what a segmentation network marked."""
    marked = np.logical_or.reduce(list(network.masks(volume).values()))
    probability = np.maximum.reduce(list(network.probabilities(volume).values()))
    labels, sizes = pieces(marked)
    thickness = suitability.thickness_mm(volume)
    for label in np.flatnonzero(sizes):
        mask: Mask = labels == label
        yield measured(volume, mask, float(probability[mask].max()), thickness)


def _boxed(network: SiteNetwork, volume: Volume, lungs: Lungs) -> Iterator[Nodule]:
    """Yield what lies in each box of a detector; where nothing stands out, its ellipsoid."""
    thickness = suitability.thickness_mm(volume)
    for box in network.boxes(volume):
        low, high = np.array(box.low), np.array(box.high)
        centre = (low + high) / 2.0 - 0.5
        sides_mm = (high - low) * volume.spacing_mm
        at = (float(centre[0]), float(centre[1]), float(centre[2]))
        mask = outline(volume, lungs, at, float(np.median(sides_mm)))
        if mask is None:
            mask = _ellipsoid(volume, centre, (high - low) / 2.0)
        yield measured(volume, mask, box.probability, thickness)


def _ellipsoid(
    volume: Volume, centre: npt.NDArray[np.float64], half: npt.NDArray[np.float64]
) -> Mask:
    mask = np.zeros(volume.shape, np.bool_)
    low = np.maximum(np.floor(centre - half), 0).astype(int)
    high = np.minimum(np.ceil(centre + half) + 1, volume.shape).astype(int)
    index = np.indices(high - low).T + low
    inside = ((((index - centre) / np.maximum(half, 0.5)) ** 2).sum(-1) <= 1.0).T
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = inside
    nearest = np.clip(np.rint(centre).astype(int), 0, np.array(volume.shape) - 1)
    mask[tuple(nearest)] = True
    return mask


def _judged(volume: Volume, lungs: Lungs, threshold: float, sha256: str) -> list[Nodule]:
    """Return the candidates that the network takes for nodules, none within another."""
    from pipelines.lung_nodule_ct.detector import detect  # noqa: PLC0415 - imports torch

    thickness = suitability.thickness_mm(volume)
    nodules: list[Nodule] = []
    taken = np.zeros(volume.shape, np.bool_)
    for found in detect(volume, lungs, sha256):
        if found.probability < threshold:
            break
        mask = outline(volume, lungs, found.centre, found.diameter_mm)
        if mask is None or (mask & taken).any():
            continue
        taken |= mask
        nodules.append(measured(volume, mask, found.probability, thickness))
    return nodules
