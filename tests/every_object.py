"""Every result object that any test makes, for the validators at the end of the session.

Two sources: files that a test, or a node that it started, left in a temporary folder; and what
an encoder returned within this process, written or not. Objects made wrong on purpose are in a
folder named ``broken``, or were changed only after they were encoded.

Property tests make hundreds of objects that differ in nothing a validator reads otherwise: of
those that differ only in UIDs, dates, numbers, free text and pixels, one is kept.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable
from copy import copy
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom import Dataset, dcmread

from node.uids import IMPLEMENTATION_CLASS_UID
from tests.peers import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BROKEN = "broken"
"""Name of a folder whose objects are wrong on purpose."""

_ENCODERS = {
    "segmentation": ("encode_segmentation",),
    "document": ("encode_document",),
    "parametric_map": ("encode_parametric_map",),
    "presentation": ("encode_presentation",),
    "key_objects": ("encode_key_objects", "encode_rejection_note"),
    "pictures": ("encode_secondary_capture", "encode_pdf"),
}
"""Module of ``node.encode`` -> functions that return a whole object. Whoever imports them gets the
watched ones, for they are wrapped before any test module is imported."""

_VARIES = frozenset({"UI", "DA", "DT", "TM", "DS", "IS", "FL", "FD", "US", "SS", "UL", "SL"}) | {
    "SH", "LO", "PN", "ST", "LT", "UT", "UC", "OB", "OW", "OF", "OD", "AT", "SV", "UV",
}  # fmt: skip
"""Value representations of which validators ask whether and how many, not which (codes apart)."""

_TELLS = frozenset(
    {"SOPClassUID", "ReferencedSOPClassUID", "CodeValue", "CodingSchemeDesignator", "CodeMeaning"}
)

_KEPT: dict[str, Dataset] = {}
"""Structure -> the first object of it that an encoder returned."""


def watch() -> None:
    """Have every encoder of this process keep a copy of what it returns."""
    for module_name, functions in _ENCODERS.items():
        module = importlib.import_module(f"node.encode.{module_name}")
        for name in functions:
            setattr(module, name, _kept(getattr(module, name)))


def _kept(encoder: Callable[..., Dataset | None]) -> Callable[..., Dataset | None]:
    @functools.wraps(encoder)
    def encode(*arguments: Any, **named: Any) -> Dataset | None:
        made = encoder(*arguments, **named)
        if made is not None:
            key = structure(made)
            if key not in _KEPT:
                _KEPT[key] = copy(made)
        return made

    return encode
