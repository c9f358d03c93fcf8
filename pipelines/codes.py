"""Codes that several pipelines share, and the few that reach a report from outside PS3.16.

A code that only one pipeline uses lives in that pipeline's own ``codes.py``. The publish gate
holds every code of a result against pydicom's copy of PS3.16, then against ``OUTSIDE_PS3_16``.
"""

from __future__ import annotations

from typing import Final

from pipelines.contract import Code

# Segmented property categories, CID 7150
ANATOMICAL_STRUCTURE: Final = Code("91723000", "SCT", "Anatomical Structure")
MORPHOLOGICALLY_ABNORMAL: Final = Code("49755003", "SCT", "Morphologically Abnormal Structure")
TISSUE: Final = Code("85756007", "SCT", "Tissue")

# Sites
BRAIN: Final = Code("12738006", "SCT", "Brain")
HEART: Final = Code("80891009", "SCT", "Heart")
LUNG: Final = Code("39607008", "SCT", "Lung")
LEFT: Final = Code("7771000", "SCT", "Left")
RIGHT: Final = Code("24028007", "SCT", "Right")

# Findings, CID 7151 and 6104
HAEMORRHAGE: Final = Code("50960005", "SCT", "Hemorrhage")
NODULE: Final = Code("27925004", "SCT", "Nodule")
OPACITY: Final = Code("112001", "DCM", "Opacity")

# Measurements, CID 7469
VOLUME: Final = Code("118565006", "SCT", "Volume")
"""Voxel summation over the segment: the publish gate counts again."""

OUTSIDE_PS3_16: Final = frozenset(
    {
        # In PS3.16 by a template's own words, where pydicom's table of concepts lacks them.
        Code("276214006", "SCT", "Finding category"),  # TID 1501 row 3b
        Code("260753009", "SCT", "Source"),  # TID 1600
        Code("271921002", "SCT", "ECG Finding"),  # TID 3717
        Code("en", "RFC5646", "English"),  # TID 1204, CID 5000
        # In an IHE supplement only (AIR, trial implementation, 6.5.3.1).
        Code("Newcode1", "99IHE", "Processing Algorithm"),
    }
)
"""Every code a result may carry although pydicom's copy of PS3.16 does not list it."""

UNIT_MEANINGS: Final = {
    "1": "no units",
    "%": "Percent",
    "/min": "/min",
    "cm3": "cubic centimeter",
    "mL": "milliliter",
    "mm": "mm",
    "mm2": "square millimeter",
    "mm3": "cubic millimeter",
    "ms": "millisecond",
    "mV": "mV",
    "s": "second",
    "[hnsf'U]": "Hounsfield unit",
    "{pixels}": "Pixels",
}
"""UCUM code -> Code Meaning. A unit that is not here means itself, as CID 82 allows."""
