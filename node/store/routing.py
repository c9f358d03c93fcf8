"""Routing: which complete series and studies no route has been tried on yet.

A series is routed by itself at each of its revisions; a study for the pipelines that need several
of its series together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, exists, func, select, update

from node.clock import database_now, is_due
from node.domain import CompletedSeries, CompletedStudy, StudyState
from node.store.tables import series, study

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection


def unrouted_series(db: Connection) -> tuple[CompletedSeries, ...]:
    """Return complete series whose present revision no route has been tried on."""
    rows = db.execute(
        select(series.c.study_uid, series.c.series_uid, series.c.modality, series.c.revision)
        .where(
            # Not "complete": another index would find those, and that is all there ever was.
            series.c.state != StudyState.RECEIVING,
            series.c.routed_revision < series.c.revision,
            is_due(func.coalesce(series.c.route_at, 0.0)),
        )
        .order_by(series.c.completed_at)
    )
    return tuple(CompletedSeries(*row) for row in rows)


def mark_routed(db: Connection, routed: CompletedSeries) -> bool:
    """Note that routes were tried. False if the series has moved on since, or another was first."""
    return (
        db.execute(
            update(series)
            .where(
                series.c.study_uid == routed.study_uid,
                series.c.series_uid == routed.series_uid,
                series.c.state == StudyState.COMPLETE,
                series.c.revision == routed.revision,
                series.c.routed_revision < routed.revision,
            )
            .values(routed_revision=routed.revision)
        ).rowcount
        == 1
    )


def route_again(db: Connection, study_uid: str, series_uid: str) -> None:
    """Let routing look at a complete series once more, at the revision it has."""
    db.execute(
        update(series)
        .where(series.c.study_uid == study_uid, series.c.series_uid == series_uid)
        .values(routed_revision=series.c.revision - 1)
    )


def put_off(db: Connection, unrouted: CompletedSeries, seconds: float) -> None:
    """Let routing look at a series again only after so long."""
    db.execute(
        update(series)
        .where(series.c.study_uid == unrouted.study_uid, series.c.series_uid == unrouted.series_uid)
        .values(route_at=database_now() + seconds)
    )


# --- studies ---------------------------------------------------------------------------------


def unrouted_studies(db: Connection) -> tuple[CompletedStudy, ...]:
    """Return complete studies whose present revision no route has been tried on.

    Its series come first: what cannot be routed of them is told once.
    """
    unrouted = exists().where(
        series.c.study_uid == study.c.study_uid, series.c.routed_revision < series.c.revision
    )
    rows = db.execute(
        select(study.c.study_uid, study.c.revision)
        .where(
            study.c.state != StudyState.RECEIVING,
            study.c.routed_revision < study.c.revision,
            ~unrouted,
            is_due(func.coalesce(study.c.route_at, 0.0)),
        )
        .order_by(study.c.completed_at)
    )
    return tuple(CompletedStudy(*row) for row in rows)


def quiet_s(db: Connection, study_uid: str) -> float:
    """Return for how long nothing of a study has come."""
    since = database_now() - study.c.last_instance_at
    return float(db.execute(select(since).where(study.c.study_uid == study_uid)).scalar_one())


def mark_study_routed(db: Connection, routed: CompletedStudy) -> bool:
    """Note that routes were tried. False if the study has moved on since, or another was first."""
    marked = update(study).where(_still(routed)).values(routed_revision=routed.revision)
    return db.execute(marked).rowcount == 1


def put_study_off(db: Connection, unrouted: CompletedStudy, seconds: float) -> bool:
    """Let routing look at a study again only after so long. False if it has moved on since."""
    put_off_to = update(study).where(_still(unrouted)).values(route_at=database_now() + seconds)
    return db.execute(put_off_to).rowcount == 1


def route_study_again(db: Connection, study_uid: str) -> None:
    """Let routing look at a complete study once more, at the revision it has."""
    db.execute(
        update(study)
        .where(study.c.study_uid == study_uid)
        .values(routed_revision=study.c.revision - 1, route_at=None)
    )


def _still(one: CompletedStudy) -> ColumnElement[bool]:
    return and_(
        study.c.study_uid == one.study_uid,
        study.c.state == StudyState.COMPLETE,
        study.c.revision == one.revision,
        study.c.routed_revision < one.revision,
    )
