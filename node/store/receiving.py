"""Received instances: their rows, and the timers of series and study that they set back.

Many come in one transaction, and what they share is written once: a study, a series. Listeners
that write at once take their locks in one order (instances, studies, series, each by its key), so
that none waits for one that waits for it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING

from sqlalchemy import and_, bindparam, null, select, union_all, update

from node.clock import database_now
from node.domain import Receipt, StudyState
from node.store import events
from node.store.statements import insert_for, insert_if_new
from node.store.tables import artifact, conflict, instance, series, study

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from sqlalchemy import BindParameter, Connection, Insert, Update

    from node.domain import ReceivedInstance

    Parameters = Mapping[Any, Mapping[str, str]]
    """Of a statement that is executed for many rows, by the primary key of each."""


def record_instances(db: Connection, received: Sequence[ReceivedInstance]) -> tuple[Receipt, ...]:
    """Index durable instances, and set the timers of their series and studies back.

    Args:
        db: In a transaction.
        received: In the order of their coming; a UID may come more than once. What the ledger
            knows as a result of ours is ``own_result``, whatever is said of it.

    Returns:
        What became of each, as if they had come one by one.
    """
    first: dict[str, ReceivedInstance] = {}
    for one in received:
        first.setdefault(one.sop_instance_uid, one)
    digests, own = _insert(db, first)
    new: list[ReceivedInstance] = []
    resent: list[ReceivedInstance] = []
    receipts = []
    for one in received:
        digest = digests.get(one.sop_instance_uid)
        if digest is None:
            digests[one.sop_instance_uid] = one.digest  # for another of the same UID after it
            new.append(one)
            receipts.append(Receipt.NEW)
        elif digest == one.digest:
            resent.append(one)
            receipts.append(Receipt.RESENT)
        else:
            receipts.append(Receipt.CONFLICT)
    _count(db, resent)
    _touch(db, [one for one in new if one.sop_instance_uid not in own], resent)
    _tell(db, received, receipts, own)
    return tuple(receipts)


# --- instances -------------------------------------------------------------------------------

_COLUMNS = (
    "sop_instance_uid",
    "sop_class_uid",
    "study_uid",
    "series_uid",
    "transfer_syntax_uid",
    "digest",
    "path",
    "size_bytes",
    "calling_ae",
    "association_id",
)
_OPEN = {"state": StudyState.RECEIVING.value, "last_instance_at": database_now()}

_asked: BindParameter[str] = bindparam("asked", expanding=True)
_KNOWN = union_all(
    select(instance.c.sop_instance_uid, instance.c.digest).where(
        instance.c.sop_instance_uid.in_(_asked)
    ),
    select(artifact.c.sop_instance_uid, null()).where(artifact.c.sop_instance_uid.in_(_asked)),
)
"""Digests of instances that are there; results of ours come without one."""

_RESENT = (
    update(instance)
    .where(instance.c.sop_instance_uid == bindparam("resent"))
    .values(
        resends=instance.c.resends + bindparam("times"),
        association_id=bindparam("last_by"),
        received_at=database_now(),
    )
)
_HOLD_STUDY = (
    update(study)
    .where(study.c.study_uid == bindparam("held"), study.c.state == StudyState.RECEIVING)
    .values(last_instance_at=database_now())
)
_HOLD_SERIES = (
    update(series)
    .where(
        and_(series.c.study_uid == bindparam("of_study"), series.c.series_uid == bindparam("held")),
        series.c.state == StudyState.RECEIVING,
    )
    .values(last_instance_at=database_now())
)


@dataclass(frozen=True)
class _Inserts:
    """As one database spells them."""

    instance: Insert
    study: Insert
    series: Insert


@cache
def _inserts(dialect: str) -> _Inserts:
    begun = {**_OPEN, "revision": 0, "routed_revision": 0}
    of_study = insert_for(dialect, study).values(**begun, received_at=database_now())
    of_series = insert_for(dialect, series).values(**begun)
    of_instance = insert_for(dialect, instance).values(resends=0, received_at=database_now())
    if_new = of_instance.on_conflict_do_nothing().returning(instance.c.sop_instance_uid)
    return _Inserts(
        # SQLite lets one transaction write: what was not there is not there now.
        of_instance if dialect == "sqlite" else if_new,
        of_study.on_conflict_do_update(index_elements=study.primary_key, set_=_OPEN),
        of_series.on_conflict_do_update(index_elements=series.primary_key, set_=_OPEN),
    )


def _insert(
    db: Connection, first: Mapping[str, ReceivedInstance]
) -> tuple[dict[str, str], set[str]]:
    """Insert those of these instances, by UID, that are not there.

    Returns:
        The digests of those that were; and which of all, by UID, are results of ours.
    """
    digests: dict[str, str] = {}
    own = {uid for uid, one in first.items() if one.own_result}
    absent = sorted(first)
    while absent:
        for uid, digest in db.execute(_KNOWN, {"asked": absent}):
            if digest is None:
                own.add(uid)
            else:
                digests[uid] = digest
        rows = [
            {"own_result": uid in own, **{name: getattr(first[uid], name) for name in _COLUMNS}}
            for uid in absent
            if uid not in digests
        ]
        if not rows:
            break
        inserted = db.execute(_inserts(db.dialect.name).instance, rows)
        if not inserted.returns_rows:
            break
        # What another listener was first with is committed by now: look at it.
        absent = sorted(
            {str(row["sop_instance_uid"]) for row in rows}.difference(inserted.scalars())
        )
    return digests, own


def _count(db: Connection, resent: Sequence[ReceivedInstance]) -> None:
    """Count resends. Who brought an instance last is the one that feeds its series."""
    times = Counter(one.sop_instance_uid for one in resent)
    last_by = {one.sop_instance_uid: one.association_id for one in resent}
    rows = [{"resent": uid, "times": times[uid], "last_by": last_by[uid]} for uid in sorted(times)]
    if rows:
        db.execute(_RESENT, rows)


# --- studies and series ----------------------------------------------------------------------


def _touch(
    db: Connection, new: Sequence[ReceivedInstance], resent: Sequence[ReceivedInstance]
) -> None:
    """Let the quiet times begin anew: of what is open with a new instance, though it was complete.

    A resend holds open what is open, for its sender is not done with it, and opens nothing.
    """
    inserts = _inserts(db.dialect.name)
    _in_order(
        db,
        (inserts.study, {one.study_uid: {"study_uid": one.study_uid} for one in new}),
        (_HOLD_STUDY, {one.study_uid: {"held": one.study_uid} for one in resent}),
    )
    opened = {
        (one.study_uid, one.series_uid): {
            "study_uid": one.study_uid,
            "series_uid": one.series_uid,
            "modality": one.modality,
        }
        for one in reversed(new)  # the first one's modality stays
    }
    held = {
        (one.study_uid, one.series_uid): {"of_study": one.study_uid, "held": one.series_uid}
        for one in resent
    }
    _in_order(db, (inserts.series, opened), (_HOLD_SERIES, held))


def _in_order(
    db: Connection,
    opening: tuple[Insert, Parameters],
    holding: tuple[Update, Parameters],
) -> None:
    """Execute ``opening`` for its rows and ``holding`` for the others, in the order of the keys."""
    opened, held = opening[1], holding[1]
    for opens, keys in groupby(sorted(opened.keys() | held.keys()), opened.__contains__):
        statement, rows = opening if opens else holding
        db.execute(statement, [rows[key] for key in keys])


# --- what is told ----------------------------------------------------------------------------


def _tell(
    db: Connection,
    received: Sequence[ReceivedInstance],
    receipts: Sequence[Receipt],
    own: set[str],
) -> None:
    """Note results of ours that came back, and set conflicting contents aside, each once."""
    told = tuple(zip(received, receipts, strict=True))
    aside: dict[tuple[str, str], ReceivedInstance] = {}
    for one, receipt in told:
        if receipt is Receipt.CONFLICT:
            aside.setdefault((one.sop_instance_uid, one.digest), one)
    untold = {key for key in sorted(aside) if _set_aside(db, aside[key])}
    for one, receipt in told:
        key = (one.sop_instance_uid, one.digest)
        if receipt is Receipt.NEW and one.sop_instance_uid in own:
            events.record(db, "own_result_returned", study_uid=one.study_uid)
        elif receipt is Receipt.CONFLICT and key in untold:
            untold.remove(key)
            events.record(
                db,
                "instance_conflict",
                study_uid=one.study_uid,
                subject=one.calling_ae,
                detail="An instance came again with other content; the first one is kept.",
            )


def _set_aside(db: Connection, one: ReceivedInstance) -> bool:
    """Keep another content of a known UID; False if it was kept before."""
    row = {
        "sop_instance_uid": one.sop_instance_uid,
        "digest": one.digest,
        "path": one.path,
        "calling_ae": one.calling_ae,
        "received_at": database_now(),
    }
    return insert_if_new(db, conflict, row)
