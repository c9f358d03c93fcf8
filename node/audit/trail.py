"""The trail: which events of the ledger it takes over, and what a record of it says.

It takes them all, in their order, each once: the sequence number of the last one taken is that of
the last record, so that the chain is its own bookmark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from node.log import get_logger
from node.settings import DimseDestination, FolderDestination
from node.store import events

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from node.audit.records import Record
    from node.settings import Settings
    from node.store.events import Event
    from node.store.ledger import Ledger

log = get_logger(__name__)

BATCH = 500
LEDGER_WENT_BACK = "ledger_went_back"
"""Kind of the record that tells a loss of the ledger; it stands for no event."""

_OF_THE_LEDGER = ("kind", "at", "study_uid", "job_id", "subject", "detail")


def body_of(event: Event, settings: Settings, patient_id: str | None) -> dict[str, Any]:
    """Return what the record of an event says; with the peer, where the event names one."""
    said = {name: getattr(event, name) for name in ("sequence", *_OF_THE_LEDGER)}
    peer = _peer(settings, event.subject or "")
    return {
        **{name: value for name, value in said.items() if value not in {None, ""}},
        **({"peer": peer} if peer else {}),
        **({} if patient_id is None else {"patient_id": patient_id}),
    }


def _peer(settings: Settings, name: str) -> Mapping[str, str]:
    """Return the destination of this name, as it is configured now."""
    destination = settings.destinations.get(name)
    if isinstance(destination, DimseDestination):
        return {"ae_title": destination.ae_title, "host": destination.host}
    if isinstance(destination, FolderDestination):
        return {"folder": str(destination.path)}
    return {}


def new_events(ledger: Ledger, after: int) -> Sequence[Event]:
    """Return the next events after a sequence number, none of which can still turn up later."""
    with ledger.read() as db:
        found = events.after(db, after, BATCH)
    if not _has_gap(found, after):
        return found
    # PostgreSQL gives out numbers before it commits them: whoever is between the two is waited
    # for. What is missing then was rolled back.
    with ledger.write() as db:
        events.wait_for_writers(db)
        return events.after(db, after, BATCH)


def _has_gap(found: Sequence[Event], after: int) -> bool:
    return bool(found) and found[-1].sequence - after != len(found)


def resume(ledger: Ledger, last: Sequence[Record]) -> tuple[int, tuple[dict[str, Any], ...]]:
    """Return after which event to go on, and records to add before.

    A ledger may have lost its latest events in a power cut, or been put back from a backup, and
    have given their numbers to others since. Then the trail goes on with the first event that it
    does not hold, and says so.

    Args:
        ledger: Migrated.
        last: The last records of the chain.
    """
    if not last:
        return 0, ()
    for at_once in _from_the_end(last, BATCH):
        with ledger.read() as db:
            there = {one.sequence: one for one in events.numbered(db, _sequences(at_once))}
        for record in reversed(at_once):
            body = record.body
            if body["kind"] == LEDGER_WENT_BACK or _is_of(there.get(body["sequence"]), body):
                return _went_back(last[-1], int(body["sequence"]))
    return _went_back(last[-1], 0)


def _from_the_end(last: Sequence[Record], count: int) -> Iterator[Sequence[Record]]:
    for end in range(len(last), 0, -count):
        yield last[max(0, end - count) : end]


def _sequences(of: Sequence[Record]) -> list[int]:
    return [int(record.body["sequence"]) for record in of]


def _is_of(event: Event | None, body: Mapping[str, Any]) -> bool:
    return event is not None and all(
        (getattr(event, name) or None) == body.get(name) for name in _OF_THE_LEDGER
    )


def _went_back(last: Record, sequence: int) -> tuple[int, tuple[dict[str, Any], ...]]:
    before = int(last.body["sequence"])
    if sequence == before:
        return sequence, ()
    log.error("ledger_went_back", last=before, agreed=sequence)
    note = {
        "kind": LEDGER_WENT_BACK,
        "sequence": sequence,
        "at": last.body["at"],
        "detail": f"Events {sequence + 1} to {before} stand above and are not in the ledger.",
    }
    return sequence, (note,)
