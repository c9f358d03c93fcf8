"""Codes that only this pipeline uses. PS3.16 tells haemorrhage by its site, not by its kind."""

from __future__ import annotations

from typing import Final

from pipelines.contract import Code

CRANIAL_CAVITY: Final = Code("1101003", "SCT", "Cranial Cavity")
OEDEMA: Final = Code("79654002", "SCT", "Edema")

INTRAPARENCHYMAL: Final = Code("IPH", "99RADNODE", "Intraparenchymal hemorrhage")
EXTRA_AXIAL: Final = Code("EAH", "99RADNODE", "Extra-axial hemorrhage")
INTRAVENTRICULAR: Final = Code("IVH", "99RADNODE", "Intraventricular hemorrhage")

TOTAL_VOLUME: Final = Code("HEMORRHAGETOTAL", "99RADNODE", "Volume of all intracranial hemorrhage")
LEFT_SHARE: Final = Code("HEMORRHAGELEFT", "99RADNODE", "Part left of the midline")
DISAGREEMENT: Final = Code(
    "LESIONSD", "99RADNODE", "Standard deviation of networks' probability of hemorrhage"
)
