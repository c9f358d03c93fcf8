"""Transfers, as events tell them: how many objects of which SOP class.

The audit trail reads the words back: "120 of 1.2.840.10008.5.1.4.1.1.2, 1 of 1.2.840....88.67".
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from node.store import events
from node.store.tables import instance

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Connection

RECEIVED, RELEASED = "received", "study_released"
_COUNT = re.compile(r"(\d+) of (\d+(?:\.\d+){3,})")


def in_words(counts: Mapping[str, int]) -> str:
    """Return numbers of objects, by their SOP class UID, as the detail of an event."""
    return ", ".join(f"{count} of {uid}" for uid, count in sorted(counts.items()) if count > 0)


def of_classes(sop_class_uids: Iterable[str]) -> str:
    """Return the same for the SOP classes of some objects."""
    return in_words(Counter(sop_class_uids))


def from_words(detail: str) -> dict[str, int]:
    """Return the numbers in the detail of an event; empty if there are none."""
    return {uid: int(count) for count, uid in _COUNT.findall(detail)}


def record_received(db: Connection, study_uid: str) -> None:
    """Tell who has sent how much of a study, apart from what was told of it before.

    From the rows of the instances, in the transaction that completes the study: what was
    acknowledged is told, whatever died meanwhile, and receiving waits for no event.
    """
    told: dict[str, Counter[str]] = defaultdict(Counter)
    for event in events.of_study(db, study_uid):
        if event.kind == RELEASED:
            told.clear()  # with the rows: what comes again is new
        elif event.kind == RECEIVED:
            told[event.subject or ""].update(from_words(event.detail))
    rows = db.execute(
        select(instance.c.calling_ae, instance.c.sop_class_uid, func.count())
        .where(instance.c.study_uid == study_uid, ~instance.c.own_result)
        .group_by(instance.c.calling_ae, instance.c.sop_class_uid)
    )
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for calling_ae, sop_class_uid, count in rows:
        counted[calling_ae][sop_class_uid] = count
    for calling_ae in sorted(counted):
        new = counted[calling_ae] - told[calling_ae]
        if new:
            events.record(
                db, RECEIVED, study_uid=study_uid, subject=calling_ae, detail=in_words(new)
            )
