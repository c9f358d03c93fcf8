"""Plan: a completed series and the routes that take it become jobs, with their bells."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from node import route
from node.crashpoint import reach
from node.domain import CompletedSeries, PlannedJob, Priority, StoredInstance
from node.errors import NodeError, UnreadableSeries
from node.load.kinds import is_judged_alone
from node.log import get_logger, short
from node.store import events, jobs, plans, studies
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


def parameters_of(pipeline: Pipeline) -> str:
    """Return the parameters of a pipeline as one text, the same for the same parameters."""
    return json.dumps(dict(pipeline.parameters), sort_keys=True)


def units(instances: Sequence[StoredInstance]) -> tuple[tuple[StoredInstance, ...], ...]:
    """Return what is judged together: the slices of a series, but recordings and views alone."""
    alone = tuple((one,) for one in instances if is_judged_alone(one.sop_class_uid))
    slices = tuple(one for one in instances if not is_judged_alone(one.sop_class_uid))
    return (*alone, slices) if slices else alone


def planned_job(
    series: CompletedSeries,
    instances: Sequence[StoredInstance],
    pipeline: Pipeline,
    *,
    priority: Priority,
    send_to: tuple[str, ...],
) -> PlannedJob:
    """Return the job whose id the same series, pipeline and model always derive."""
    parameters = parameters_of(pipeline)
    digest = input_digest(instances)
    first = instances[0]
    alone = first.sop_instance_uid if is_judged_alone(first.sop_class_uid) else ""
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
        sop_instance_uid=alone,
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
            unit,
            route.pipeline(name),
            priority=min(Priority[routes[r].priority.upper()] for r in by),
            send_to=tuple(dict.fromkeys(d for r in by for d in routes[r].send_to)),
        )
        for name, by in taken.items()
        for unit in units(instances)
    )


def run_once(settings: Settings, ledger: Ledger) -> int:
    """Route and plan every completed series; the number of new jobs."""
    with ledger.read() as db:
        waiting = studies.unrouted_series(db)
    new = 0
    for series in waiting:
        try:
            new += _plan(settings, ledger, series)
        except SQLAlchemyError:
            raise
        except NodeError as error:
            _look_again(ledger, series, error)
        except Exception as error:  # one series must not keep the others from being planned
            what = f"Planning this series failed ({type(error).__name__})."
            _look_again(ledger, series, UnreadableSeries(what, do="Report this as a fault."))
    return new


def plan_again(settings: Settings, ledger: Ledger) -> int:
    """Let series be planned anew whose jobs wait for another version than is installed.

    Run when the node starts: after an upgrade the waiting jobs are replaced by such of the new
    version. The number of series.
    """
    outdated: set[tuple[str, str]] = set()
    with ledger.read() as db:
        for name in {name for one in settings.routes for name in one.run}:
            pipeline = route.pipeline(name)
            model_sha256 = pipeline.model.weights_sha256
            outdated.update(
                plans.outdated(db, name, pipeline.version, model_sha256, parameters_of(pipeline))
            )
    with ledger.write() as db:
        for study_uid, series_uid in sorted(outdated):
            studies.route_again(db, study_uid, series_uid)
            events.record(db, "planned_again", study_uid=study_uid, detail="after an upgrade")
    return len(outdated)


def _plan(settings: Settings, ledger: Ledger, series: CompletedSeries) -> int:
    with ledger.read() as db:
        instances = studies.instances_of(db, series.study_uid, series.series_uid)
        calling_aes = studies.calling_aes_of(db, series.study_uid, series.series_uid)
    paths = [settings.spool_folder / one.path for one in instances]
    attributes = route.attributes_of(settings, paths, calling_aes)
    decisions = route.decide(settings, attributes)
    planned = jobs_for(settings, series, instances, decisions)
    with ledger.write() as db:
        if not studies.mark_routed(db, series):
            return 0  # An instance came meanwhile: the next revision is planned instead.
        new = [job for job in planned if jobs.plan(db, job)]
        if not planned:
            detail = "No route takes this series; 'radnode why' says why."
            if plans.planned_for(db, series.study_uid, series.series_uid):
                detail += " An earlier revision was taken: what it said is not about all of it."
            events.record(
                db,
                "no_route",
                study_uid=series.study_uid,
                subject=series.modality,
                detail=detail,
            )
    reach("plan.committed")
    for job in new:
        log.info("job_scheduled", study=short(job.study_uid), job=job.id, pipeline=job.pipeline)
    if not planned:
        log.info("no_route", study=short(series.study_uid), series=short(series.series_uid))
    return len(new)


def _look_again(ledger: Ledger, series: CompletedSeries, error: NodeError) -> None:
    with ledger.write() as db:
        studies.put_off(db, series, LOOK_AGAIN_S)
        events.record(
            db,
            "not_planned",
            study_uid=series.study_uid,
            subject=series.modality,
            detail=f"{error.what} {error.do} It is looked at again in {LOOK_AGAIN_S / 60:.0f} min.",
        )
    log.error("not_planned", study=short(series.study_uid), what=error.what, do=error.do)
