"""Glioma on T1c, T1, T2 and FLAIR: co-registered, the brain taken out, outlined in three parts."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from pipelines import midline, models
from pipelines.brain_mr_tumour import codes, coregistration, findings, sequences
from pipelines.brain_mr_volumetry import suitability
from pipelines.brain_mr_volumetry.weights import read_weights
from pipelines.codes import MORPHOLOGICALLY_ABNORMAL
from pipelines.contract import (
    CouldNotLook,
    Finding,
    Grid,
    Model,
    ParametricMap,
    Patterns,
    Presence,
    Result,
    Volume,
)
from pipelines.geometry import RAS, reorder_towards

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.brain_mr_tumour.cascade import Cascade, Tumour
    from pipelines.brain_mr_volumetry.extraction import BrainExtraction
    from pipelines.registration import Alignment

WEIGHTS = "brats17"
"""Name of the networks among the models that a site added."""

LARGEST_SPACING_MM = 7.0
"""Own limit: the one glioma this was seen to work on has slices 5.5 mm apart (card.md)."""
SMALLEST_FIELD_MM = 100.0
SMALLEST_BRAIN_ML, LARGEST_BRAIN_ML = 700.0, 2500.0
"""A tripwire for a mask that is no brain, and for half a brain; not a norm."""
LEAST_COVERED = 0.8
"""Part of the brain that every sequence must show."""

_PLAIN_MR: Patterns = {"Modality": "MR", "ImageType": "!LOCALIZER"}
_TRAINED_ON_GLIOMA = (
    "The networks were trained on glioma before treatment, and on nothing else: they may outline "
    "any other lesion as if it were glioma, or miss it. They cannot tell what a lesion is."
)


class BrainMrTumour:
    """Where is glioma, and of which parts is it made?"""

    name: ClassVar[str] = "brain-mr-tumour"
    version: ClassVar[str] = "1.0.0"
    title: ClassVar[str] = "Glioma on multi-sequence MR"
    inputs: ClassVar[Mapping[str, Patterns]] = dict.fromkeys(
        ("t1c", "t1", "t2", "flair"), _PLAIN_MR
    )
    report: ClassVar[str] = "measurement_report"
    model: ClassVar[Model] = Model(
        name="brats17 cascade (WNet, TNet, ENet) after deepbet",
        version="2017",
        maker="University College London",
        weights_sha256="94be61c0cf4d4f101933977648b023f15deac7997ee5605d0d853eb889db5605",
        trained_on="BraTS 2017: 285 patients with glioma before treatment (210 high, 75 low grade)",
        citation=(
            "Wang et al. 2017, arXiv:1709.00382; Fisch et al. 2024, Comput Biol Med 179:108845"
        ),
    )
    parameters: ClassVar[Mapping[str, str]] = {"brain_threshold": "0.5"}
    deadline_s: ClassVar[float] = 1800.0

    def input_of(self, attributes: Mapping[str, str]) -> str | None:
        """Return which of ``inputs`` a series is by its headers, or None."""
        return sequences.sequence_of(attributes)

    def warm_up(self) -> None:
        """Load the networks, verified by digest, if they were added to this node.

        Raises:
            RuntimeError: A network is not the one tested, or deepbet is not installed.
        """
        if models.find(WEIGHTS) is not None:
            _networks()

    def run(self, *, t1c: Volume, t1: Volume, t2: Volume, flair: Volume) -> Result:
        """Outline the tumour on the grid of ``t1c`` and measure it.

        Raises:
            CouldNotLook: The networks are not here, or the series are not what they need.
        """
        series = {"t1c": t1c, "t1": t1, "t2": t2, "flair": flair}
        for name, volume in series.items():
            _require_suitable(name, volume)
        notes = suitability.check_age(t1c.attributes)
        if models.find(WEIGHTS) is None:
            raise CouldNotLook(
                f"The networks of this algorithm are not on this node (model {WEIGHTS})."
            )
        head = _prepared(series, float(self.parameters["brain_threshold"]))
        found = _networks().cascade.segment(
            [head.images[name] for name in ("flair", "t1", "t1c", "t2")], head.brain
        )
        notes += (_TRAINED_ON_GLIOMA,)
        disagreement = coregistration.moved_map(found.disagreement, head.grid, t1c.grid)
        maps = (
            ParametricMap("Disagreement of planes", codes.PLANE_DISAGREEMENT, "1", disagreement),
        )
        return _reported(t1c, head, found, notes, maps)


class _Networks(NamedTuple):
    extraction: BrainExtraction
    cascade: Cascade


class _Head(NamedTuple):
    """The four sequences co-registered on a grid of 1 mm, and where the brain is."""

    images: Mapping[str, coregistration.Voxels]
    brain: coregistration.Mask
    grid: Grid


@cache
def _networks() -> _Networks:
    # Listing the pipelines must not cost the seconds that importing torch takes.
    from pipelines.brain_mr_tumour.cascade import Cascade, all_files, load_networks  # noqa: PLC0415
    from pipelines.brain_mr_volumetry.extraction import BrainExtraction  # noqa: PLC0415

    of_brain = read_weights()
    added = models.get(WEIGHTS)
    of_tumour = {name: added.read(name) for name in all_files()}
    content = b"".join((*of_brain.values(), *of_tumour.values()))
    if hashlib.sha256(content).hexdigest() != BrainMrTumour.model.weights_sha256:
        raise RuntimeError(
            f"The networks of the model {WEIGHTS} are not those this pipeline was tested with. "
            f"Run 'radnode models add {WEIGHTS}'."
        )
    return _Networks(BrainExtraction(of_brain), Cascade(load_networks(of_tumour.__getitem__)))


def _require_suitable(name: str, volume: object) -> None:
    """Raise CouldNotLook unless this is a plain series of the sequence expected."""
    if not isinstance(volume, Volume) or volume.attributes.get("Modality", "MR") != "MR":
        raise CouldNotLook("This model looks at volumes of MR slices, and a series is none.")
    suitability.require_straight(volume.attributes)
    wrong = sequences.mismatch(name, volume.attributes)
    if wrong:
        raise CouldNotLook(wrong)
    coarsest = max(volume.spacing_mm)
    if coarsest > LARGEST_SPACING_MM:
        raise CouldNotLook(
            f"The slices or pixels of a series are {coarsest:.1f} mm apart; at most "
            f"{LARGEST_SPACING_MM:.0f} mm are expected."
        )
    extent_mm = min(np.array(volume.shape) * volume.spacing_mm)
    if extent_mm < SMALLEST_FIELD_MM:
        raise CouldNotLook(
            f"A series covers only {extent_mm:.0f} mm in one direction and cannot hold a whole "
            "brain."
        )


def _prepared(series: Mapping[str, Volume], brain_threshold: float) -> _Head:
    """Lay the sequences over T1c on a grid of 1 mm, and find the brain.

    Raises:
        CouldNotLook: They do not match, or show no whole brain.
    """
    t1c = series["t1c"]
    grid = coregistration.working_grid(t1c.grid)
    alignments: dict[str, Alignment | None] = {"t1c": None}
    alignments |= coregistration.aligned(
        t1c, {name: volume for name, volume in series.items() if name != "t1c"}
    )
    images = {
        name: coregistration.onto(volume, grid, alignments[name]) for name, volume in series.items()
    }
    to_ras = reorder_towards(grid, RAS)
    mask = _networks().extraction.brain_mask(to_ras.apply(images["t1"]), brain_threshold)
    brain = np.ascontiguousarray(to_ras.undo(mask))
    volume_ml = float(brain.sum()) * grid.voxel_volume_ml
    if not SMALLEST_BRAIN_ML <= volume_ml <= LARGEST_BRAIN_ML:
        raise CouldNotLook(f"What was taken for the brain has {volume_ml:.0f} mL: it is none.")
    for name, volume in series.items():
        seen = coregistration.covered(volume.grid, grid, alignments[name])
        if (seen & brain).sum() < LEAST_COVERED * brain.sum():
            raise CouldNotLook("A part of the brain is missing in one of the series.")
        brain &= seen
    for name in ("t1", "t2", "flair"):
        coregistration.require_agreement(images["t1c"], images[name], brain)
    return _Head(images, brain, grid)


def _reported(
    t1c: Volume,
    head: _Head,
    found: Tumour,
    notes: tuple[str, ...],
    maps: tuple[ParametricMap, ...],
) -> Result:
    whole, core, enhancing = (
        coregistration.moved_mask(mask, head.grid, t1c.grid)
        for mask in (found.whole, found.core, found.enhancing)
    )
    if not whole.any():
        absent = Finding(codes.TUMOUR, presence=Presence.ABSENT, category=MORPHOLOGICALLY_ABNORMAL)
        return Result((absent,), notes=notes, maps=maps)
    brain = np.where(head.brain, head.images["t1"], np.float32(0.0))
    where = findings.place(found.whole, midline.left_distance_mm(brain, head.grid))
    outlined = findings.segments(whole, core, enhancing)
    return Result(
        (
            findings.tumour(t1c, whole, core, where, found.agreement),
            *findings.parts(t1c, outlined, where),
        ),
        outlined,
        (*findings.remarks(where, found.agreement), *notes),
        maps,
    )
