"""Which networks this node has for a brain, and who they are together."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines import models
from pipelines.brain_mr_volumetry.weights import SHA256 as DEEPBET

if TYPE_CHECKING:
    from pipelines.models import AddedModel

TISSUES, STRUCTURES, HIPPODEEP = "meshnet-tissues", "meshnet-structures", "hippodeep"
TISSUE_NETWORK = "radnode tissues 1"
TISSUE_NETWORK_SHA256 = "4f76f0a87511d7a4fb4ffa9167658aa41cc9f199e4828833ebb7eecfaa855f8d"
"""Of ``tissues.safetensors``, as ``training.py`` prints it."""


@dataclass(frozen=True)
class Installed:
    """The networks of the catalogue that were added to this node; None: not that one.

    Attributes:
        tissues: MeshNet for grey and white matter, in place of our own network.
        structures: MeshNet for 17 structures.
        hippodeep: For the hippocampi.
    """

    tissues: AddedModel | None
    structures: AddedModel | None
    hippodeep: AddedModel | None

    @property
    def names(self) -> tuple[str, ...]:
        """What looks at a brain, in the order of its use."""
        added = (self.tissues, self.structures, self.hippodeep)
        own = () if self.tissues else (TISSUE_NETWORK,)
        return ("deepbet", *own, *(model.name for model in added if model))

    @property
    def sha256(self) -> str:
        """Digest over those of all networks that are used, in the order of their use (hex)."""
        added = [model.sha256 for model in (self.tissues, self.structures, self.hippodeep) if model]
        own = [] if self.tissues else [TISSUE_NETWORK_SHA256]
        return hashlib.sha256("".join([*DEEPBET.values(), *own, *added]).encode()).hexdigest()


def installed() -> Installed:
    """Return which networks this node has now."""
    return Installed(*(models.find(name) for name in (TISSUES, STRUCTURES, HIPPODEEP)))
