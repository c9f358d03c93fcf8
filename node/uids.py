"""Identifiers that the same work always maps to, so that doing it twice makes one result."""

from __future__ import annotations

import re
import uuid

_NAMESPACE = uuid.UUID("5d4b7f0e-6c1a-5e0b-9c55-7a2f0d1c8e11")

UID_PATTERN = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
"""Components without leading zeros (PS3.5 section 9.1)."""

IMPLEMENTATION_CLASS_UID = "2.25.207643591207343187261432104478411187316"
IMPLEMENTATION_VERSION_NAME = "RADNODE_0_1"


def is_uid(text: str) -> bool:
    """Whether ``text`` is a UID as PS3.5 section 9.1 wants it: at most 64 characters."""
    return len(text) <= 64 and UID_PATTERN.fullmatch(text) is not None


def derived_uuid(*parts: str) -> uuid.UUID:
    """Return the name-based UUID (RFC 9562 version 5) that ``parts`` always map to.

    Raises:
        ValueError: A part is empty or contains ``|``, which would let two works share one.
    """
    if not parts or any(not part or "|" in part for part in parts):
        raise ValueError(f"Parts must be non-empty and free of '|'; got {len(parts)} parts.")
    return uuid.uuid5(_NAMESPACE, "|".join(parts))


def derived_uid(*parts: str) -> str:
    """Return the UID that ``parts`` always map to.

    Args:
        parts: What makes the object the same object, most general first: study UID,
            input digest, pipeline name and version, model digest, role.

    Returns:
        A UID under ``2.25`` of at most 44 characters (PS3.5 annex B.2).

    Raises:
        ValueError: As ``derived_uuid``.
    """
    return f"2.25.{derived_uuid(*parts).int}"
