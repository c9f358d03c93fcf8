"""A pipeline that needs two series: planned when both are there, refused aloud when one is not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest
from pydicom import dcmread
from sqlalchemy import update

from node import plan
from node.domain import JobState, Outcome, Priority
from node.settings import Complete, FolderDestination, Route, Settings
from node.store import deliveries, listing, retention
from node.store.tables import delivery, instance, job, job_input, outbox, study
from node.store.tables import series as a_series
from node.worker import Worker
from pipelines import registry
from sr_templates.could_not_look import NOT_ANALYSED
from sr_templates.text import as_text
from tests.node.ledger_rows import arrived, complete, events, let_time_pass, receive, rows
from tests.peers import bright_spot, two_series

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pydicom import Dataset

    from node.store.ledger import Ledger

once = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

CONTRAST = two_series.series("several", "CONTRAST arterial", 3)
NATIVE = two_series.series("several", "NATIVE", 2)
LOCALIZER = two_series.series("several", "TOPOGRAM", 1, slices=1)
THICK = two_series.series("several", "CONTRAST thick", 4, slices=4)
REPEATED = two_series.series("several", "CONTRAST again", 5)


@dataclass
class Department:
    """A node without network: what it received lies in its spool."""

    settings: Settings
    ledger: Ledger
    worker: Worker

    def receive(self, *several: Sequence[Dataset]) -> None:
        """Receive series, and let them be complete, and their study."""
        for image in (image for series in several for image in series):
            path = self.settings.spool_folder / f"{image.SOPInstanceUID}.dcm"
            path.parent.mkdir(exist_ok=True)
            image.save_as(path, enforce_file_format=True)
            one = arrived(
                sop_instance_uid=image.SOPInstanceUID,
                study_uid=image.StudyInstanceUID,
                series_uid=image.SeriesInstanceUID,
                digest=hashlib.sha256(path.read_bytes()).hexdigest(),
                path=path.name,
            )
            receive(self.ledger, one)
        complete(self.ledger)

    def plan(self) -> int:
        plan.run_once(self.settings, self.ledger)  # the series
        plan.run_once(self.settings, self.ledger)  # the study
        return len(self.jobs())

    def wait_in_vain(self) -> None:
        """Let the time pass after which nothing more of the study is waited for."""
        with self.ledger.write() as db:
            let_time_pass(db, self.settings.complete.missing_s)
            db.execute(update(study).values(route_at=0.0))

    def jobs(self) -> list[Any]:
        return sorted(rows(self.ledger, job), key=lambda row: row.planned_at)

    def chosen(self) -> dict[str, dict[str, str]]:
        """Return job -> name of each input -> its series."""
        found: dict[str, dict[str, str]] = {}
        for row in rows(self.ledger, job_input):
            found.setdefault(row.job_id, {})[row.name] = row.series_uid
        return found

    def made(self) -> dict[str, Dataset]:
        """Return role -> object of the last job."""
        with self.ledger.read() as db:
            made = deliveries.artifacts_of(db, self.jobs()[-1].id)
        return {one.role: dcmread(self.settings.artifact_folder / one.path) for one in made}


@pytest.fixture
def node(
    settings: Settings, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Department]:
    site = tmp_path / "site"
    site.mkdir()
    for name, value in two_series.install(site).items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(site))
    registry._installed.cache_clear()
    configured = settings.model_copy(
        update={
            "complete": Complete(series_s=0.0, study_s=0.0, missing_s=600.0),
            "destinations": {"pacs": FolderDestination(kind="folder", path=tmp_path / "out")},
            "routes": (Route(match={"Modality": "CT"}, run=(two_series.NAME,), send_to=("pacs",)),),
        }
    )
    worker = Worker(configured, ledger, "worker-1")
    yield Department(configured, ledger, worker)
    worker._inference.kill()
    registry._installed.cache_clear()
    registry._of_package.cache_clear()


def uids(series: Sequence[Dataset]) -> set[str]:
    return {str(one.SOPInstanceUID) for one in series}


def uid(series: Sequence[Dataset]) -> str:
    return str(series[0].SeriesInstanceUID)


# --- planning --------------------------------------------------------------------------------


def test_two_series_become_one_job_with_its_bell(node: Department) -> None:
    node.receive(NATIVE, CONTRAST, LOCALIZER)
    assert node.plan() == 1
    (found,) = node.jobs()
    assert (found.series_uid, found.send_to, found.revision) == ("", "pacs", 1)
    assert found.priority == Priority.STAT  # as the pipeline asks, though its route does not
    assert node.chosen() == {found.id: {"contrast": uid(CONTRAST), "native": uid(NATIVE)}}
    assert [row.job_id for row in rows(node.ledger, outbox)] == [found.id]
    assert node.plan() == 1


@once
def test_any_order_of_arrival_makes_the_same_job(node: Department) -> None:
    found = set()
    for order in permutations([NATIVE, CONTRAST, THICK]):
        with node.ledger.write() as db:
            for table in (outbox, job_input, job, instance, a_series, study):
                db.execute(table.delete())
        for series in order:
            node.receive(series)
            node.plan()
        found.add(node.jobs()[-1].id)
    assert len(found) == 1


def test_the_first_series_waits_for_the_second(node: Department) -> None:
    node.receive(NATIVE)
    assert node.plan() == 0
    (told,) = events(node.ledger, "input_awaited")
    assert told.detail == "No series fits contrast yet."
    node.receive(CONTRAST)
    assert node.plan() == 1
    assert set(node.chosen()[node.jobs()[0].id]) == {"contrast", "native"}


def test_what_never_came_is_planned_once_to_be_said_aloud(node: Department) -> None:
    node.receive(NATIVE)
    node.plan()
    node.wait_in_vain()
    assert node.plan() == 1
    assert node.plan() == 1
    assert [set(inputs) for inputs in node.chosen().values()] == [{"native"}]
    assert len(events(node.ledger, "input_missing")) == 1


@once
def test_of_what_comes_after_the_release_of_its_study_nobody_says_that_the_rest_never_came(
    node: Department,
) -> None:
    node.receive(NATIVE, CONTRAST)
    assert node.plan() == 1
    with node.ledger.write() as db:
        db.execute(update(job).values(state="canceled"))
        assert retention.release_study(db, str(NATIVE[0].StudyInstanceUID), (), why="test")
    node.receive(REPEATED)
    node.wait_in_vain()
    assert node.plan() == 1
    assert events(node.ledger, "input_missing") == []
    (told,) = events(node.ledger, "not_planned")
    assert "were released and have not come again" in told.detail
    node.receive(NATIVE, CONTRAST)
    assert node.plan() == 2  # now with the repeated one


def test_a_study_with_none_of_the_inputs_is_no_job(node: Department) -> None:
    node.receive(LOCALIZER)
    node.plan()
    node.wait_in_vain()
    assert node.plan() == 0
    assert len(events(node.ledger, "no_route")) == 1


@once
def test_of_several_series_the_finest_is_taken_and_of_its_repeats_the_last(
    node: Department,
) -> None:
    node.receive(CONTRAST, THICK, NATIVE, REPEATED)
    node.plan()
    (inputs,) = node.chosen().values()
    assert inputs["contrast"] == uid(REPEATED)
    (told,) = events(node.ledger, "input_chosen")
    assert "of 3 that fit" in told.detail


@once
def test_a_job_of_one_series_and_one_of_the_study_go_side_by_side(
    node: Department, tmp_path: Path
) -> None:
    bright_spot.install(tmp_path / "site")
    registry._installed.cache_clear()
    one = Route(match={}, run=(bright_spot.NAME, two_series.NAME), send_to=("pacs",))
    node.settings = node.settings.model_copy(update={"routes": (one,)})
    node.receive(CONTRAST, NATIVE)
    assert node.plan() == 3
    counted = [row.pipeline for row in node.jobs()]
    assert counted.count(bright_spot.NAME) == 2
    assert {row.supersedes for row in node.jobs()} == {None}


def test_a_file_that_cannot_be_read_leaves_the_study_for_later(node: Department) -> None:
    node.receive(NATIVE, CONTRAST)
    plan.run_once(node.settings, node.ledger)
    damaged = node.settings.spool_folder / f"{NATIVE[0].SOPInstanceUID}.dcm"
    content = damaged.read_bytes()
    damaged.unlink()
    with node.ledger.write() as db:
        db.execute(update(study).values(routed_revision=0))
    plan.run_once(node.settings, node.ledger)
    assert len(events(node.ledger, "not_planned")) == 1
    damaged.write_bytes(content)
    with node.ledger.write() as db:
        db.execute(update(study).values(route_at=0.0))
    assert node.plan() == 1


@once
def test_after_an_upgrade_a_waiting_job_is_planned_anew(
    node: Department, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.receive(NATIVE, CONTRAST)
    with monkeypatch.context() as before:
        before.setattr(type(registry.get(two_series.NAME)), "version", "0.9.0")
        node.plan()
    assert plan.plan_again(node.settings, node.ledger) == 1
    assert node.plan() == 2
    states = {row.pipeline_version: row.state for row in node.jobs()}
    assert states == {"0.9.0": JobState.CANCELED, "1.0.0": JobState.SCHEDULED}


# --- working ---------------------------------------------------------------------------------


def test_the_result_lies_on_the_first_input_and_names_both_as_evidence(node: Department) -> None:
    node.receive(NATIVE, CONTRAST)
    node.plan()
    assert node.worker.run_next()
    (row,) = node.jobs()
    assert (row.state, row.outcome) == (JobState.COMPLETED, Outcome.FOUND)
    made = node.made()
    (drawn_on,) = made["seg"].ReferencedSeriesSequence
    assert drawn_on.SeriesInstanceUID == uid(CONTRAST)
    (of_study,) = made["sr"].CurrentRequestedProcedureEvidenceSequence
    evidence = [
        {str(one.ReferencedSOPInstanceUID) for one in series.ReferencedSOPSequence}
        for series in of_study.ReferencedSeriesSequence
    ]
    assert evidence[0] == uids(CONTRAST)
    assert uids(NATIVE) in evidence
    assert "Series analysed: CONTRAST number 3; NATIVE number 2." in as_text(made["sr"])


def test_what_never_came_is_said_in_the_report(node: Department) -> None:
    node.receive(NATIVE)
    node.plan()
    node.wait_in_vain()
    node.plan()
    assert node.worker.run_next()
    (row,) = node.jobs()
    assert (row.state, row.outcome) == (JobState.COMPLETED, Outcome.COULD_NOT_LOOK)
    said = as_text(node.made()["sr"])
    assert NOT_ANALYSED in said
    assert "No CONTRAST series came that suits this algorithm" in said
    with node.ledger.read() as db:
        assert [one["destination"] for one in listing.deliveries(db, 10)] == ["pacs"]


def test_a_series_that_comes_after_the_refusal_makes_a_result(node: Department) -> None:
    node.receive(NATIVE)
    node.plan()
    node.wait_in_vain()
    node.plan()
    node.worker.run_next()
    node.receive(CONTRAST)
    node.plan()
    node.worker.run_next()
    refused, found = node.jobs()
    assert (found.supersedes, found.outcome) == (refused.id, Outcome.FOUND)
    assert found.revision == 2


def test_a_late_instance_of_one_input_makes_a_result_that_supersedes(node: Department) -> None:
    node.receive(NATIVE[:5], CONTRAST[:5])
    node.plan()
    node.worker.run_next()
    node.receive(NATIVE[5:], CONTRAST[5:])
    assert node.plan() == 2
    node.worker.run_next()
    first, second = node.jobs()
    assert (second.supersedes, second.revision) == (first.id, 2)
    assert second.outcome == Outcome.FOUND


def test_an_input_that_grew_before_its_job_began_is_left_to_the_next_revision(
    node: Department,
) -> None:
    node.receive(NATIVE, CONTRAST[:5])
    node.plan()
    node.receive(CONTRAST[5:])
    node.worker.run_next()
    assert node.jobs()[0].state == JobState.CANCELED
    assert node.plan() == 2
    node.worker.run_next()
    assert [row.state for row in node.jobs()] == [JobState.CANCELED, JobState.COMPLETED]


@once
def test_an_input_that_cannot_be_loaded_is_named_in_the_report(node: Department) -> None:
    node.receive(NATIVE[:2] + NATIVE[3:], CONTRAST)
    node.plan()
    node.worker.run_next()
    assert node.jobs()[0].outcome == Outcome.COULD_NOT_LOOK
    assert f"{NOT_ANALYSED} NATIVE: " in as_text(node.made()["sr"])


@once
def test_series_that_differ_in_whose_they_are_make_no_result(node: Department) -> None:
    stranger = two_series.series("several", "NATIVE", 2)
    for image in stranger:
        image.PatientID = "another"
    node.receive(stranger, CONTRAST)
    node.plan()
    node.worker.run_next()
    (row,) = node.jobs()
    assert row.state == JobState.QUARANTINED
    assert "differ in patient ID" in row.what
    assert rows(node.ledger, delivery) == []


@once
def test_the_same_job_done_twice_makes_the_same_bytes(node: Department) -> None:
    node.receive(NATIVE, CONTRAST)
    node.plan()
    node.worker.run_next()
    first = {path.name: path.read_bytes() for path in node.settings.artifact_folder.rglob("*.dcm")}
    with node.ledger.write() as db:
        db.execute(update(job).values(state=JobState.SCHEDULED.value))
    for path in node.settings.artifact_folder.iterdir():
        path.rename(node.settings.data / "set aside")
    node.worker.run_next()
    second = {path.name: path.read_bytes() for path in node.settings.artifact_folder.rglob("*.dcm")}
    assert first == second
