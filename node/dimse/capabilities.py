"""Which of the objects that this node makes a destination would take, asked without sending one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
)
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from node.dimse.association import associate
from node.domain import Role
from node.profiles import PROFILES, SOP_CLASSES

if TYPE_CHECKING:
    from collections.abc import Collection

    from node.settings import DimseDestination, Settings

_IMAGES = (CTImageStorage, MRImageStorage)
_BEST_FIRST = ("ohif", "weasis", "orthanc", "air", "old-pacs")


def ask(settings: Settings, destination: DimseDestination) -> tuple[frozenset[Role], bool]:
    """Negotiate, and release: which roles ``destination`` takes, and whether it commits.

    Raises:
        DeliveryError: It does not answer, or takes nothing at all.
    """
    syntaxes: list[str | UID] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    classes = (*dict.fromkeys((*SOP_CLASSES.values(), *_IMAGES)), StorageCommitmentPushModel)
    contexts = [build_context(sop_class, syntaxes) for sop_class in classes]
    with associate(settings, destination, contexts) as association:
        accepted = {context.abstract_syntax for context in association.accepted_contexts}
    taken = frozenset(role for role, sop_class in SOP_CLASSES.items() if sop_class in accepted)
    if accepted.issuperset(_IMAGES):
        taken |= {Role.IMAGES}
    return taken, StorageCommitmentPushModel in accepted


def suitable(taken: Collection[Role]) -> tuple[str, ...]:
    """Return the profiles all of whose objects are taken, the one to propose first.

    The complete report counts as taken where the one that goes instead of it is, and images
    always: a destination gets none but of kinds that it sends, or of pipelines it has none of.
    """
    enough = {*taken, Role.IMAGES} | ({Role.SR} if Role.COMPREHENSIVE_SR in taken else set())
    return tuple(name for name in _BEST_FIRST if PROFILES[name] <= enough)
