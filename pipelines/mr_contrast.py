"""What the headers of an MR series say of its contrast: the words in its name, its timing.

Limits between T1-weighted protocols and others are halfway between them. ACR's phantom test: T1
with repetition 500 and echo 20 ms, T2 with 2000 and 80 ms. Inversion: 900 to 1000 ms in the
MP-RAGE of Jack et al. 2008, J Magn Reson Imaging 27:685-691; 1800 ms or more in the FLAIR of De
Coene et al. 1992, AJNR 13:1555-1564. Repetition times of inversion recovery are not judged.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_T1_ECHO_MS = 30.0
LONGEST_T1_INVERSION_MS = 1500.0
LONGEST_T1_REPETITION_MS = 1500.0

DERIVED = frozenset(
    {
        *("ADC", "FA", "TRACEW", "DIFFUSION", "PERFUSION", "PHASE", "P", "PROJECTION", "MIP"),
        *("MPR", "SUBTRACTION", "MAP", "T1MAP"),
    }
)
"""Words in Image Type of what is no plain image of one contrast."""


def words(attributes: Mapping[str, str], *keywords: str) -> set[str]:
    """Return the words in these attributes, in capitals."""
    text = "\\".join(attributes.get(keyword, "") for keyword in keywords)
    return set(re.split(r"[^A-Z0-9]+", text.upper())) - {""}


def milliseconds(attributes: Mapping[str, str], *keywords: str) -> float | None:
    """Return the first of these times that is a number."""
    for keyword in keywords:
        try:
            return float(attributes.get(keyword, "").split("\\")[0])
        except ValueError:
            continue
    return None
