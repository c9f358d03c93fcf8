"""Pledges: what peers have asked this node to answer for, and whether they were told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sqlalchemy import and_, func, select, update

from node.clock import LONGEST_WAIT_S, database_now
from node.domain import Kept, Pledge
from node.store.statements import insert_if_new, insert_or_update
from node.store.tables import instance, pledge, safekeeping

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection


def ask(db: Connection, one: Pledge) -> None:
    """Note that a peer asks; asked again under the same transaction UID, it is told again."""
    asked = {
        "objects": json.dumps(one.references),
        "requested_at": database_now(),
        "attempts": 0,
        "next_attempt_at": database_now(),
        "answered_at": None,
    }
    key = {"transaction_uid": one.transaction_uid, "calling_ae": one.calling_ae}
    insert_or_update(db, pledge, key | asked, asked)


def claim(db: Connection, callers: Sequence[str], *, lease_s: float) -> Pledge | None:
    """Take the pledge that is due for longest; nobody else takes it for ``lease_s``.

    Args:
        db: In a transaction.
        callers: AE titles of peers that can be called.
        lease_s: How long it may take to tell them.
    """
    row = db.execute(
        select(pledge)
        .where(_open(callers), pledge.c.next_attempt_at <= database_now())
        .order_by(pledge.c.next_attempt_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if row is None:
        return None
    taken = Pledge(
        row.transaction_uid,
        row.calling_ae,
        tuple((of_class, uid) for of_class, uid in json.loads(row.objects)),
    )
    again = {"attempts": pledge.c.attempts + 1, "next_attempt_at": database_now() + lease_s}
    db.execute(update(pledge).where(_is(taken)).values(**again))
    return taken


def due_in_s(db: Connection, callers: Sequence[str]) -> float | None:
    """Return in how many seconds the next one is due; None if none is open."""
    soonest = select(func.min(pledge.c.next_attempt_at) - database_now()).where(_open(callers))
    left_s = db.execute(soonest).scalar_one()
    return None if left_s is None else min(max(float(left_s), 0.0), LONGEST_WAIT_S)


def postpone(db: Connection, one: Pledge, retry_in_s: float) -> None:
    """Note that the peer could not be told."""
    later = {"next_attempt_at": database_now() + retry_in_s}
    db.execute(update(pledge).where(_is(one)).values(**later))


def attempts(db: Connection, one: Pledge) -> int:
    """Return how often it was tried to tell the peer."""
    return int(db.execute(select(pledge.c.attempts).where(_is(one))).scalar_one())


def answered(db: Connection, one: Pledge) -> None:
    """Note that the peer was told."""
    db.execute(update(pledge).where(_is(one)).values(answered_at=database_now()))


def keep(db: Connection, sop_instance_uids: Sequence[str]) -> None:
    """Keep the studies of these instances until a person releases them."""
    theirs = select(instance.c.study_uid).where(instance.c.sop_instance_uid.in_(sop_instance_uids))
    for study_uid in db.execute(theirs.distinct().order_by(instance.c.study_uid)).scalars().all():
        insert_if_new(db, safekeeping, {"study_uid": study_uid, "since": database_now()})


def kept(db: Connection, one: Pledge) -> Mapping[str, Kept]:
    """Return SOP Instance UID -> class and file, of what is in the ledger of the objects asked."""
    uids = [uid for _, uid in one.references]
    rows = db.execute(
        select(instance.c.sop_instance_uid, instance.c.sop_class_uid, instance.c.path).where(
            instance.c.sop_instance_uid.in_(uids)
        )
    )
    return {row.sop_instance_uid: Kept(row.sop_class_uid, row.path) for row in rows}


def _is(one: Pledge) -> ColumnElement[bool]:
    return and_(
        pledge.c.transaction_uid == one.transaction_uid, pledge.c.calling_ae == one.calling_ae
    )


def _open(callers: Sequence[str]) -> ColumnElement[bool]:
    return and_(pledge.c.answered_at.is_(None), pledge.c.calling_ae.in_(callers))
