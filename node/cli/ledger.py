"""Verbs that ask the ledger, and the two that change it: retry and cancel."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click
from pydicom import dcmread

from node import mode, plan_study, route
from node import watch as overview
from node.cli.options import (
    config_option,
    json_option,
    ledger_of,
    limit_option,
    print_rows,
    start_of,
    text,
    when,
)
from node.cli.person import person
from node.domain import DeliveryState, JobState, Mode
from node.errors import UsageError
from node.log import short
from node.store import deliveries as delivery_store
from node.store import events, listing, modes, retention, routing
from node.store import jobs as job_store
from node.store import studies as study_store
from sr_templates.text import as_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from node.settings import Settings
    from node.store.ledger import Ledger


@click.command()
@config_option
@json_option
@limit_option
def studies(settings: Settings, *, as_json: bool, limit: int) -> None:
    """List studies, the last received first."""
    with ledger_of(settings).read() as db:
        rows = listing.studies(db, limit)
    columns = {
        "study": text,
        "state": text,
        "revision": text,
        "series": text,
        "instances": text,
        "last_instance_at": when,
        "completed_at": when,
    }
    print_rows(rows, columns, as_json=as_json)


@click.command()
@config_option
@json_option
@limit_option
@click.option("--state", type=click.Choice([state.value for state in JobState]))
def jobs(settings: Settings, *, as_json: bool, limit: int, state: str | None) -> None:
    """List jobs, the last planned first."""
    with ledger_of(settings).read() as db:
        rows = listing.jobs(db, limit, state)
    columns = {
        "id": start_of,
        "study": text,
        "pipeline": text,
        "state": text,
        "outcome": text,
        "attempts": text,
        "planned_at": when,
        "finished_at": when,
        "what": text,
    }
    print_rows(rows, columns, as_json=as_json)


@click.command()
@config_option
@json_option
@limit_option
@click.option("--state", type=click.Choice([state.value for state in DeliveryState]))
def deliveries(settings: Settings, *, as_json: bool, limit: int, state: str | None) -> None:
    """List deliveries, the last planned first."""
    with ledger_of(settings).read() as db:
        rows = listing.deliveries(db, limit, state)
    columns = {
        "job_id": start_of,
        "study": text,
        "role": text,
        "destination": text,
        "state": text,
        "attempts": text,
        "sent_at": when,
        "committed_at": when,
        "what": text,
    }
    print_rows(rows, columns, as_json=as_json)


@click.command()
@config_option
@json_option
@click.argument("job")
def show(settings: Settings, *, as_json: bool, job: str) -> None:
    """Show everything about JOB: what happened, its deliveries, its report."""
    ledger = ledger_of(settings)
    with ledger.read() as db:
        job_id = listing.job_id_of(db, job)
        row = listing.job_row(db, job_id)
        sent = listing.deliveries_of_job(db, job_id)
        made = delivery_store.artifacts_of(db, job_id)
        history = [e for e in events.of_study(db, row["study_uid"]) if e.job_id in (job_id, None)]
    if as_json:
        happened = [vars(event) for event in history]
        click.echo(json.dumps({"job": row, "deliveries": sent, "events": happened}, indent=2))
        return
    for name in ("id", "pipeline", "pipeline_version", "state", "outcome", "what", "do"):
        if row[name] is not None:
            click.echo(f"{name.replace('_', ' '):>18}  {row[name]}")
    click.echo()
    for event in history:
        about = "  ".join(part for part in (event.subject, event.detail) if part)
        click.echo(f"{when(event.at)}  {event.kind:<18}  {about}")
    click.echo()
    columns = {"role": text, "destination": text, "state": text, "sent_at": when, "what": text}
    print_rows(sent, columns, as_json=False)
    reports = [artifact for artifact in made if artifact.role == "sr"]
    if reports:
        with ledger.write() as db:
            study_uid = row["study_uid"]
            events.record(db, "result_shown", study_uid=study_uid, job_id=job_id, subject=person())
    for artifact in reports:
        click.echo()
        click.echo(as_text(dcmread(settings.artifact_folder / artifact.path)))


@click.command()
@config_option
@json_option
@click.argument("study")
def why(settings: Settings, *, as_json: bool, study: str) -> None:
    """Explain each route's yes or no to each series of STUDY, condition by condition."""
    ledger = ledger_of(settings)
    with ledger.read() as db:
        study_uid = listing.study_uid_of(db, study)
        all_series = study_store.series_of(db, study_uid)
        decided = modes.decided(db)
    explained = []
    for series in all_series:
        decisions = _decisions(settings, ledger, study_uid, series.series_uid)
        explained.append((series, decisions))
    if as_json:
        click.echo(json.dumps([_as_json(*one, decided) for one in explained], indent=2))
        return
    if not settings.routes:
        click.echo("There are no routes: add [[routes]] to radnode.toml.")
    for series, decisions in explained:
        click.echo(f"series {short(series.series_uid)}  {series.modality}")
        for decision in decisions:
            _explain(decision, mode.mode_of(decision.pipeline, decided))
    for offer in plan_study.offers(settings, ledger, study_uid):
        click.echo(f"the study -> {offer.pipeline}")
        for one in offer.inputs:
            click.echo(f"    {one.name}: series {short(one.series_uid)}, of {one.fitting} that fit")
        for name in offer.missing:
            click.echo(f"    {name}: NONE of the series that have come fits")


