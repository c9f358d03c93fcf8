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
FRACTURE: Final = Code("125605004", "SCT", "Fracture of bone")
OPACITY: Final = Code("112001", "DCM", "Opacity")

# Measurements, CID 7469
VOLUME: Final = Code("118565006", "SCT", "Volume")
"""Voxel summation over the segment: the publish gate counts again."""

# Lengths and areas, CID 7470 and 7471
LONG_AXIS: Final = Code("103339001", "SCT", "Long Axis")
"""The longest diameter in a slice; viewers know it, and the next, by these capitals."""
SHORT_AXIS: Final = Code("103340004", "SCT", "Short Axis")
"""The longest diameter perpendicular to the long axis, in the same slice."""
AREA: Final = Code("42798000", "SCT", "Area")
"""Within an outline, in one slice."""
MAXIMUM_3D_DIAMETER: Final = Code("L0JK", "IBSI", "Maximum 3D Diameter of a Mesh")
MAJOR_AXIS_3D: Final = Code("TDIC", "IBSI", "Major Axis in 3D Length")
MINOR_AXIS_3D: Final = Code("P9VJ", "IBSI", "Minor Axis in 3D Length")
LEAST_AXIS_3D: Final = Code("7J51", "IBSI", "Least Axis in 3D Length")
SURFACE_AREA: Final = Code("C0JK", "IBSI", "Surface Area of Mesh")

# Intensities, CID 7469, and which statistic of them, CID 7464
ATTENUATION_COEFFICIENT: Final = Code("112031", "DCM", "Attenuation Coefficient")
MR_SIGNAL_INTENSITY: Final = Code("110852", "DCM", "MR signal intensity")
MEAN: Final = Code("373098007", "SCT", "Mean")
STANDARD_DEVIATION: Final = Code("386136009", "SCT", "Standard Deviation")

# Follow-up. PS3.16 has no concept for a lesion's volume in an earlier study or its growth.
PRIOR_VOLUME: Final = Code("PRIORVOLUME", "99RADNODE", "Volume in the prior study")
TIME_SINCE_PRIOR: Final = Code("PRIORINTERVAL", "99RADNODE", "Time since the prior study")
VOLUME_CHANGE: Final = Code("VOLUMECHANGE", "99RADNODE", "Volume change since the prior study")
RELATIVE_VOLUME_CHANGE: Final = Code(
    "RELVOLUMECHANGE", "99RADNODE", "Relative volume change since the prior study"
)
VOLUME_DOUBLING_TIME: Final = Code("VDT", "99RADNODE", "Volume doubling time")
"""Schwartz 1961, Cancer 14:1272-1294."""

OUTSIDE_PS3_16: Final = frozenset(
    {
        # In PS3.16 by a template's own words, where pydicom's table of concepts lacks them.
        Code("276214006", "SCT", "Finding category"),  # TID 1501 row 3b
        Code("260753009", "SCT", "Source"),  # TID 1600
        Code("271921002", "SCT", "ECG Finding"),  # TID 3717
        Code("en", "RFC5646", "English"),  # TID 1204, CID 5000
        Code("272518008", "SCT", "Cardiac Cycle Point"),  # TID 5203, TID 5302
        # In CID 7470 by these words, where pydicom's table has another context group's.
        LONG_AXIS,
        SHORT_AXIS,
        # SNOMED CT's own; PS3.16 has no concept for a broken bone of any place.
        FRACTURE,
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
    "d": "day",
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
