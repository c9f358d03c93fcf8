"""Which part of the body a radiograph shows, by its header; nothing where that is not certain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pipelines import codes
from pipelines.contract import Code

if TYPE_CHECKING:
    from collections.abc import Mapping

_PAIRED: Final = {
    "ANKLE": Code("70258002", "SCT", "Ankle joint"),
    "CALCANEUS": Code("80144004", "SCT", "Calcaneus"),
    "CLAVICLE": Code("51299004", "SCT", "Clavicle"),
    "ELBOW": Code("16953009", "SCT", "Elbow joint"),
    "FEMUR": Code("71341001", "SCT", "Femur"),
    "FINGER": Code("7569003", "SCT", "Finger"),
    "FOOT": Code("56459004", "SCT", "Foot"),
    "FOREARM": Code("14975008", "SCT", "Forearm"),
    "HAND": Code("85562004", "SCT", "Hand"),
    "HIP": Code("24136001", "SCT", "Hip joint"),
    "HUMERUS": Code("85050009", "SCT", "Humerus"),
    "KNEE": Code("72696002", "SCT", "Knee"),
    "LEG": Code("30021000", "SCT", "Lower leg"),
    "PATELLA": Code("64234005", "SCT", "Patella"),
    "RIB": Code("113197003", "SCT", "Rib"),
    "SCAPULA": Code("79601000", "SCT", "Scapula"),
    "SHOULDER": Code("16982005", "SCT", "Shoulder"),
    "THIGH": Code("68367000", "SCT", "Thigh"),
    "THUMB": Code("76505004", "SCT", "Thumb"),
    "TOE": Code("29707007", "SCT", "Toe"),
    "WRIST": Code("74670003", "SCT", "Wrist joint"),
}
_SINGLE: Final = {
    "ABDOMEN": Code("818981001", "SCT", "Abdomen"),
    "CHEST": Code("816094009", "SCT", "Chest"),
    "COCCYX": Code("64688005", "SCT", "Coccyx"),
    "CSPINE": Code("122494005", "SCT", "Cervical spine"),
    "LSPINE": Code("122496007", "SCT", "Lumbar spine"),
    "PELVIS": Code("816092008", "SCT", "Pelvis"),
    "SKULL": Code("89546000", "SCT", "Skull"),
    "SPINE": Code("421060004", "SCT", "Spine"),
    "STERNUM": Code("56873002", "SCT", "Sternum"),
    "TSPINE": Code("122495006", "SCT", "Thoracic spine"),
}
SITES: Final = _PAIRED | _SINGLE
"""Body Part Examined -> code of CID 4031 (PS3.16 annex L)."""
_CODED = {code.value: code for code in SITES.values()}
_SIDES = {"L": codes.LEFT, "R": codes.RIGHT}


def site_of(attributes: Mapping[str, str]) -> tuple[Code | None, Code | None]:
    """Return the part of the body and its side.

    The coded region (PS3.3 table 10-5) and Body Part Examined are both heard; where they say
    different things, nothing is certain. Image Laterality goes before Laterality, which is that
    of a whole series.

    Args:
        attributes: Of the image, as in ``Images``.

    Returns:
        None for what is not stated, not known here, or not certain.
    """
    value, _, scheme = attributes.get("AnatomicRegionSequence", "").partition("\\")
    coded = _CODED.get(value) if scheme == "SCT" else None
    named = SITES.get(attributes.get("BodyPartExamined", "").strip().upper())
    if coded is not None and named is not None and coded != named:
        return None, None
    site = coded or named
    if site is None or site not in _PAIRED.values():
        return site, None
    side = attributes.get("ImageLaterality") or attributes.get("Laterality") or ""
    return site, _SIDES.get(side.strip().upper())
