"""The concepts of PS3.16 that this pipeline reports beside those of all pipelines."""

from __future__ import annotations

from typing import Final

from pipelines.contract import Code

DIAMETER: Final = Code("81827009", "SCT", "Diameter")
"""CID 7470; with the derivation "mean", the average of long and short axis."""

UPPER_ZONE: Final = Code("281392002", "SCT", "Upper zone of lung")
"""CID 6171, as the two below. A third of the lung's height: lobes are not told apart."""
MIDDLE_ZONE: Final = Code("281393007", "SCT", "Middle zone of lung")
LOWER_ZONE: Final = Code("281394001", "SCT", "Lower zone of lung")
