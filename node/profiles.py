"""Which objects of a result a destination gets, and what goes instead of one that it refuses.

What viewers and archives do with each kind of object differs so much that no one set serves
all: a label map is refused by a PACS of last year, a report that refers to segments stays black
in one viewer, and an old workstation shows pictures only. A profile is a set that was tried; a
site may list its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    MRImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
)

from node.domain import Role

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

LABEL_MAP_SEGMENTATION_STORAGE: Final = UID("1.2.840.10008.5.1.4.1.1.66.7")
"""PS3.6 table A-1; not in pydicom 3.0."""

SOP_CLASSES: Final = {
    Role.SEG: UID("1.2.840.10008.5.1.4.1.1.66.4"),
    Role.LABELMAP: LABEL_MAP_SEGMENTATION_STORAGE,
    Role.LABELMAP_SR: UID("1.2.840.10008.5.1.4.1.1.88.34"),
    Role.SR: UID("1.2.840.10008.5.1.4.1.1.88.34"),
    Role.COMPREHENSIVE_SR: UID("1.2.840.10008.5.1.4.1.1.88.33"),
    Role.VIEWER_SR: UID("1.2.840.10008.5.1.4.1.1.88.33"),
    Role.TEXT_SR: UID("1.2.840.10008.5.1.4.1.1.88.22"),
    Role.CAD_SR: UID("1.2.840.10008.5.1.4.1.1.88.65"),
    Role.MAP: UID("1.2.840.10008.5.1.4.1.1.30"),
    Role.GSPS: UID("1.2.840.10008.5.1.4.1.1.11.1"),
    Role.KO: UID("1.2.840.10008.5.1.4.1.1.88.59"),
    Role.SC: UID("1.2.840.10008.5.1.4.1.1.7"),
    Role.PDF: UID("1.2.840.10008.5.1.4.1.1.104.1"),
    Role.REJECTION: UID("1.2.840.10008.5.1.4.1.1.88.59"),
}
"""Role -> SOP class of its objects (PS3.4 table B.5-1), but for ``Role.IMAGES``."""

IMAGE_CLASSES: Final = frozenset(
    {
        CTImageStorage,
        MRImageStorage,
        EnhancedCTImageStorage,
        EnhancedMRImageStorage,
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    }
)
"""Of derived images: that of their source, or a capture where the source was a view or a clip."""

DEFAULT_PROFILE: Final = "air"

PROFILES: Final[Mapping[str, frozenset[Role]]] = {
    # Derived images are in each: every archive takes images, and few pipelines make any; for one
    # that does nothing else, a profile without them would send a report on nothing.
    # IHE AI Results: what software reads. Every other profile is measured against it.
    "air": frozenset({Role.IMAGES, Role.SEG, Role.SR}),
    # Draws segmentations and coordinates, shows any other report as text.
    "ohif": frozenset({Role.IMAGES, Role.SEG, Role.SR, Role.VIEWER_SR, Role.TEXT_SR}),
    # Draws segmentations and presentation states; reports are text with links to images.
    "weasis": frozenset({Role.IMAGES, Role.SEG, Role.SR, Role.GSPS, Role.KO}),
    # Stores all of it; its own viewers draw no segmentation, but show pictures and documents.
    "orthanc": frozenset({Role.IMAGES, Role.SEG, Role.SR, Role.SC, Role.PDF}),
    # Knows images and perhaps presentation states.
    "old-pacs": frozenset({Role.IMAGES, Role.SC, Role.GSPS}),
}

CHOSEN_BY_THE_NODE: Final = frozenset({Role.LABELMAP_SR, Role.COMPREHENSIVE_SR, Role.REJECTION})
"""Roles that nobody asks for by name: they follow from others, or from ``reject_superseded``."""


@dataclass(frozen=True)
class Fallback:
    """What happens when a destination does not know the SOP class of an object.

    Attributes:
        withdrawn: Roles that are not sent there any more.
        instead: Roles that are.
    """

    withdrawn: frozenset[Role]
    instead: frozenset[Role]


FALLBACKS: Final[Mapping[Role, Fallback]] = {
    Role.LABELMAP: Fallback(
        frozenset({Role.LABELMAP, Role.LABELMAP_SR}), frozenset({Role.SEG, Role.SR})
    ),
    Role.SR: Fallback(frozenset({Role.SR}), frozenset({Role.COMPREHENSIVE_SR})),
}


def to_make(wanted: Iterable[Collection[Role]]) -> frozenset[Role]:
    """Return the roles to encode for destinations that want these, fallbacks included."""
    asked = {role for roles in wanted for role in roles}
    if Role.LABELMAP in asked:
        asked |= {Role.LABELMAP_SR, Role.SR}
    if Role.SR in asked:
        asked.add(Role.COMPREHENSIVE_SR)
    # The report stays here, too: it is what this node says of the job.
    return frozenset(asked | {Role.SEG, Role.SR})


def to_send(made: Collection[str], wanted: Collection[Role]) -> tuple[str, ...]:
    """Return which objects of a result go to a destination.

    Args:
        made: Roles of the objects that there are, ``map-2`` and the like among them.
        wanted: What the destination asks for.
    """
    kinds = set(wanted) - CHOSEN_BY_THE_NODE
    if Role.LABELMAP in kinds and Role.LABELMAP in made:
        kinds -= {Role.SEG}
        if Role.SR in kinds:
            kinds = kinds - {Role.SR} | {Role.LABELMAP_SR}
    elif Role.LABELMAP in kinds:
        kinds |= {Role.SEG}
    chosen = tuple(role for role in made if kind_of(role) in kinds)
    # Nobody is left without an answer: "nothing found" and "could not look" are reports.
    return chosen or tuple(role for role in made if role == Role.SR)


def kind_of(role: str) -> Role:
    """Return the role without the numbers that tell maps, series and images apart."""
    return Role(re.sub(r"(-\d+)+$", "", role))


def rank(role: str) -> tuple[int, str]:
    """Return what sorts objects so that none goes before one it refers to."""
    return list(Role).index(kind_of(role)), role
