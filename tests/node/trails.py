"""Audit trails for the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from node.audit import keep
from node.audit.chain import Chain, Places
from node.audit.records import segments
from node.audit.verify import verify
from node.store import events

if TYPE_CHECKING:
    from pathlib import Path

    from node.settings import Settings
    from node.store.ledger import Ledger

STUDY = "1.2.826.0.1.3680043.8.498.1"
AT = 1_764_531_000.25


def places_in(folder: Path) -> Places:
    return Places(
        folder / "audit",
        folder / "audit.key",
        (folder / "audit" / "head", folder / "elsewhere" / "head"),
    )


def body(number: int, **other: Any) -> dict[str, Any]:
    said = {"sequence": number, "at": AT + number, "kind": "sent", "subject": "pacs"}
    return {**said, "study_uid": STUDY, "detail": f"{number} of 1.2.840.10008.5.1.4.1.1.2"} | other


def written(places: Places, count: int, *, segment_bytes: int = 4_000, **other: Any) -> None:
    """Write ``count`` records more, in batches of some sizes."""
    with Chain(places, segment_bytes=segment_bytes) as chain:
        last = chain.head.number + count
        while chain.head.number < last:
            begin = chain.head.number + 1
            chain.append(body(n, **other) for n in range(begin, min(last, begin + begin % 7) + 1))


def lines_of(places: Places) -> list[bytes]:
    return [line for path in segments(places.folder) for line in path.read_bytes().splitlines(True)]


def bodies_of(places: Places) -> list[dict[str, Any]]:
    """Return what the trail says, all of it verified."""
    found: list[dict[str, Any]] = []
    verify(places, each=lambda record: found.append(dict(record.body)))
    return found


def happen(ledger: Ledger, *kinds: str, **said: Any) -> None:
    for kind in kinds:
        with ledger.write() as db:
            events.record(db, kind, **said)


def taken_over(settings: Settings, ledger: Ledger) -> list[dict[str, Any]]:
    """Let the keeper live once; what the trail says then."""
    places = keep.places(settings)
    with Chain(places, segment_bytes=settings.audit.segment_bytes) as chain:
        keep.Keeper(settings, ledger, chain, None).finish()
    return bodies_of(places)
