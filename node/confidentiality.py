"""The tables of the configuration file about what leaves the hospital (PS3.15 annex E)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from node.section import Name, Section

DeidentifyOption = Literal[
    "modified-dates",
    "clean-descriptors",
    "clean-structured-content",
    "patient-characteristics",
    "device-identity",
    "safe-private",
]
"""PS3.15 section E.3; docs/deidentification.md says what each keeps."""

PrivateElement = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{3}[13579bdf],[0-9a-f]{2}$")]
"""Group, and element within its private block."""

NotNegative = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class Blank(Section):
    """Where a device burns names into its images."""

    manufacturer: str
    model: str
    rows: Positive
    columns: Positive
    rectangles: tuple[tuple[NotNegative, NotNegative, Positive, Positive], ...]
    """Left, top, width, height, in pixels. None at all: nothing is burned in."""


class Deidentify(Section):
    """What stays of an object that leaves without its patient's identity."""

    options: tuple[DeidentifyOption, ...] = (
        "modified-dates",
        "clean-descriptors",
        "clean-structured-content",
        "patient-characteristics",
        "safe-private",
    )
    """Beyond the Basic Profile."""
    safe_private: dict[str, tuple[PrivateElement, ...]] = Field(default_factory=dict)
    """Private creator -> numbers of its block that stay, beside those of PS3.15 E.3.10."""
    blank: dict[Name, Blank] = Field(default_factory=dict)
    """Devices whose images may leave once these rectangles are blanked."""
