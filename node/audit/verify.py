"""Verify: whether the audit trail is, to the last bit, what was written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.audit import records
from node.audit.chain import is_being_written
from node.audit.records import START, Head
from node.errors import AuditBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from node.audit.chain import Places
    from node.audit.records import Record


@dataclass(frozen=True)
class Verified:
    """A chain that is what was written.

    Attributes:
        head: Of its last record.
        from_at: When its first record happened (seconds since the epoch); None if it has none.
        to_at: When its last one did.
    """

    head: Head
    from_at: float | None
    to_at: float | None


def verify(
    places: Places,
    known: Sequence[Head] = (),
    each: Callable[[Record], None] | None = None,
) -> Verified:
    """Check every record, from the first to the last, and that none is missing at the end.

    May run while records are added: a line that is being written is not looked at. One that a
    power cut left unfinished is told; the node takes it off when it starts.

    Args:
        places: Where the trail lies.
        known: Heads from elsewhere, a syslog server or a notebook, beside the copies in files.
        each: Called with every record that is right, up to the first that is not.

    Raises:
        AuditBroken: At the first record that was changed, removed, moved or put in; or where
            a copy of the head is not of this chain.
        OSError: Something cannot be read.
    """
    # Heads first: what is written meanwhile lies behind them.
    heads = [*(records.read_head(path) for path in places.heads), *known]
    key = records.key_for(places.key, make=False)
    last = max(head.number for head in heads)
    end, from_at, to_at = START, None, None
    records.agree(START, heads)
    try:
        for record in records.walk(records.segments(places.folder), key):
            end = record.head
            records.agree(end, heads)
            to_at = float(record.body["at"])
            from_at = to_at if from_at is None else from_at
            if each is not None:
                each(record)
    except AuditBroken as broken:
        if not broken.cut or end.number < last or not is_being_written(places):
            raise
    if end.number < last:
        raise records.gone(end.number + 1, last)
    return Verified(end, from_at, to_at)
