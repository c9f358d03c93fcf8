"""Plan: a completed series and the routes that take it become jobs, with their bells."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from node import route
from node.crashpoint import reach
from node.domain import CompletedSeries, PlannedJob, Priority, StoredInstance
from node.errors import UnreadableSeries
from node.log import get_logger, short
from node.store import events, jobs, studies
from node.uids import derived_uuid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node.settings import Settings
    from node.store.ledger import Ledger
    from pipelines.contract import Pipeline

log = get_logger(__name__)

LOOK_AGAIN_S = 600.0
"""A series whose files cannot be read is routed again after this long: disks are mended."""


def input_digest(instances: Sequence[StoredInstance]) -> str:
    """Return one digest for a set of instances, whatever order they came in (hex)."""
    lines = sorted(f"{one.sop_instance_uid} {one.digest}\n" for one in instances)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def planned_job(
    series: CompletedSeries,
    instances: Sequence[StoredInstance],
    pipeline: Pipeline,
    *,
    priority: Priority,
    send_to: tuple[str, ...],
) -> PlannedJob:
    """Return the job whose id the same series, pipeline and model always derive."""
    parameters = json.dumps(dict(pipeline.parameters), sort_keys=True)
    digest = input_digest(instances)
    identity = derived_uuid(
        "job",
        series.study_uid,
        series.series_uid,
        digest,
        pipeline.name,
        pipeline.version,
        pipeline.model.weights_sha256,
        parameters.replace("|", "\\u007c"),
    )
    return PlannedJob(
        id=identity.hex,
        study_uid=series.study_uid,
        series_uid=series.series_uid,
        revision=series.revision,
        pipeline=pipeline.name,
        pipeline_version=pipeline.version,
        model_sha256=pipeline.model.weights_sha256,
        parameters=parameters,
        input_digest=digest,
        priority=priority,
        deadline_s=pipeline.deadline_s,
        send_to=send_to,
    )


def jobs_for(
    settings: Settings,
    series: CompletedSeries,
    instances: Sequence[StoredInstance],
    decisions: Sequence[route.Decision],
) -> tuple[PlannedJob, ...]:
    """Return one job for each pipeline that some route takes, for all their destinations."""
    routes = route.routes_by_name(settings)
    taken: dict[str, list[str]] = {}
    for decision in decisions:
        if decision.taken:
            taken.setdefault(decision.pipeline, []).append(decision.route)
    return tuple(
        planned_job(
            series,
            instances,
            route.pipeline(name),
            priority=min(Priority[routes[r].priority.upper()] for r in by),
            send_to=tuple(dict.fromkeys(d for r in by for d in routes[r].send_to)),
        )
        for name, by in taken.items()
    )


def run_once(settings: Settings, ledger: Ledger) -> int:
    """Route and plan every completed series; the number of new jobs."""
    with ledger.read() as db:
        waiting = studies.unrouted_series(db)
    return sum(_plan(settings, ledger, series) for series in waiting)


def _plan(settings: Settings, ledger: Ledger, series: CompletedSeries) -> int:
    with ledger.read() as db:
        instances = studies.instances_of(db, series.study_uid, series.series_uid)
        calling_aes = studies.calling_aes_of(db, series.study_uid, series.series_uid)
    paths = [settings.spool_folder / one.path for one in instances]
    try:
        attributes = route.attributes_of(settings, paths, calling_aes)
    except UnreadableSeries as error:
        _look_again(ledger, series, error)
        return 0
    decisions = route.decide(settings, attributes)
    planned = jobs_for(settings, series, instances, decisions)
    with ledger.write() as db:
        if not studies.mark_routed(db, series):
            return 0  # An instance came meanwhile: the next revision is planned instead.
        new = [job for job in planned if jobs.plan(db, job)]
        if not planned:
            events.record(
                db,
                "no_route",
                study_uid=series.study_uid,
                subject=series.modality,
                detail="No route takes this series; 'radnode why' says why.",
            )
    reach("plan.committed")
    for job in new:
        log.info("job_scheduled", study=short(job.study_uid), job=job.id, pipeline=job.pipeline)
    if not planned:
        log.info("no_route", study=short(series.study_uid), series=short(series.series_uid))
    return len(new)


def _look_again(ledger: Ledger, series: CompletedSeries, error: UnreadableSeries) -> None:
    with ledger.write() as db:
        studies.put_off(db, series, LOOK_AGAIN_S)
        events.record(
            db,
            "spool_unreadable",
            study_uid=series.study_uid,
            subject=series.modality,
            detail=f"{error.what} {error.do} It is looked at again in {LOOK_AGAIN_S / 60:.0f} min.",
        )
    log.error("spool_unreadable", study=short(series.study_uid), what=error.what, do=error.do)
