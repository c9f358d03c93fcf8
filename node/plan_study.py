"""Plan a study: for each pipeline that needs several of its series, which they are.

It waits until the study is complete, so that one result comes of the best series and not one of
each that arrives. Where an input has not come it waits longer, since a scanner is silent for
minutes between two series; then it is said aloud, by a job that could not look.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from node import choose, mode, route
from node.crashpoint import reach
from node.derive import as_asked, derived_job, digest_of, priority_of
from node.log import get_logger, short
from node.store import events, modes, plans, retention, routing, studies
from pipelines.registry import inputs_of, is_study_pipeline

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from node.domain import CompletedStudy, JobInput, PlannedJob
    from node.settings import Settings
    from node.store.ledger import Ledger

log = get_logger(__name__)

LONGEST_WAIT_S = 3600.0
"""A study that waits for longer is looked at again after this, since timers are no longer."""


@dataclass(frozen=True)
class Offer:
    """What a study offers to one pipeline that needs several series.

    Attributes:
        routes: Names of the routes that take one of its series for an input.
        inputs: The series chosen, by the names of the inputs, in the pipeline's order.
        missing: Names of the inputs that nothing fits.
    """

    pipeline: str
    routes: tuple[str, ...]
    inputs: tuple[JobInput, ...]
    missing: tuple[str, ...]


def offers(settings: Settings, ledger: Ledger, study_uid: str) -> tuple[Offer, ...]:
    """Return what a study offers to each such pipeline of which a series fits an input.

    Raises:
        UnreadableSeries: A file of the study is not there, or is no DICOM file.
    """
    named = _named(settings)
    with ledger.read() as db:
        off = mode.disabled(named, modes.decided(db))
    wanted = [name for name in named if is_study_pipeline(route.pipeline(name)) and name not in off]
    if not wanted:
        return ()
    fitting: defaultdict[tuple[str, str], dict[str, choose.Candidate]] = defaultdict(dict)
    taken_by: defaultdict[str, set[str]] = defaultdict(set)
    with ledger.read() as db:
        series = [one.series_uid for one in studies.series_of(db, study_uid)]
    for series_uid in series:
        candidate, decisions = _judged(settings, ledger, study_uid, series_uid)
        for decision in decisions:
            if decision.taken and decision.pipeline in wanted:
                fitting[decision.pipeline, decision.input][series_uid] = candidate
                taken_by[decision.pipeline].add(decision.route)
    return tuple(
        _offer(name, fitting, [r for r in route.routes_by_name(settings) if r in taken_by[name]])
        for name in wanted
        if taken_by[name]
    )


def _named(settings: Settings) -> tuple[str, ...]:
    """Return the pipelines that some route runs."""
    return tuple(dict.fromkeys(name for one in settings.routes for name in one.run))


def _judged(
    settings: Settings, ledger: Ledger, study_uid: str, series_uid: str
) -> tuple[choose.Candidate, tuple[route.Decision, ...]]:
    with ledger.read() as db:
        instances = studies.instances_of(db, study_uid, series_uid)
        calling_aes = studies.calling_aes_of(db, study_uid, series_uid)
    paths = [settings.spool_folder / one.path for one in instances]
    attributes = route.attributes_of(settings, paths, calling_aes, choose.LOOKED_AT)
    found = choose.candidate(series_uid, len(paths), attributes)
    return found, route.decide(settings, attributes)


def _offer(
    name: str,
    fitting: dict[tuple[str, str], dict[str, choose.Candidate]],
    routes: list[str],
) -> Offer:
    names = tuple(inputs_of(route.pipeline(name)))
    chosen = choose.choose({one: [*fitting.get((name, one), {}).values()] for one in names})
    missing = tuple(one for one in names if one not in chosen)
    return Offer(name, tuple(routes), tuple(chosen.values()), missing)


def plan_study(settings: Settings, ledger: Ledger, study: CompletedStudy) -> int:
    """Plan what needs several series of a completed study; the number of new jobs.

    Raises:
        UnreadableSeries: As ``offers``.
        ConfigError: A pipeline of a route is not installed.
    """
    with ledger.read() as db:
        lacking = retention.lacking(db, study.study_uid)
    # Of a study whose older series are gone, none is chosen: it would be said that they never came.
    found = () if lacking else offers(settings, ledger, study.study_uid)
    with ledger.read() as db:
        left_s = settings.complete.missing_s - routing.quiet_s(db, study.study_uid)
        waiting = [one for one in found if one.missing] if left_s > 0 else []
        due = [(one, _job(settings, db, study, one)) for one in found if one not in waiting]
    with ledger.write() as db:
        if waiting:
            as_expected = routing.put_study_off(db, study, min(left_s, LONGEST_WAIT_S))
        else:
            as_expected = routing.mark_study_routed(db, study)
        if not as_expected:
            return 0  # An instance came meanwhile: the next revision is planned instead.
        if lacking and any(is_study_pipeline(route.pipeline(name)) for name in _named(settings)):
            retention.tell_lacking(db, study.study_uid, None, lacking)
        for one in waiting:
            events.record(
                db,
                "input_awaited",
                study_uid=study.study_uid,
                subject=one.pipeline,
                detail=f"No series fits {_listed(one.missing)} yet.",
            )
        new = [(one, job) for one, job in due if plans.plan(db, job)]
        for one, job in new:
            _tell_choice(db, one, job)
    reach("plan.committed")
    for _, job in new:
        log.info("job_scheduled", study=short(job.study_uid), job=job.id, pipeline=job.pipeline)
    return len(new)


def _job(settings: Settings, db: Connection, study: CompletedStudy, offer: Offer) -> PlannedJob:
    routes = route.routes_by_name(settings)
    by = [routes[name] for name in offer.routes]
    pipeline = route.pipeline(offer.pipeline)
    instances = {
        one.name: studies.instances_of(db, study.study_uid, one.series_uid) for one in offer.inputs
    }
    return derived_job(
        as_asked(settings, pipeline, by),
        study_uid=study.study_uid,
        series_uid="",
        sop_instance_uid="",
        revision=study.revision,
        digest=digest_of(instances),
        priority=priority_of(pipeline, by),
        send_to=tuple(dict.fromkeys(name for one in by for name in one.send_to)),
        inputs=offer.inputs,
    )


def _tell_choice(db: Connection, offer: Offer, job: PlannedJob) -> None:
    told = [
        ("input_chosen", f"{one.name}: series {short(one.series_uid)}, of {one.fitting} that fit")
        for one in offer.inputs
        if one.fitting > 1
    ]
    if offer.missing:
        told.append(("input_missing", f"No series fits {_listed(offer.missing)}: it reports that."))
    for kind, detail in told:
        events.record(
            db,
            kind,
            study_uid=job.study_uid,
            job_id=job.id,
            subject=job.pipeline,
            detail=detail,
        )


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
