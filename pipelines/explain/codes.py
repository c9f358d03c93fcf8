"""The quantity of a saliency map; PS3.16 has none."""

from __future__ import annotations

from typing import Final

from pipelines.contract import Code

SALIENCY: Final = Code("SALIENCY", "99RADNODE", "Part of the answer that rests on this place")
