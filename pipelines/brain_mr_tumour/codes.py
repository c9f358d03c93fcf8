"""Codes that only this pipeline uses."""

from __future__ import annotations

from typing import Final

from pipelines.contract import Code

TUMOUR: Final = Code("108369006", "SCT", "Neoplasm")

# Parts of a brain tumour, CID 7168
ENHANCING: Final = Code("C113842", "NCIt", "Enhancing Lesion")
NOT_ENHANCING: Final = Code("C81175", "NCIt", "Non-Enhancing Lesion")
OEDEMA: Final = Code("79654002", "SCT", "Edema")

HEMISPHERE: Final = Code("372073000", "SCT", "Cerebral hemisphere")

# PS3.16 has one volume, of one segment; these are of several segments together.
WHOLE_VOLUME: Final = Code("TUMOURWHOLE", "99RADNODE", "Volume of tumour with oedema")
CORE_VOLUME: Final = Code("TUMOURCORE", "99RADNODE", "Volume of tumour core")
LEFT_SHARE: Final = Code("TUMOURLEFT", "99RADNODE", "Part of tumour left of the midline")

PLANE_AGREEMENT: Final = Code("PLANEDICE", "99RADNODE", "Overlap of networks of three planes")
PLANE_DISAGREEMENT: Final = Code("PLANESD", "99RADNODE", "Disagreement of networks of three planes")
