"""Whether a picture of the source's pixels may show whose they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.uid import (
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydicom import Dataset

_MODALITIES_WITH_NAMES = frozenset(
    {"BDUS", "BMD", "DMS", "ES", "GM", "HC", "IVUS", "OP", "OPT", "OT", "RF", "RG", "SC", "SM"}
    | {"US", "XA", "XC"}
)
"""Where pixels hold a screen, a film or a label as often as not (PS3.3 C.7.3.1.1.1).

``SC`` is no defined term, but is met.
"""

_SCREENS = frozenset(
    {
        SecondaryCaptureImageStorage,
        MultiFrameSingleBitSecondaryCaptureImageStorage,
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        MultiFrameTrueColorSecondaryCaptureImageStorage,
    }
)


def burned_in_annotation(sources: Iterable[Dataset]) -> str:
    """Return Burned In Annotation of what shows pixels of the source (PS3.3 C.7.6.1.1).

    Args:
        sources: Headers of the instances analysed.

    Returns:
        ``YES`` where one of them says so, or says nothing and is of a kind whose pixels carry
        names; ``NO`` otherwise. A page without any image says the same: a YES too many hides
        nothing, a NO too many lets a name out.
    """
    return "YES" if any(map(_may_name_the_patient, sources)) else "NO"


def _may_name_the_patient(source: Dataset) -> bool:
    said = str(source.get("BurnedInAnnotation") or "").strip().upper()
    if said in ("YES", "NO"):
        return said == "YES"
    return source.get("Modality") in _MODALITIES_WITH_NAMES or source.get("SOPClassUID") in _SCREENS
