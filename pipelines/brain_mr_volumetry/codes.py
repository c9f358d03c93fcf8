"""Codes, names and colours of what is outlined; colours as in FreeSurfer's table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pipelines.codes import ANATOMICAL_STRUCTURE, TISSUE
from pipelines.contract import Code

GREY_MATTER: Final = Code("389081007", "SCT", "Gray Matter")
WHITE_MATTER: Final = Code("389080008", "SCT", "White Matter")
HIPPOCAMPUS: Final = Code("5366008", "SCT", "Hippocampus")
BRAIN_TISSUE_SHARE: Final = Code("BRAINTISSUESHARE", "99RADNODE", "Grey and white matter of brain")
"""Grey and white matter as a share of what deepbet outlines; after Rudick et al. 1999,
Neurology 53:1698-1704 (brain parenchymal fraction), whose outer contour was another."""
ASYMMETRY: Final = Code("ASYMMETRYINDEX", "99RADNODE", "Asymmetry index, left minus right")
"""200 (left - right) / (left + right)."""


@dataclass(frozen=True)
class Structure:
    """What a class of a network becomes.

    Attributes:
        label: Of the segment.
        property: What it is.
        color: sRGB 0..255.
        category: Of what kind.
    """

    label: str
    property: Code
    color: tuple[int, int, int]
    category: Code = ANATOMICAL_STRUCTURE


TISSUES: Final = {
    "White Matter": Structure("White matter", WHITE_MATTER, (245, 245, 245), TISSUE),
    "Grey Matter": Structure("Grey matter", GREY_MATTER, (205, 62, 78), TISSUE),
}
"""By the names of MeshNet's classes."""

HIPPOCAMPUS_CLASS: Final = "Hippocampus"
STRUCTURES: Final = {
    name: Structure(label, Code(code, scheme, meaning), color)
    for name, label, code, scheme, meaning, color in (
        (
            *("Cerebral-White-Matter", "Cerebral white matter"),
            *("68523003", "SCT", "Cerebral White Matter", (245, 245, 245)),
        ),
        (
            *("Cerebral-Cortex", "Cerebral cortex"),
            *("40146001", "SCT", "Cerebral cortex", (205, 62, 78)),
        ),
        (
            *("Lateral-Ventricle", "Lateral ventricles"),
            *("66720007", "SCT", "Lateral Ventricle", (120, 18, 134)),
        ),
        (
            *("Inferior-Lateral-Ventricle", "Inferior horns of lateral ventricles"),
            *("53118009", "SCT", "Inferior Horn of Lateral Ventricle", (196, 58, 250)),
        ),
        (
            *("Cerebellum-White-Matter", "Cerebellar white matter"),
            *("33060004", "SCT", "Cerebellar White Matter", (220, 248, 164)),
        ),
        (
            *("Cerebellum-Cortex", "Cerebellar cortex"),
            *("25991003", "SCT", "Cerebellar Cortex", (230, 148, 34)),
        ),
        ("Thalamus", "Thalami", "42695009", "SCT", "Thalamus", (0, 118, 14)),
        ("Caudate", "Caudate nuclei", "11000004", "SCT", "Caudate Nucleus", (122, 186, 220)),
        ("Putamen", "Putamina", "89278009", "SCT", "Putamen", (236, 13, 176)),
        ("Pallidum", "Globi pallidi", "14738005", "SCT", "Globus Pallidus", (12, 48, 255)),
        ("3rd-Ventricle", "Third ventricle", "49841001", "SCT", "Third ventricle", (204, 182, 142)),
        (
            "4th-Ventricle",
            "Fourth ventricle",
            "35918002",
            "SCT",
            "Fourth Ventricle",
            (42, 204, 164),
        ),
        ("Brain-Stem", "Brain stem", "119238007", "SCT", "Brain Stem", (119, 159, 176)),
        (HIPPOCAMPUS_CLASS, "Hippocampi", "5366008", "SCT", "Hippocampus", (220, 216, 20)),
        ("Amygdala", "Amygdalae", "4958002", "SCT", "Amygdala", (103, 255, 255)),
        (
            *("Accumbens-area", "Nuclei accumbentes"),
            *("427667007", "SCT", "Nucleus Accumbens", (255, 165, 0)),
        ),
        (
            *("VentralDC", "Ventral diencephalon"),
            *("VENTRALDC", "99RADNODE", "Ventral diencephalon", (165, 42, 42)),
        ),
    )
}
"""By the names of MeshNet's 17 classes, which hold both sides together."""
