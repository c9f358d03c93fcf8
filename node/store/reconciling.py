"""What became of all that was received: every instance, series, study, job and result counted.

Each line is one statement, and all of them together see the ledger at one moment
(``Ledger.snapshot``). The number received comes from the rows as they lie there; what became of
them from what points at them. A thing that nothing accounts for is in the difference.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, exists, func, literal, or_, select, true, union_all

from node.domain import OPEN_JOB_STATES, DeliveryState, JobState, StudyState
from node.store.tables import (
    artifact,
    conflict,
    delivery,
    event,
    instance,
    job,
    job_input,
    series,
    study,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import CTE, ColumnElement, Connection, Select


class Fate(enum.IntEnum):
    """What became of a thing. Of several parts the highest is that of the whole."""

    COMMITTED = 1
    """A destination has taken safekeeping."""
    DELIVERED = 2
    """Accepted by a destination that is not asked to commit."""
    HELD = 3
    """Kept here, by a decision: no route takes it, or the mode, or a person."""
    REFUSED = 4
    """A destination said no; a person decides."""
    QUARANTINED = 5
    """A job is set aside for a person."""
    IN_FLIGHT = 6
    """It arrives, waits, runs, is on its way, or its commitment is owed."""
    UNACCOUNTED = 7
    """Nothing says what became of it."""


TOLD = ("no_route", "not_planned")
"""Events that say why no job is on a series."""


class Line(enum.StrEnum):
    """What is counted."""

    INSTANCES = "instances"
    SERIES = "series"
    STUDIES = "studies"
    JOBS = "jobs"
    RESULTS = "results"


def received(db: Connection) -> dict[Line, int]:
    """Return how many of each there have been; results: objects, once for each destination."""

    def number(query: Select[Any]) -> Any:
        return select(func.count()).select_from(query.subquery()).scalar_subquery()

    unknown = (
        select(instance.c.study_uid, instance.c.series_uid).where(~instance.c.own_result).distinct()
    ).except_(select(series.c.study_uid, series.c.series_uid))
    released = select(func.coalesce(func.sum(series.c.released_instances), 0)).scalar_subquery()
    row = db.execute(
        select(
            number(select(instance.c.sop_instance_uid))
            + number(select(conflict.c.digest))
            + released,
            number(select(series.c.series_uid)) + number(unknown),  # type: ignore[arg-type]
            number(select(study.c.study_uid)),
            number(select(job.c.id)),
            number(select(delivery.c.destination)) + number(_undelivered()),
        )
    ).one()
    return {line: int(count) for line, count in zip(Line, row, strict=True)}


def fates(db: Connection, uncommitting: Collection[str]) -> dict[Line, dict[Fate, int]]:
    """Return how many of each have which fate.

    Args:
        db: A snapshot.
        uncommitting: Names of the destinations that are not asked to commit.
    """
    of_job = _job_fates(uncommitting)
    of_series = _series_fates(of_job)
    of_study = (
        select(study.c.study_uid, _worst(of_series.c.fate))
        .outerjoin(of_series, of_series.c.study_uid == study.c.study_uid)
        .group_by(study.c.study_uid)
        .cte("of_study")
    )
    queries = {
        Line.INSTANCES: _instance_fates(of_series),
        Line.SERIES: select(of_series.c.fate, func.count()).group_by(of_series.c.fate),
        Line.STUDIES: select(of_study.c.fate, func.count()).group_by(of_study.c.fate),
        Line.JOBS: select(of_job.c.fate, func.count()).group_by(of_job.c.fate),
        Line.RESULTS: _result_fates(uncommitting),
    }
    found: dict[Line, dict[Fate, int]] = {}
    for line, query in queries.items():
        counts = dict.fromkeys(Fate, 0)
        for fate, number in db.execute(query):
            counts[Fate(fate)] += int(number)
        found[line] = counts
    return found


def unaccounted_jobs(
    db: Connection, uncommitting: Collection[str], limit: int
) -> tuple[tuple[str, str], ...]:
    """Return (study, job) of completed jobs that made nothing, or whose result goes nowhere."""
    of_job = _job_fates(uncommitting)
    rows = db.execute(
        select(of_job.c.study_uid, of_job.c.id)
        .where(of_job.c.fate == Fate.UNACCOUNTED.value)
        .limit(limit)
    )
    return tuple((row[0], row[1]) for row in rows)


def unaccounted_series(
    db: Connection, uncommitting: Collection[str], limit: int
) -> tuple[tuple[str, str], ...]:
    """Return (study, series) that were routed, and no job and no event says what for."""
    of_job = _job_fates(uncommitting)
    of_series = _series_fates(of_job)
    rows = db.execute(
        select(of_series.c.study_uid, of_series.c.series_uid)
        .where(of_series.c.fate == Fate.UNACCOUNTED.value, of_series.c.jobs == 0)
        .limit(limit)
    )
    return tuple((row[0], row[1]) for row in rows)


def unknown_series(db: Connection, limit: int) -> tuple[tuple[str, str], ...]:
    """Return (study, series) of instances that no row of a series stands for."""
    rows = db.execute(
        select(instance.c.study_uid, instance.c.series_uid)
        .outerjoin(
            series,
            and_(
                series.c.study_uid == instance.c.study_uid,
                series.c.series_uid == instance.c.series_uid,
            ),
        )
        .where(~instance.c.own_result, series.c.series_uid.is_(None))
        .distinct()
        .limit(limit)
    )
    return tuple((row[0], row[1]) for row in rows)


def held(db: Connection) -> dict[str, int]:
    """Return what is held, and why; the same thing may be counted under several reasons."""
    jobs_of = func.count()
    no_job = ~exists().where(job.c.study_uid == study.c.study_uid)
    queries = {
        "contents set aside, since another has their UID": select(func.count()).select_from(
            conflict
        ),
        "results of this node that came back": select(func.count()).where(instance.c.own_result),
        "studies on which no job was planned": select(jobs_of)
        .select_from(study)
        .where(study.c.state == StudyState.COMPLETE.value, no_job),
        "jobs whose result is kept and not sent": select(jobs_of).where(
            job.c.state == JobState.COMPLETED.value, or_(job.c.withheld, job.c.send_to == "")
        ),
        "jobs canceled, or replaced by a later one": select(jobs_of).where(
            job.c.state == JobState.CANCELED.value
        ),
        "deliveries canceled": select(func.count()).where(
            delivery.c.state == DeliveryState.CANCELED.value
        ),
    }
    found = {why: int(db.execute(query).scalar_one()) for why, query in queries.items()}
    return {why: number for why, number in found.items() if number}


# --- fates -----------------------------------------------------------------------------------


def _worst(fate: ColumnElement[int]) -> ColumnElement[int]:
    return func.coalesce(func.max(fate), Fate.UNACCOUNTED.value).label("fate")


def _delivery_fate(uncommitting: Collection[str]) -> ColumnElement[int]:
    accepted = delivery.c.destination.in_(list(uncommitting))
    return case(
        (delivery.c.state == DeliveryState.COMMITTED.value, Fate.COMMITTED.value),
        (delivery.c.state == DeliveryState.CANCELED.value, Fate.HELD.value),
        (delivery.c.state == DeliveryState.REFUSED.value, Fate.REFUSED.value),
        (and_(delivery.c.state == DeliveryState.SENT.value, accepted), Fate.DELIVERED.value),
        else_=Fate.IN_FLIGHT.value,
    )


def _job_fates(uncommitting: Collection[str]) -> CTE:
    """Return study, series, id and fate of every job."""
    words = func.length(job.c.send_to) - func.length(func.replace(job.c.send_to, " ", "")) + 1
    destinations = func.count(delivery.c.destination.distinct())
    fate = case(
        (job.c.state.in_(OPEN_JOB_STATES), Fate.IN_FLIGHT.value),
        (job.c.state == JobState.QUARANTINED.value, Fate.QUARANTINED.value),
        (job.c.state == JobState.CANCELED.value, Fate.HELD.value),
        (func.count(artifact.c.sop_instance_uid) == 0, Fate.UNACCOUNTED.value),
        (or_(job.c.withheld, job.c.send_to == ""), Fate.HELD.value),
        (destinations < words, Fate.UNACCOUNTED.value),
        else_=func.max(_delivery_fate(uncommitting)),
    )
    return (
        select(job.c.id, job.c.study_uid, job.c.series_uid, fate.label("fate"))
        .outerjoin(artifact, artifact.c.job_id == job.c.id)
        .outerjoin(delivery, delivery.c.sop_instance_uid == artifact.c.sop_instance_uid)
        .group_by(job.c.id)
        .cte("of_job")
    )


def _series_fates(of_job: CTE) -> CTE:
    """Return study, series and fate of every series, and how many jobs are on it.

    A job that was canceled because a later one replaced it says nothing.
    """
    later = job.alias("later")
    this = job.alias("this")
    replaced = exists(
        select(later.c.id)
        .join(
            this,
            and_(
                later.c.study_uid == this.c.study_uid,
                later.c.series_uid == this.c.series_uid,
                later.c.sop_instance_uid == this.c.sop_instance_uid,
                later.c.pipeline == this.c.pipeline,
                later.c.planned_at > this.c.planned_at,
            ),
        )
        .where(this.c.id == of_job.c.id, this.c.state == JobState.CANCELED.value)
    )
    counts = case((and_(of_job.c.fate == Fate.HELD.value, replaced), None), else_=of_job.c.fate)
    on_one = select(of_job.c.study_uid, of_job.c.series_uid, counts.label("fate")).where(
        of_job.c.series_uid != ""
    )
    on_several = select(of_job.c.study_uid, job_input.c.series_uid, counts).join(
        job_input, job_input.c.job_id == of_job.c.id
    )
    on = union_all(on_one, on_several).cte("on_series")
    open_ = or_(
        series.c.state == StudyState.RECEIVING.value,
        series.c.routed_revision < series.c.revision,
        study.c.state == StudyState.RECEIVING.value,
        study.c.routed_revision < study.c.revision,
    )
    told = or_(
        exists().where(event.c.study_uid == series.c.study_uid, event.c.kind.in_(TOLD)),
        exists().where(job.c.study_uid == series.c.study_uid, job.c.series_uid == ""),
    )
    number = func.count(on.c.series_uid)
    fate = case(
        (func.max(case((open_, 1), else_=0)) == 1, Fate.IN_FLIGHT.value),
        (func.max(on.c.fate).is_not(None), func.max(on.c.fate)),
        (number > 0, Fate.HELD.value),
        (told, Fate.HELD.value),
        else_=Fate.UNACCOUNTED.value,
    )
    return (
        select(
            series.c.study_uid,
            series.c.series_uid,
            series.c.released_instances,
            fate.label("fate"),
            number.label("jobs"),
        )
        .join(study, study.c.study_uid == series.c.study_uid)
        .outerjoin(
            on,
            and_(on.c.study_uid == series.c.study_uid, on.c.series_uid == series.c.series_uid),
        )
        .group_by(series.c.study_uid, series.c.series_uid)
        .cte("of_series")
    )


def _instance_fates(of_series: CTE) -> Select[Any]:
    there = (
        select(
            instance.c.study_uid,
            instance.c.series_uid,
            instance.c.own_result,
            func.count().label("number"),
        )
        .group_by(instance.c.study_uid, instance.c.series_uid, instance.c.own_result)
        .subquery()
    )
    fate = case(
        (there.c.own_result, Fate.HELD.value),
        else_=func.coalesce(of_series.c.fate, Fate.UNACCOUNTED.value),
    )
    of_instances = select(fate.label("fate"), there.c.number).outerjoin(
        of_series,
        and_(
            of_series.c.study_uid == there.c.study_uid,
            of_series.c.series_uid == there.c.series_uid,
        ),
    )
    released = select(of_series.c.fate, of_series.c.released_instances).where(
        of_series.c.released_instances > 0
    )
    aside = select(literal(Fate.HELD.value), func.count()).select_from(conflict)
    found = union_all(of_instances, released, aside).subquery()
    return select(found.c.fate, func.sum(found.c.number)).group_by(found.c.fate)


def _undelivered() -> Select[Any]:
    """Return the results that are for no destination: a profile leaves them out, or a mode all."""
    to_nobody = ~exists().where(delivery.c.sop_instance_uid == artifact.c.sop_instance_uid)
    fate = case(
        (job.c.state.in_(OPEN_JOB_STATES), Fate.IN_FLIGHT.value),
        (job.c.state == JobState.QUARANTINED.value, Fate.QUARANTINED.value),
        else_=Fate.HELD.value,
    )
    return (
        select(fate.label("fate")).join_from(artifact, job, job.c.id == artifact.c.job_id)
    ).where(to_nobody)


def _result_fates(uncommitting: Collection[str]) -> Select[Any]:
    sent = select(_delivery_fate(uncommitting).label("fate")).where(true())
    found = union_all(sent, _undelivered()).subquery()
    return select(found.c.fate, func.count()).group_by(found.c.fate)
