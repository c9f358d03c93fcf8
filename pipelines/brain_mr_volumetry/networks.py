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


@dataclass(frozen=True)
class Installed:
    """The networks of the catalogue that were added to this node; None: not that one.

    Attributes:
        tissues: MeshNet for grey and white matter.
        structures: MeshNet for 17 structures.
        hippodeep: For the hippocampi.
    """

    tissues: AddedModel | None
    structures: AddedModel | None
    hippodeep: AddedModel | None

    @property
    def added(self) -> tuple[AddedModel, ...]:
        """Those that are there, in the order of their use."""
        every = (self.tissues, self.structures, self.hippodeep)
        return tuple(model for model in every if model)

    @property
    def names(self) -> tuple[str, ...]:
        """What looks at a brain, in the order of its use."""
        return ("deepbet", *(model.name for model in self.added))

    @property
    def sha256(self) -> str:
        """Digest over those of all networks that are used, in the order of their use (hex)."""
        added = [model.sha256 for model in self.added]
        return hashlib.sha256("".join([*DEEPBET.values(), *added]).encode()).hexdigest()


def installed() -> Installed:
    """Return which networks this node has now."""
    return Installed(*(models.find(name) for name in (TISSUES, STRUCTURES, HIPPODEEP)))
