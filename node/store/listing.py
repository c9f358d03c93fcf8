"""What people ask the ledger: lists, counts, and what an abbreviation stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, literal, select, true, union_all

from node.clock import database_now
from node.domain import DeliveryState, JobState, StudyState
from node.errors import UsageError
from node.log import short
from node.store.tables import (
    artifact,
    association,
    conflict,
    delivery,
    event,
    instance,
    job,
    series,
    study,
    worker,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sqlalchemy import Column, Connection, Select, Subquery, Table

Row = dict[str, Any]
State = StudyState | JobState | DeliveryState

SHORTEST_PREFIX = 4

LATELY_S = 86_400.0
"""What is over is counted for a day."""


def _rows(db: Connection, query: Select[Any]) -> list[Row]:
    return [dict(row) for row in db.execute(query).mappings()]


def _newest(table: Table, at: Column[float], limit: int, states: Iterable[str]) -> Subquery:
    """Return the newest rows of a table: first of each state, for so the index has them."""
    of_each = (
        select(table).where(table.c.state == state).order_by(at.desc()).limit(limit).subquery()
        for state in states
    )
    together = union_all(*(select(one) for one in of_each)).subquery()
    return select(together).order_by(together.c[at.name].desc()).limit(limit).subquery(table.name)


def studies(db: Connection, limit: int) -> list[Row]:
    """Return the studies that moved last, newest first."""
    last = _newest(study, study.c.last_instance_at, limit, StudyState)
    # Counted for those that are shown, not for all that the ledger has ever held.
    its_own = (instance.c.study_uid == last.c.study_uid, ~instance.c.own_result)
    number_of_series = func.count(instance.c.series_uid.distinct())
    rows = _rows(
        db,
        select(
            last,
            select(func.count()).where(*its_own).scalar_subquery().label("instances"),
            select(number_of_series).where(*its_own).scalar_subquery().label("series"),
        ).order_by(last.c.last_instance_at.desc()),
    )
    return [{"study": short(row["study_uid"]), **row} for row in rows]


def jobs(db: Connection, limit: int, state: str | None = None) -> list[Row]:
    """Return jobs, newest first."""
    last = _newest(job, job.c.planned_at, limit, JobState if state is None else [state])
    rows = _rows(db, select(last).order_by(last.c.planned_at.desc()))
    hidden = ("lease_token", "parameters")
    return [
        {"study": short(row["study_uid"]), **{k: v for k, v in row.items() if k not in hidden}}
        for row in rows
    ]


def deliveries(db: Connection, limit: int, state: str | None = None) -> list[Row]:
    """Return deliveries, newest first."""
    states = DeliveryState if state is None else [state]
    last = _newest(delivery, delivery.c.planned_at, limit, states)
    rows = _rows(
        db,
        select(last, artifact.c.role, artifact.c.job_id)
        .join(artifact, artifact.c.sop_instance_uid == last.c.sop_instance_uid)
        .order_by(last.c.planned_at.desc(), artifact.c.role),
    )
    return [{"study": short(row["study_uid"]), **row} for row in rows]


def series_states(db: Connection, study_uid: str) -> list[Row]:
    """Return the series of one study."""
    return _rows(db, select(series).where(series.c.study_uid == study_uid))


def conflicts(db: Connection, limit: int) -> list[Row]:
    """Return instances that came again with other content, newest first."""
    return _rows(db, select(conflict).order_by(conflict.c.received_at.desc()).limit(limit))


def recent_events(db: Connection, limit: int, after: int = 0) -> list[Row]:
    """Return the last events, oldest first, that have a sequence number above ``after``."""
    query = select(event).where(event.c.sequence > after)
    return _rows(db, query.order_by(event.c.sequence.desc()).limit(limit))[::-1]


def workers(db: Connection) -> list[Row]:
    """Return every worker that has ever been heard of."""
    return _rows(db, select(worker).order_by(worker.c.name))


_COUNTED: dict[str, tuple[Table, Column[float], type[State], Collection[State]]] = {
    "studies": (study, study.c.last_instance_at, StudyState, (StudyState.COMPLETE,)),
    "jobs": (job, job.c.planned_at, JobState, (JobState.COMPLETED, JobState.CANCELED)),
    "deliveries": (
        delivery,
        delivery.c.planned_at,
        DeliveryState,
        (DeliveryState.SENT, DeliveryState.COMMITTED, DeliveryState.CANCELED),
    ),
}
"""By name: the table, the time that says how new a row is, its states, and those that are over."""


def counts(db: Connection) -> dict[str, dict[str, int]]:
    """Return how many studies, jobs and deliveries are in each state, and open associations.

    In a state that waits for nothing and nobody, those of the last ``LATELY_S``: history only
    grows, and to count it would take ever longer.
    """
    found: dict[str, dict[str, int]] = {
        **{name: {} for name in _COUNTED},
        "associations": {"open": 0},
    }
    for name, state, number in db.execute(_COUNTS):
        if number:
            found[name][state] = number
    return found


def _number_of(name: str, state: State) -> Select[tuple[str, str, int]]:
    table, at, _, over = _COUNTED[name]
    lately = at > database_now() - LATELY_S if state in over else true()
    number = select(func.count()).select_from(table).where(table.c.state == state, lately)
    return select(literal(name), literal(state.value), number.scalar_subquery())


_COUNTS = union_all(
    *(_number_of(name, state) for name, (_, _, states, _) in _COUNTED.items() for state in states),
    select(
        literal("associations"),
        literal("open"),
        select(func.count()).select_from(association).scalar_subquery(),
    ),
)


def study_uid_of(db: Connection, text: str) -> str:
    """Return the study that ``text`` names: its UID, or the start of its short form.

    Raises:
        UsageError: None or several do.
    """
    exact = select(study.c.study_uid).where(study.c.study_uid == text)
    found: str | None = db.execute(exact).scalar_one_or_none()
    if found is not None:
        return found
    matching = [
        uid
        for uid in db.execute(select(study.c.study_uid)).scalars()
        if len(text) >= SHORTEST_PREFIX and short(uid).startswith(text)
    ]
    return _only(matching, "study", "radnode studies")


def job_id_of(db: Connection, text: str) -> str:
    """Return the job whose id starts with ``text``.

    Raises:
        UsageError: None or several do.
    """
    escaped = text if len(text) >= SHORTEST_PREFIX and text.isalnum() else ""
    query = select(job.c.id).where(job.c.id.startswith(escaped)).limit(2) if escaped else None
    matching = [] if query is None else list(db.execute(query).scalars())
    return _only(matching, "job", "radnode jobs")


def _only(matching: list[str], kind: str, listing: str) -> str:
    if len(matching) == 1:
        return matching[0]
    several = f"More than one {kind} begins like that."
    what = several if matching else f"No {kind} is called that."
    raise UsageError(what, do=f"'{listing}' lists them; give more of its id.")


def job_row(db: Connection, job_id: str) -> Row:
    """Return one job."""
    (row,) = _rows(db, select(job).where(job.c.id == job_id))
    return row


def deliveries_of_job(db: Connection, job_id: str) -> list[Row]:
    """Return where the objects of one job go."""
    return _rows(
        db,
        select(delivery, artifact.c.role)
        .join(artifact, artifact.c.sop_instance_uid == delivery.c.sop_instance_uid)
        .where(artifact.c.job_id == job_id)
        .order_by(artifact.c.role, delivery.c.destination),
    )


def instance_rows(db: Connection, sop_instance_uid: str) -> list[Row]:
    """Return the row of one instance, if there is one."""
    return _rows(db, select(instance).where(instance.c.sop_instance_uid == sop_instance_uid))
