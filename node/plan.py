"""Plan: a completed series and the routes that take it become jobs, with their bells.

``plan_study`` does the same for a completed study, where a pipeline needs several of its series.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from node import mode, route
from node.crashpoint import reach
from node.derive import as_asked, derived_job, input_digest, parameters_of, priority_of
from node.domain import CompletedSeries, CompletedStudy, Mode, PlannedJob, Priority, StoredInstance
from node.errors import NodeError, UnreadableSeries
from node.load.kinds import is_judged_alone
from node.log import get_logger, short
from node.plan_study import plan_study
from node.store import events, modes, plans, retention, routing, studies
from pipelines.explain.explained import METHODS, explained
from pipelines.registry import is_study_pipeline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node.settings import Settings
    from node.store.ledger import Ledger
    from pipelines.contract import AnyPipeline

log = get_logger(__name__)

LOOK_AGAIN_S = 600.0
"""A series whose files cannot be read is routed again after this long: disks are mended."""


def units(instances: Sequence[StoredInstance]) -> tuple[tuple[StoredInstance, ...], ...]:
    """Return what is judged together: the slices of a series, but recordings and views alone."""
    alone = tuple((one,) for one in instances if is_judged_alone(one.sop_class_uid))
    slices = tuple(one for one in instances if not is_judged_alone(one.sop_class_uid))
    return (*alone, slices) if slices else alone


def planned_job(
    series: CompletedSeries,
    instances: Sequence[StoredInstance],
    pipeline: AnyPipeline,
    *,
    priority: Priority,
    send_to: tuple[str, ...],
) -> PlannedJob:
    """Return the job whose id the same series, pipeline and model always derive."""
    first = instances[0]
    return derived_job(
        pipeline,
        study_uid=series.study_uid,
        series_uid=series.series_uid,
        sop_instance_uid=first.sop_instance_uid if is_judged_alone(first.sop_class_uid) else "",
        revision=series.revision,
        digest=input_digest(instances),
        priority=priority,
        send_to=send_to,
    )


def jobs_for(
    settings: Settings,
    series: CompletedSeries,
    instances: Sequence[StoredInstance],
    decisions: Sequence[route.Decision],
) -> tuple[PlannedJob, ...]:
    """Return one job for each pipeline that some route takes, for all their destinations.

    Not for pipelines that need several series: they wait for the study.
    """
    routes = route.routes_by_name(settings)
    taken: dict[str, list[str]] = {}
    for decision in decisions:
        if decision.taken and not is_study_pipeline(route.pipeline(decision.pipeline)):
            taken.setdefault(decision.pipeline, []).append(decision.route)
    return tuple(
        planned_job(
            series,
            unit,
            as_asked(settings, route.pipeline(name), [routes[r] for r in by]),
            priority=priority_of(route.pipeline(name), (routes[r] for r in by)),
            send_to=tuple(dict.fromkeys(d for r in by for d in routes[r].send_to)),
        )
        for name, by in taken.items()
        for unit in units(instances)
    )


def run_once(settings: Settings, ledger: Ledger) -> int:
    """Route and plan every completed series and study; the number of new jobs."""
    waiting: list[CompletedSeries | CompletedStudy] = []
    with ledger.read() as db:
        waiting += routing.unrouted_series(db)
        waiting += routing.unrouted_studies(db)
    new = 0
    for one in waiting:
        try:
            if isinstance(one, CompletedStudy):
                new += plan_study(settings, ledger, one)
            else:
                new += _plan(settings, ledger, one)
        except SQLAlchemyError:
            raise
        except NodeError as error:
            _look_again(ledger, one, error)
        except Exception as error:  # one series must not keep the others from being planned
            what = f"Planning this series or study failed ({type(error).__name__})."
            _look_again(ledger, one, UnreadableSeries(what, do="Report this as a fault."))
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
            parameters = [parameters_of(explained(pipeline, one)) for one in (None, *METHODS)]
            outdated.update(plans.outdated(db, name, pipeline.version, model_sha256, parameters))
    with ledger.write() as db:
        for study_uid, series_uid in sorted(outdated):
            if series_uid:
                routing.route_again(db, study_uid, series_uid)
            else:
                routing.route_study_again(db, study_uid)
            events.record(db, "planned_again", study_uid=study_uid, detail="after an upgrade")
    return len(outdated)


def _plan(settings: Settings, ledger: Ledger, series: CompletedSeries) -> int:
    with ledger.read() as db:
        lacking = retention.lacking(db, series.study_uid, series.series_uid)
        instances = studies.instances_of(db, series.study_uid, series.series_uid)
        calling_aes = studies.calling_aes_of(db, series.study_uid, series.series_uid)
    if lacking:
        return _leave_out(ledger, series, lacking)
    paths = [settings.spool_folder / one.path for one in instances]
    attributes = route.attributes_of(settings, paths, calling_aes)
    decisions = route.decide(settings, attributes)
    taken = any(decision.taken for decision in decisions)
    with ledger.read() as db:
        off = mode.disabled({decision.pipeline for decision in decisions}, modes.decided(db))
    on = [decision for decision in decisions if decision.pipeline not in off]
    planned = jobs_for(settings, series, instances, on)
    with ledger.write() as db:
        if not routing.mark_routed(db, series):
            return 0  # An instance came meanwhile: the next revision is planned instead.
        new = [job for job in planned if plans.plan(db, job)]
        for name in sorted(off.intersection(one.pipeline for one in decisions if one.taken)):
            events.record(
                db,
                "not_planned",
                study_uid=series.study_uid,
                subject=name,
                detail=mode.in_words(name, Mode.DISABLED),
            )
        if not taken:
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
    if not taken:
        log.info("no_route", study=short(series.study_uid), series=short(series.series_uid))
    return len(new)


def _leave_out(ledger: Ledger, series: CompletedSeries, lacking: int) -> int:
    """Plan nothing on a part of a series: it would be taken for all of it."""
    with ledger.write() as db:
        if routing.mark_routed(db, series):
            retention.tell_lacking(db, series.study_uid, series.modality, lacking)
    log.warning("not_whole", study=short(series.study_uid), series=short(series.series_uid))
    return 0


def _look_again(ledger: Ledger, one: CompletedSeries | CompletedStudy, error: NodeError) -> None:
    with ledger.write() as db:
        if isinstance(one, CompletedStudy):
            routing.put_study_off(db, one, LOOK_AGAIN_S)
        else:
            routing.put_off(db, one, LOOK_AGAIN_S)
        events.record(
            db,
            "not_planned",
            study_uid=one.study_uid,
            subject=one.modality if isinstance(one, CompletedSeries) else None,
            detail=f"{error.what} {error.do} It is looked at again in {LOOK_AGAIN_S / 60:.0f} min.",
        )
    log.error("not_planned", study=short(one.study_uid), what=error.what, do=error.do)
