"""Pseudonyms: what the site's secret makes of UIDs, patient IDs and dates.

The same original always becomes the same, in every study, run and destination, so references
between objects stay intact and later studies join earlier ones. Without the secret nobody can tell
which original a pseudonym stands for, nor test a guess.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import stat
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING

from node.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

SECRET_BYTES = 32
LONGEST_SHIFT_DAYS = 3650
EARLIEST = date(1900, 1, 1)


@dataclass(frozen=True)
class Pseudonyms:
    """Maps what identifies to what does not; keyed by the site's secret.

    Attributes:
        secret: At least ``SECRET_BYTES``.
    """

    secret: bytes = field(repr=False)

    def uid(self, original: str) -> str:
        """Return the UID that stands for ``original``: under ``2.25`` (PS3.5 annex B.2).

        The number is a UUID of version 8 (RFC 9562 section 5.8).
        """
        number = int.from_bytes(self._digest("uid", original)[:16], "big")
        number = number & ~(0xF << 76) | 8 << 76
        number = number & ~(0x3 << 62) | 2 << 62
        return f"2.25.{uuid.UUID(int=number).int}"

    def patient_id(self, original: str) -> str:
        """Return the ID that stands for a patient: ``P`` and 16 letters or digits."""
        return "P" + base64.b32encode(self._digest("patient", original)[:10]).decode()

    def shift_days(self, patient_id: str) -> int:
        """Return by how many whole days the dates of a patient move: -3650 to -1, never 0."""
        number = int.from_bytes(self._digest("dates", patient_id)[:8], "big")
        return -1 - number % LONGEST_SHIFT_DAYS

    def _digest(self, what: str, original: str) -> bytes:
        return hmac.digest(self.secret, f"{what}|{original}".encode(), hashlib.sha256)


def shifted(original: str, days: int) -> str | None:
    """Return a date ``YYYYMMDD``, moved; None for what is no such date, or one before 1900."""
    if len(original) != 8 or not original.isdecimal() or not original.isascii():
        return None
    try:
        moved = date(int(original[:4]), int(original[4:6]), int(original[6:])) + timedelta(days)
    except (ValueError, OverflowError):
        return None
    return moved.strftime("%Y%m%d") if moved >= EARLIEST else None


def pseudonyms(path: Path) -> Pseudonyms:
    """Return those of the secret in the file ``path``, which is made on first use.

    Raises:
        ConfigError: The file is open to others, or no secret of ours.
        OSError: It can be neither read nor made.
    """
    if not path.exists():
        _make(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError(
            f"{path} can be read by others: whoever knows it can undo the de-identification.",
            do=f"chmod 600 {path}",
        )
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except ValueError:
        secret = b""
    if len(secret) < SECRET_BYTES:
        raise ConfigError(
            f"{path} is no secret of this node.",
            do="Put it back from a backup. If there is none, remove it: new pseudonyms are made, "
            "and nothing sent so far will match what is sent from now on.",
        )
    return Pseudonyms(secret)


def _make(path: Path) -> None:
    """Make the secret, durably. Of several processes that try, one does, and all read its."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_suffix(f".{uuid.uuid4().hex}.part")
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(SECRET_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(part)
    finally:
        part.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
