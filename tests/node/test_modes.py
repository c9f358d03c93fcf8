"""Pipelines that are off, or in shadow: who decides, what is planned, and what is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from node import mode, plan
from node.domain import JobState, Mode, Outcome
from node.store import jobs, modes
from node.store.finished import finished
from node.store.tables import job
from pipelines import registry
from tests.node.command import Command, scan
from tests.node.ledger_rows import claimed, complete, events, job_row, planned
from tests.node.ledger_rows import plan as plan_rows
from tests.peers import bright_spot, site_model

if TYPE_CHECKING:
    from pathlib import Path

    from node.settings import Settings
    from node.store.ledger import Ledger

once = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def decide(ledger: Ledger, pipeline: str, to: Mode) -> int:
    with ledger.write() as db:
        return modes.decide(db, pipeline, to)


def finish(ledger: Ledger) -> bool:
    """Finish the job that waits; whether its result is withheld."""
    lease = claimed(ledger)
    with ledger.write() as db:
        jobs.finish(db, lease, Outcome.FOUND, "{}")
        return modes.withhold(db, lease)


def test_what_a_person_decided_is_kept_and_told(ledger: Ledger) -> None:
    for to in (Mode.SHADOW, Mode.DISABLED, Mode.ENABLED):
        decide(ledger, "lung", to)
        with ledger.read() as db:
            assert modes.decided(db) == {"lung": to}
    assert [row.subject for row in events(ledger, "pipeline_shadow")] == ["lung"]


def test_in_shadow_a_result_is_withheld_and_is_nobodys_predecessor(ledger: Ledger) -> None:
    first, second, third = (planned(name, series_uid="1.2") for name in "abc")
    plan_rows(ledger, first)
    assert not finish(ledger)
    decide(ledger, first.pipeline, Mode.SHADOW)
    plan_rows(ledger, second)
    assert finish(ledger)
    decide(ledger, first.pipeline, Mode.ENABLED)
    plan_rows(ledger, third)
    # The PACS knows the first, never the second.
    assert job_row(ledger, third.id).supersedes == first.id
    assert [row.job_id for row in events(ledger, "withheld")] == [second.id]


def test_what_is_switched_off_does_not_wait_any_longer(ledger: Ledger) -> None:
    plan_rows(ledger, planned("a"), planned("b", pipeline="another", series_uid="1.9"))
    assert decide(ledger, planned("a").pipeline, Mode.DISABLED) == 1
    with ledger.read() as db:
        states = {row.pipeline: row.state for row in db.execute(select(job))}
    assert states == {planned("a").pipeline: JobState.CANCELED, "another": JobState.SCHEDULED}


@once
def test_a_pipeline_may_be_off_until_somebody_switches_it_on(
    node: Settings, ledger: Ledger, radnode: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(registry.get(bright_spot.NAME)), "enabled", False, raising=False)
    assert mode.mode_of(bright_spot.NAME, {}) is Mode.DISABLED
    assert mode.mode_of(bright_spot.NAME, {bright_spot.NAME: Mode.SHADOW}) is Mode.SHADOW
    with pytest.raises(AssertionError):  # nothing is planned
        scan(node, ledger)
    (told,) = events(ledger, "not_planned")
    assert f"models enable {bright_spot.NAME}" in told.detail
    assert events(ledger, "no_route") == []
    study_uid = told.study_uid
    assert ": no\n" in radnode("why", study_uid).out
    assert radnode("why", study_uid, "--json").json[0]["decisions"][0]["mode"] == "disabled"
    assert radnode("models", "enable", bright_spot.NAME).status == 0
    assert ": yes\n" in radnode("why", study_uid).out
    assert radnode("reanalyse", study_uid).status == 0
    complete(ledger)
    assert plan.run_once(node, ledger) == 1


def test_of_two_versions_each_is_found_by_its_number(ledger: Ledger) -> None:
    first = planned("a", series_uid="1.2")
    second = planned("b", series_uid="1.2", pipeline_version="2.0.0+runtimes.1.0.0")
    for one in (first, second):
        plan_rows(ledger, one)
        finish(ledger)
    with ledger.read() as db:
        of = {v: finished(db, first.pipeline, v) for v in (None, "1.0.0", "2.0.0", "3.0.0")}
    (judged,) = of["1.0.0"]
    assert judged == (first.study_uid, "1.2", "", first.input_digest)
    assert of["1.0.0"][judged].job_id == first.id
    assert of["2.0.0"][judged].job_id == of[None][judged].job_id == second.id
    assert of["3.0.0"] == {}


# --- the verbs -------------------------------------------------------------------------------


@once
def test_models_are_added_listed_verified_tried_and_removed(
    node: Settings, ledger: Ledger, radnode: Command, tmp_path: Path
) -> None:
    source = site_model.write(tmp_path / "source", threshold_hu=300.0)
    assert "It is a pipeline" in radnode("models", "add", source).out
    (row,) = [r for r in radnode("models", "list", "--json").json if r["name"] == site_model.NAME]
    assert (row["is"], row["mode"]) == ("added pipeline", "enabled")
    assert sorted(row["added"]["files"]) == ["pipeline.toml", "spot.onnx"]
    assert "2 files" in radnode("models", "verify").out
    assert "nothing" in radnode("models", "shadow", site_model.NAME).out
    assert site_model.NAME in radnode("pipelines").out
    (node.models_folder / site_model.NAME / "spot.onnx").write_bytes(b"changed")
    assert "1 of 1 models" in radnode("models", "verify", site_model.NAME).error
    assert "already" in radnode("models", "add", source).error
    assert radnode("models", "remove", site_model.NAME).status == 0
    assert "No pipeline is called" in radnode("models", "enable", site_model.NAME).error


@once
def test_a_damaged_model_is_told_and_can_be_removed(
    node: Settings, ledger: Ledger, radnode: Command, tmp_path: Path
) -> None:
    radnode("models", "add", site_model.write(tmp_path / "source", threshold_hu=300.0))
    assert f"The model {site_model.NAME} is as it was added." in radnode("check").out
    (node.models_folder / site_model.NAME / "spot.onnx").write_bytes(b"changed")
    assert "is not the file that was added" in radnode("check").out
    (node.models_folder / site_model.NAME / "model.toml").write_text("files = [")
    assert "model.toml" in radnode("check").out
    assert "is damaged" in radnode("pipelines").error
    assert radnode("models", "remove", site_model.NAME).status == 0
    assert radnode("pipelines").status == 0


@once
def test_a_model_that_a_route_needs_is_not_removed(
    node: Settings, ledger: Ledger, radnode: Command
) -> None:
    assert "route" in radnode("models", "remove", bright_spot.NAME).error


@once
@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["add", "no-such-model"], "not in the catalogue"),
        (["add", "https://localhost/model.zip"], "needs its digest"),
        (["add", "http://localhost/model.zip", "--sha256", "0" * 64], "no https"),
        (["add", "hippodeep", "--sha256", "nothing"], "neither a SHA-256 nor a file"),
        (["add", "blast-ct"], "no digest"),
        (["verify", "hippodeep"], "was added"),
        (["remove", "hippodeep"], "was added"),
        (["shadow", "no-such-pipeline"], "No pipeline"),
    ],
)
def test_what_cannot_be_done_with_models_is_said_in_two_lines(
    node: Settings, ledger: Ledger, radnode: Command, words: list[str], what: str
) -> None:
    assert what in radnode("models", *words).error


def test_a_folder_is_tried_without_being_added(radnode: Command, tmp_path: Path) -> None:
    source = site_model.write(tmp_path / "source", threshold_hu=300.0)
    (tmp_path / "study").mkdir()
    for image in bright_spot.ct_series("tried"):
        image.save_as(tmp_path / "study" / f"{image.InstanceNumber}.dcm", enforce_file_format=True)
    said = radnode("run", source, tmp_path / "study", "--out", tmp_path / "out")
    assert "Volume: 0.4 mL" in said.out
    assert (tmp_path / "out" / "seg.dcm").exists()
    (source / "pipeline.toml").write_text("name = 1")
    assert "cannot be used" in radnode("run", source, tmp_path / "study", "--out", "x").error


@once
def test_two_pipelines_that_judged_nothing_in_common_cannot_be_compared(
    node: Settings, ledger: Ledger, radnode: Command
) -> None:
    plan_rows(ledger, planned("a"))
    finish(ledger)
    said = radnode("compare", planned("a").pipeline, "another")
    assert "1 only by" in said.error
