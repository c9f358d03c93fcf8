"""Haemorrhage on a plain head CT: blood by its kinds, their volumes and sides, and the cavity."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pipelines import models
from pipelines.codes import ANATOMICAL_STRUCTURE, VOLUME
from pipelines.contract import (
    CouldNotLook,
    Finding,
    Measurement,
    Model,
    ParametricMap,
    Patterns,
    Presence,
    Result,
    Segment,
    Study,
    Volume,
)
from pipelines.geometry import RAS, reorder_towards
from pipelines.head_ct_haemorrhage import codes, findings, suitability
from pipelines.midline import left_distance_mm

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from pipelines.head_ct_haemorrhage.deepmedic import DeepMedic
    from pipelines.head_ct_haemorrhage.lesions import Lesions
    from pipelines.meshnet import MeshNet
    from pipelines.outline import Mask

CAVITY_MODEL, LESION_MODEL = "mindgrab", "blast-ct"
"""Names of the models among those that a site added. Either of them is of use alone."""

LABEL = "Cranial cavity"
CUT_OFF_CM2 = 25.0
"""A larger section at the edge of the images than the foramen magnum has: the head is cut off."""

_NOT_LOOKED_FOR = (
    "Blood was NOT looked for: the networks that find it were not added to this node. Only the "
    "cranial cavity was outlined."
)
_TRAUMA = (
    "The networks were trained on patients after trauma. What they outline may be calcification, "
    "artefact or tumour, and they may miss blood; a person reads the images."
)


class HeadCtHaemorrhage:
    """Is there blood inside the skull?"""

    name: ClassVar[str] = "head-ct-haemorrhage"
    version: ClassVar[str] = "1.0.0"
    title: ClassVar[str] = "Haemorrhage on plain head CT"
    input: ClassVar[Patterns] = {"Modality": "CT", "ImageType": ("!LOCALIZER", "!DERIVED")}
    report: ClassVar[str] = "measurement_report"
    priority: ClassVar[str] = "stat"
    parameters: ClassVar[Mapping[str, str]] = {"least_ml": f"{findings.LEAST_ML:g}"}
    deadline_s: ClassVar[float] = 3600.0

    @property
    def model(self) -> Model:
        """Which of both models this node has, together."""
        cavity, lesion = (models.find(name) for name in (CAVITY_MODEL, LESION_MODEL))
        parts = [one for one in (lesion, cavity) if one is not None]
        digest = hashlib.sha256("".join(one.sha256 for one in parts).encode()).hexdigest()
        return Model(
            name=" and ".join(one.name for one in parts) or "none",
            version="2020" if lesion else "2025",
            maker="Imperial College London; Georgia State University",
            weights_sha256=digest,
            trained_on=(
                "BLAST-CT: plain head CT after trauma (CENTER-TBI). MindGrab: heads of several "
                "modalities, and images synthesised from their labels (synthetic)"
            ),
            citation=(
                "Monteiro et al. 2020, Lancet Digit Health 2:e314-e322; Fani et al. 2025, "
                "arXiv:2506.11860"
            ),
        )

    def warm_up(self) -> None:
        """Load the networks that were added, verified by digest."""
        _cavity_network(_digest(CAVITY_MODEL))
        _lesion_networks(_digest(LESION_MODEL))

    def run(self, study: Study, /) -> Result:
        """Outline blood and the cranial cavity, as far as this node has the networks.

        Raises:
            CouldNotLook: The series is no plain head CT, or neither model is on this node.
        """
        if not isinstance(study, Volume) or study.attributes.get("Modality", "CT") != "CT":
            raise CouldNotLook("This model looks at a volume of CT slices, and this is none.")
        cavity_network = _cavity_network(_digest(CAVITY_MODEL))
        networks = _lesion_networks(_digest(LESION_MODEL))
        if cavity_network is None and not networks:
            raise CouldNotLook(
                "Neither the networks that find blood (blast-ct) nor the one that finds the "
                "cranial cavity (mindgrab) were added to this node."
            )
        suitability.require_plain(study.attributes)
        suitability.require_field(study.grid)
        suitability.require_skull(study)
        result = Result()
        cavity = None
        if cavity_network is not None:
            cavity, result = _with_cavity(study, cavity_network, alone=not networks)
        if not networks:
            return Result(result.findings, result.segments, (*result.notes, _NOT_LOOKED_FOR))
        from pipelines.head_ct_haemorrhage.lesions import find_lesions  # noqa: PLC0415 - torch

        return _with_lesions(study, find_lesions(study, networks, cavity), cavity, result)


def _digest(name: str) -> str | None:
    model = models.find(name)
    return None if model is None else model.sha256


@cache
def _cavity_network(digest: str | None) -> MeshNet | None:
    """Return the network for the cavity; another one when another model lies there."""
    from pipelines.meshnet import MeshNet  # noqa: PLC0415 - listing pipelines must not load torch

    return None if digest is None else MeshNet.read(models.get(CAVITY_MODEL))


@cache
def _lesion_networks(digest: str | None) -> tuple[DeepMedic, ...]:
    from pipelines.head_ct_haemorrhage.lesions import read_networks  # noqa: PLC0415 - as above

    return () if digest is None else read_networks(models.get(LESION_MODEL))


def _with_cavity(study: Volume, network: MeshNet, *, alone: bool) -> tuple[Mask | None, Result]:
    """Return the cavity and what is said of it.

    Raises:
        CouldNotLook: It was not found, and nothing else is looked for.
    """
    from pipelines.head_ct_haemorrhage.brain import cranial_cavity  # noqa: PLC0415 - as above

    try:
        mask = cranial_cavity(study, network)
    except CouldNotLook as refusal:
        if alone:
            raise
        return None, Result(notes=(refusal.reason,))
    volume_ml = float(mask.sum()) * study.grid.voxel_volume_ml
    finding = Finding(
        codes.CRANIAL_CAVITY,
        category=ANATOMICAL_STRUCTURE,
        segment=LABEL,
        measurements=(Measurement(VOLUME, volume_ml, "mL"),),
        normal=True,
    )
    segment = Segment(LABEL, ANATOMICAL_STRUCTURE, codes.CRANIAL_CAVITY, mask, (90, 200, 120))
    return mask, Result((finding,), (segment,), _cut_off(mask, study))


def _cut_off(mask: Mask, study: Volume) -> tuple[str, ...]:
    """Return a note where the first or last slices cut the cavity off."""
    to_ras = reorder_towards(study.grid, RAS)
    grid, turned = to_ras.regrid(study.grid), to_ras.apply(mask)
    pixel_cm2 = grid.spacing_mm[0] * grid.spacing_mm[1] / 100.0
    notes = []
    for side, plane in (("feet", turned[:, :, 0]), ("top", turned[:, :, -1])):
        section_cm2 = float(plane.sum()) * pixel_cm2
        if section_cm2 > CUT_OFF_CM2:
            notes.append(
                f"The head is cut off where the images end towards the {side} "
                f"({section_cm2:.0f} cm2): the volume is too small, what is beyond was not seen."
            )
    return tuple(notes)


def _with_lesions(
    study: Volume, found: Lesions, cavity: Mask | None, cavity_result: Result
) -> Result:
    left_mm = _left_mm(study, cavity) if found.labels.any() else None
    each = findings.of_each_kind(found, study.grid, left_mm)
    blood = findings.together(each, found, study.grid)
    notes = [*cavity_result.notes, _TRAUMA]
    if blood.presence is Presence.PRESENT:
        notes.insert(0, "URGENT: blood inside the skull.")
    if found.labels.any() and left_mm is None:
        notes.append("No side is named: the head is not symmetric enough to find its midline.")
    maps: tuple[ParametricMap, ...] = ()
    if found.disagreement is not None:
        maps = (
            ParametricMap(
                "Disagreement of the networks", codes.DISAGREEMENT, "1", found.disagreement
            ),
        )
    return Result(
        (blood, *each, *cavity_result.findings),
        (*findings.segments(found), *cavity_result.segments),
        tuple(notes),
        maps,
    )


def _left_mm(study: Volume, cavity: Mask | None) -> npt.NDArray[np.float32] | None:
    """Return how far each voxel is left of the head's midline; None where that is not found."""
    to_ras = reorder_towards(study.grid, ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)))
    grid = to_ras.regrid(study.grid)
    inside = cavity if cavity is not None else study.voxels > suitability.BODY_HU
    grey = np.where(inside, np.clip(study.voxels, -50.0, 150.0) + 50.0, 0.0).astype(np.float32)
    distance = left_distance_mm(to_ras.apply(grey), grid)
    return None if distance is None else np.ascontiguousarray(to_ras.undo(distance))
