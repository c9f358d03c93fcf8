"""An audit trail, tampered with a thousand times by whoever has the disk but not the key."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from typing import TYPE_CHECKING

from node.audit.verify import verify
from node.errors import AuditBroken
from tests.node.audit_tampering import MUTATIONS, contents, restore
from tests.node.trails import places_in, written
from tests.torture.subject import Figure, Size

if TYPE_CHECKING:
    from pathlib import Path

    from node.audit.chain import Places

RECORDS = 1_000
SEGMENT_BYTES = 40_000


def measure(seed: int, size: Size, folder: Path) -> list[Figure]:
    """Change, remove, move and put in; and verify, before and after."""
    wanted = size.choose(quick=100, submission=1_000, long=20_000)
    whole, stranger = places_in(folder / "whole"), places_in(folder / "stranger")
    written(whole, RECORDS, segment_bytes=SEGMENT_BYTES)
    written(stranger, RECORDS, segment_bytes=SEGMENT_BYTES, subject="another")
    chance = random.Random(seed)
    tampered = folder / "tampered"
    shutil.copytree(folder / "whole", tampered)
    places, original = places_in(tampered), contents(tampered)
    tried, found, false_alarms = Counter[str](), Counter[str](), 0
    for number in range(wanted):
        mutate = MUTATIONS[number % len(MUTATIONS)]
        mutate(places, stranger, chance)
        now = contents(tampered)
        if now != original:
            tried[mutate.__name__] += 1
            found[mutate.__name__] += _is_found(places)
        restore(tampered, original, now)
        if number % 20 == 0:
            false_alarms += _is_found(places)
    missed = ", ".join(sorted(name for name in tried if found[name] < tried[name]))
    return [
        Figure(
            "tamperings with the audit trail that verify finds",
            found.total(),
            of=tried.total(),
            at_least=tried.total(),
            note=f"missed: {missed}" if missed else ", ".join(sorted(tried)).replace("_", " "),
        ),
        Figure("false alarms of verify", false_alarms, of=-(-wanted // 20), at_most=0),
    ]


def _is_found(places: Places) -> bool:
    try:
        verify(places)
    except AuditBroken:
        return True
    return False
