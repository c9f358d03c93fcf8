"""The parts of a brain that is outlined: tissues, structures, hippocampi, on its own grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipelines import models
from pipelines.brain_mr_volumetry.codes import (
    HIPPOCAMPUS,
    HIPPOCAMPUS_CLASS,
    STRUCTURES,
    TISSUES,
    Structure,
)
from pipelines.brain_mr_volumetry.hippodeep import Hippodeep
from pipelines.codes import LEFT, RIGHT
from pipelines.conform import Box, Conformed, box_around, conform, labels_onto
from pipelines.meshnet import MeshNet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pipelines.brain_mr_volumetry.networks import Installed
    from pipelines.contract import Code, Volume
    from pipelines.models import AddedModel

MARGIN_MM = 18.0
"""Around the brain, in which MeshNet looks: Brainchop's own for its tissue network."""
_HIPPOCAMPUS_COLOR = (220, 216, 20)

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Part:
    """One part of the brain.

    Attributes:
        structure: What it is.
        mask: Shape of the volume.
        side: Left or right; None: it has none, or both are in it.
    """

    structure: Structure
    mask: BoolArray
    side: Code | None = None


def warm_up(installed: Installed) -> None:
    """Load every network that was added, verified."""
    for model in (installed.tissues, installed.structures):
        if model:
            _meshnet(model.name, model.sha256)
    if installed.hippodeep:
        _hippodeep(installed.hippodeep.sha256)


def parts_of(volume: Volume, brain: BoolArray, installed: Installed) -> Iterator[Part]:
    """Yield the tissues, then the structures and hippocampi, as far as there are networks.

    Args:
        volume: T1-weighted head.
        brain: On the same grid; no tissue or structure reaches beyond it.
        installed: Networks to use.
    """
    if not installed.added:
        return
    middle = [float(index.mean()) for index in np.nonzero(brain)]
    x, y, z = (float(value) for value in (volume.grid.affine @ np.array([*middle, 1.0]))[:3])
    head = conform(volume, centre_mm=(x, y, z))
    box = box_around(brain, volume.grid, head.grid, MARGIN_MM)
    if installed.tissues:
        yield from _meshnet_parts(volume, brain, head, box, installed.tissues, TISSUES)
    if installed.structures:
        for part in _meshnet_parts(volume, brain, head, box, installed.structures, STRUCTURES):
            # hippodeep's own outlines take the place of MeshNet's.
            if not (installed.hippodeep and part.structure is STRUCTURES[HIPPOCAMPUS_CLASS]):
                yield part
    if installed.hippodeep:
        masks = _hippodeep(installed.hippodeep.sha256).hippocampi(volume)
        for mask, side in zip(masks, (LEFT, RIGHT), strict=True):
            label = f"Hippocampus, {side.meaning.lower()}"
            yield Part(Structure(label, HIPPOCAMPUS, _HIPPOCAMPUS_COLOR), mask & brain, side)


def _meshnet_parts(  # noqa: PLR0913, PLR0917 - the head in three views, and who looks for what
    volume: Volume,
    brain: BoolArray,
    head: Conformed,
    box: Box,
    model: AddedModel,
    structures: Mapping[str, Structure],
) -> Iterator[Part]:
    network = _meshnet(model.name, model.sha256)
    labels = labels_onto(network.labels(head, box), head.grid, volume.grid)
    return _parts(labels, brain, network.names, structures)


def _parts(
    labels: npt.NDArray[np.uint8],
    brain: BoolArray,
    names: tuple[str, ...],
    structures: Mapping[str, Structure],
) -> Iterator[Part]:
    # The first class is what is no part of the brain. A name that is not known is an error, not a
    # part that goes missing from the report.
    for number, name in enumerate(names[1:], start=1):
        yield Part(structures[name], (labels == number) & brain)


@lru_cache(maxsize=4)
def _meshnet(name: str, sha256: str) -> MeshNet:
    """Return the network; the digest is there so that another one is loaded anew."""
    del sha256
    return MeshNet.read(models.get(name))


@lru_cache(maxsize=1)
def _hippodeep(sha256: str) -> Hippodeep:
    del sha256
    return Hippodeep(models.get("hippodeep"))