def _explain(decision: route.Decision, goes: Mode) -> None:
    answer = "yes" if decision.taken and goes is not Mode.DISABLED else "no"
    of_input = f" as {decision.input}" if decision.input else ""
    click.echo(f"  {decision.route} -> {decision.pipeline}{of_input}: {answer}")
    if goes is not Mode.ENABLED:
        click.echo(f"    {mode.in_words(decision.pipeline, goes)}")
    for whose, judged in (("route", decision.of_route), ("pipeline", decision.of_pipeline)):
        for condition in judged:
            wanted = " or ".join(condition.patterns)
            found = ", ".join(condition.values) or "absent"
            mark = "holds" if condition.holds else "FAILS"
            click.echo(f"    {mark}  {whose} wants {condition.keyword} = {wanted}; it is {found}")


def _decisions(
    settings: Settings, ledger: Ledger, study_uid: str, series_uid: str
) -> tuple[route.Decision, ...]:
    with ledger.read() as db:
        instances = study_store.instances_of(db, study_uid, series_uid)
        calling_aes = study_store.calling_aes_of(db, study_uid, series_uid)
    paths = [settings.spool_folder / one.path for one in instances]
    return route.decide(settings, route.attributes_of(settings, paths, calling_aes))


def _as_json(
    series: Any, decisions: tuple[route.Decision, ...], decided: Mapping[str, Mode]
) -> dict[str, Any]:
    return {
        "series_uid": series.series_uid,
        "modality": series.modality,
        "decisions": [
            {
                "route": decision.route,
                "pipeline": decision.pipeline,
                "input": decision.input,
                "taken": decision.taken,
                "mode": mode.mode_of(decision.pipeline, decided).value,
                "conditions": [
                    {"of": whose, **vars(condition)}
                    for whose, judged in (
                        ("route", decision.of_route),
                        ("pipeline", decision.of_pipeline),
                    )
                    for condition in judged
                ],
            }
            for decision in decisions
        ],
    }


@click.command()
@config_option
@click.argument("job")
def retry(settings: Settings, job: str) -> None:
    """Try JOB again: its analysis if that was set aside, else its refused deliveries."""
    ledger = ledger_of(settings)
    with ledger.write() as db:
        job_id = listing.job_id_of(db, job)
        released = retention.is_released(db, listing.job_row(db, job_id)["study_uid"])
        again = not released and job_store.retry(db, job_id)
        made = [a.sop_instance_uid for a in delivery_store.artifacts_of(db, job_id)]
        resent = 0 if again else delivery_store.retry(db, made, None)
    if released and not resent:
        raise UsageError(
            f"The images of job {job_id[:12]} are released.",
            do="Have the whole study sent again; then 'radnode retry'.",
        )
    if not again and not resent:
        raise UsageError(
            f"Job {job_id[:12]} is neither quarantined nor canceled, or a later one replaced it, "
            "and nothing refused its results.",
            do="Nothing needs a retry: what is pending is tried again by itself.",
        )
    click.echo("It is analysed again." if again else f"{resent} objects are sent again.")


@click.command()
@config_option
@click.argument("job")
def cancel(settings: Settings, job: str) -> None:
    """Cancel JOB: its analysis if that is not finished, else what is not sent of it."""
    ledger = ledger_of(settings)
    with ledger.write() as db:
        job_id = listing.job_id_of(db, job)
        stopped = job_store.cancel(db, job_id)
        made = [a.sop_instance_uid for a in delivery_store.artifacts_of(db, job_id)]
        unsent = 0 if stopped else delivery_store.cancel(db, made)
    if not stopped and not unsent:
        raise UsageError(
            f"Job {job_id[:12]} is finished and everything of it is sent.",
            do="To take a result back, ask the PACS administrator to reject it there.",
        )
    click.echo("It is canceled." if stopped else f"{unsent} objects are not sent any more.")


@click.command()
@config_option
@click.argument("study")
def reanalyse(settings: Settings, study: str) -> None:
    """Let STUDY be routed again, with the routes and models of now.

    What the same model has already said of the same images is not said again; a new model's
    result names the one it supersedes.
    """
    ledger = ledger_of(settings)
    with ledger.read() as db:
        study_uid = listing.study_uid_of(db, study)
        all_series = study_store.series_of(db, study_uid)
    with ledger.write() as db:
        for series in all_series:
            routing.route_again(db, study_uid, series.series_uid)
        routing.route_study_again(db, study_uid)
        events.record(db, "reanalysed", study_uid=study_uid, detail="asked for by a person")
    click.echo(f"{len(all_series)} series are routed again. 'radnode jobs' shows what comes of it.")


@click.command()
@config_option
@click.option("--every", "every_s", default=1.0, show_default=True, help="Seconds.")
def watch(settings: Settings, every_s: float) -> None:
    """Show what the node does, live. Ctrl-C ends it."""
    overview.run(ledger_of(settings), every_s)


@click.command()
@config_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what is logged from now on.")
@click.option("--lines", default=50, show_default=True, help="How many old lines to print.")
@click.option("--role", default="*", help="Only of this role, for example relay or work-1.")
def logs(settings: Settings, *, follow: bool, lines: int, role: str) -> None:
    """Print the log of all roles, in the order of time."""
    seen: dict[str, int] = {}
    old = overview.read_new_lines(settings.log_folder, role, seen)
    for line in old[max(0, len(old) - lines) :]:
        click.echo(line)
    while follow:
        time.sleep(0.5)  # a file has no event that every platform offers
        for line in overview.read_new_lines(settings.log_folder, role, seen):
            click.echo(line)


VERBS = (studies, jobs, deliveries, show, why, retry, cancel, reanalyse, watch, logs)
