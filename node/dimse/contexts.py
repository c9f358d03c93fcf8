"""What the listener offers: which SOP classes, in which transfer syntaxes, in which roles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.uid import UID
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at import time
    StorageCommitmentPushModel,
    Verification,
    register_uid,
)

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

RETIRED_STORAGE = {
    "1.2.840.10008.5.1.1.29": "HardcopyGrayscaleImageStorage",
    "1.2.840.10008.5.1.1.30": "HardcopyColorImageStorage",
    "1.2.840.10008.5.1.4.1.1.3": "UltrasoundMultiFrameImageStorageRetired",
    "1.2.840.10008.5.1.4.1.1.5": "NuclearMedicineImageStorageRetired",
    "1.2.840.10008.5.1.4.1.1.6": "UltrasoundImageStorageRetired",
    "1.2.840.10008.5.1.4.1.1.8": "StandaloneOverlayStorage",
    "1.2.840.10008.5.1.4.1.1.9": "StandaloneCurveStorage",
    "1.2.840.10008.5.1.4.1.1.9.1": "WaveformStorageTrial",
    "1.2.840.10008.5.1.4.1.1.10": "StandaloneModalityLUTStorage",
    "1.2.840.10008.5.1.4.1.1.11": "StandaloneVOILUTStorage",
    "1.2.840.10008.5.1.4.1.1.12.3": "XRayAngiographicBiPlaneImageStorage",
    "1.2.840.10008.5.1.4.1.1.77.1": "VLImageStorageTrial",
    "1.2.840.10008.5.1.4.1.1.77.2": "VLMultiFrameImageStorageTrial",
    "1.2.840.10008.5.1.4.1.1.88.1": "TextSRStorageTrial",
    "1.2.840.10008.5.1.4.1.1.88.2": "AudioSRStorageTrial",
    "1.2.840.10008.5.1.4.1.1.88.3": "DetailSRStorageTrial",
    "1.2.840.10008.5.1.4.1.1.88.4": "ComprehensiveSRStorageTrial",
    "1.2.840.10008.5.1.4.1.1.129": "StandalonePETCurveStorage",
}
"""Not in PS3.4 table B.5-1 any more, but archives still send them. pynetdicom knows none."""

for _uid, _keyword in RETIRED_STORAGE.items():
    register_uid(_uid, _keyword, StorageServiceClass)

STORAGE_SOP_CLASSES = (
    *(UID(str(context.abstract_syntax)) for context in AllStoragePresentationContexts),
    *map(UID, RETIRED_STORAGE),
)

UNCOMPRESSED = tuple(map(UID, ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2")))
DEFLATED = tuple(map(UID, ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1")))

WITHOUT_PIXELS = (
    "1.2.840.10008.1.2.4.94",
    "1.2.840.10008.1.2.4.95",
    "1.2.840.10008.1.2.4.204",
    "1.2.840.10008.1.2.4.205",
    "1.2.840.10008.1.2.7.1",
    "1.2.840.10008.1.2.7.2",
    "1.2.840.10008.1.2.7.3",
)
"""JPIP refers to a server, SMPTE ST 2110 to a stream: the instance would be an empty shell."""

UNKNOWN_TO_PYNETDICOM = (
    "1.2.840.10008.1.2.1.98",
    "1.2.840.10008.1.2.4.53",
    "1.2.840.10008.1.2.4.55",
)
"""Encapsulated uncompressed, and two retired JPEG processes that old archives still hold."""


def transfer_syntaxes(*, accept_deflated: bool) -> list[str | UID]:
    """Return what is accepted."""
    compressed = [
        UID(str(uid))
        for uid in (*ALL_TRANSFER_SYNTAXES, *UNKNOWN_TO_PYNETDICOM)
        if uid not in (*UNCOMPRESSED, *DEFLATED, *WITHOUT_PIXELS)
    ]
    return [*UNCOMPRESSED, *compressed, *(DEFLATED if accept_deflated else ())]


def choose(proposed: Sequence[UID], accepted: Container[str]) -> UID | None:
    """Return the transfer syntax to accept of those proposed for one context; None if none.

    The acceptor chooses (PS3.8 section 9.3.2.2), and pynetdicom would by its own order. The
    sender's first one is what it has: dcmsend lists the file's compressed one, then those it
    could decompress to. Among uncompressed ones explicit VR is better: it keeps the VRs of
    private elements.
    """
    possible = [uid for uid in proposed if uid in accepted]
    if possible and possible[0] in UNCOMPRESSED:
        return min((uid for uid in possible if uid in UNCOMPRESSED), key=UNCOMPRESSED.index)
    return possible[0] if possible else None


class SharedContexts(list[PresentationContext]):
    """Contexts that every association reads and none changes.

    pynetdicom copies them deeply for each association: 50 to 100 ms of CPU for these (measured),
    which a scanner that opens an association for every image would feel.
    """

    def __deepcopy__(self, memo: dict[int, object]) -> SharedContexts:
        return self


def listener_contexts(*, accept_deflated: bool) -> SharedContexts:
    """Return every presentation context that the listener accepts.

    Storage Commitment is there with the roles reversed: a PACS may open an association, propose
    itself as SCP, and report what it has committed to (PS3.4 section J.3.3).
    """
    syntaxes = transfer_syntaxes(accept_deflated=accept_deflated)
    commitment = build_context(StorageCommitmentPushModel, list(UNCOMPRESSED))
    commitment.scu_role = commitment.scp_role = True
    return SharedContexts(
        [
            build_context(Verification, list(UNCOMPRESSED)),
            commitment,
            *(build_context(sop_class, syntaxes) for sop_class in STORAGE_SOP_CLASSES),
        ]
    )
