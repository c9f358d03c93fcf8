"""Damage done to bytes, as a broken sender, a broken line or an attacker does it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

HEAD_BYTES = 64
SCALES = 10
"""A blow falls within the first 64 bytes, 128, 256, ... 32 kB, each as likely: headers and lengths
are in front."""

_NUMBERS = (0, 1, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_WIDTHS = (">B", "<H", ">H", "<L", ">L")


def mutated(random: Random, content: bytes) -> bytes:
    """Return ``content`` with one to three changes; never the same."""
    changed = content
    while changed == content:
        for _ in range(random.randint(1, 3)):
            changed = random.choice(_BLOWS)(random, changed)
    return changed


def _place(random: Random, content: bytes) -> int:
    return random.randrange(min(len(content), HEAD_BYTES << random.randrange(SCALES)) or 1)


def _flip(random: Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(random.randint(1, 8)):
        if changed:
            changed[_place(random, content)] ^= 1 << random.randrange(8)
    return bytes(changed)


def _number(random: Random, content: bytes) -> bytes:
    width = random.choice(_WIDTHS)
    size_bytes = struct.calcsize(width)
    at = _place(random, content)
    number = random.choice(_NUMBERS) & (1 << 8 * size_bytes) - 1
    return content[:at] + struct.pack(width, number) + content[at + size_bytes :]


def _cut(random: Random, content: bytes) -> bytes:
    return content[: _place(random, content)]


def _insert(random: Random, content: bytes) -> bytes:
    at = _place(random, content)
    return content[:at] + random.randbytes(random.randint(1, 40)) + content[at:]


def _remove(random: Random, content: bytes) -> bytes:
    at = _place(random, content)
    return content[:at] + content[at + random.randint(1, 40) :]


def _repeat(random: Random, content: bytes) -> bytes:
    at = _place(random, content)
    end = at + random.randint(1, 400)
    return content[:end] + content[at:end] + content[end:]


def _overwrite(random: Random, content: bytes) -> bytes:
    at = _place(random, content)
    noise = random.randbytes(random.randint(1, 16))
    return content[:at] + noise + content[at + len(noise) :]


_BLOWS: tuple[Callable[[Random, bytes], bytes], ...] = (
    _flip,
    _number,
    _number,
    _cut,
    _insert,
    _remove,
    _repeat,
    _overwrite,
)
