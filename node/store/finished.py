"""Finished jobs of one pipeline, for a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from node.domain import JobState, Outcome
from node.store.tables import artifact, job

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True)
class Finished:
    """What one job left.

    Attributes:
        judged: What it was on, the same for every pipeline: study, series, instance and digest.
        files: Role -> path within the artifact folder.
    """

    job_id: str
    judged: tuple[str, str, str, str]
    outcome: Outcome
    files: dict[str, str]


def finished(
    db: Connection, pipeline: str, version: str | None = None
) -> dict[tuple[str, str, str, str], Finished]:
    """Return the last job of a pipeline on each input that it has judged.

    Args:
        db: The ledger.
        pipeline: Its name.
        version: Only of this version; one without ``+...`` stands for all its builds.
    """
    query = (
        select(job)
        .where(job.c.pipeline == pipeline, job.c.state == JobState.COMPLETED)
        .order_by(job.c.finished_at)
    )
    found: dict[tuple[str, str, str, str], Finished] = {}
    for row in db.execute(query):
        if version is not None and version not in (
            row.pipeline_version,
            row.pipeline_version.partition("+")[0],
        ):
            continue
        made = db.execute(
            select(artifact.c.role, artifact.c.path).where(
                artifact.c.job_id == row.id, artifact.c.released_at.is_(None)
            )
        )
        judged = (row.study_uid, row.series_uid, row.sop_instance_uid, row.input_digest)
        found[judged] = Finished(
            row.id, judged, Outcome(row.outcome), {one.role: one.path for one in made}
        )
    return found
