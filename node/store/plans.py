"""Plans: what was planned on a series, and for which version of a pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import exists, or_, select

from node.domain import JobState
from node.store.tables import job

if TYPE_CHECKING:
    from sqlalchemy import Connection


def planned_for(db: Connection, study_uid: str, series_uid: str) -> bool:
    """Whether any job was ever planned on a series."""
    found = exists().where(job.c.study_uid == study_uid, job.c.series_uid == series_uid)
    return bool(db.execute(select(found)).scalar_one())


def outdated(
    db: Connection, pipeline: str, version: str, model_sha256: str, parameters: str
) -> tuple[tuple[str, str], ...]:
    """Return (study, series) of jobs that wait for another version of ``pipeline`` than this."""
    rows = db.execute(
        select(job.c.study_uid, job.c.series_uid)
        .where(
            job.c.pipeline == pipeline,
            job.c.state.in_((JobState.SCHEDULED, JobState.QUARANTINED)),
            or_(
                job.c.pipeline_version != version,
                job.c.model_sha256 != model_sha256,
                job.c.parameters != parameters,
            ),
        )
        .distinct()
    )
    return tuple((row.study_uid, row.series_uid) for row in rows)
