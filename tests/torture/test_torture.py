"""The torture's own instruments: an oracle that is not blind, points that all have their turn."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, update

from node import route
from node.domain import Artifact, DeliveryState, Outcome
from node.store import deliveries, jobs
from node.store.tables import artifact, delivery, instance, job
from tests.node.ledger_rows import arrived, claimed, plan, planned, receive, uid
from tests.peers import REPOSITORY, bright_spot
from tests.peers.pacs import pacs as pacs_double
from tests.torture import crash_points, document, goals, harm, oracle, stateful
from tests.torture.node_under_test import node_under_test
from tests.torture.subject import Figure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from node.settings import Settings
    from node.store.ledger import Ledger
    from tests.peers.pacs import Pacs
    from tests.torture.oracle import Verdict

once = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


# --- the oracle ------------------------------------------------------------------------------


@dataclass
class Scene:
    """One study that went through, and whatever is then done to it."""

    settings: Settings
    ledger: Ledger
    pacs: Pacs
    acknowledged: list[oracle.Sent] = field(default_factory=list)

    def verdict(self) -> Verdict:
        return oracle.verify_ledger(self.settings, self.ledger, self.acknowledged, self.pacs)

    def change(self, statement) -> None:
        with self.ledger.write() as db:
            db.execute(statement)

    def result(self, role: str) -> Path:
        return self.pacs.folder / f"{uid('result', role)}.dcm"

    def spooled(self) -> Path:
        return next(self.settings.spool_folder.glob("*.dcm"))


@pytest.fixture(scope="module")
def _pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pacs]:
    with pacs_double(tmp_path_factory.mktemp("pacs") / "pacs") as running:
        yield running


@pytest.fixture
def scene(settings: Settings, ledger: Ledger, _pacs: Pacs) -> Scene:
    for path in _pacs.folder.iterdir():
        path.unlink()
    made = Scene(settings, ledger, _pacs)
    for folder in (settings.spool_folder, settings.artifact_folder):
        folder.mkdir()
    image, *results = bright_spot.ct_series("oracle", 3)
    study_uid, series_uid = str(image.StudyInstanceUID), str(image.SeriesInstanceUID)
    path = settings.spool_folder / "image.dcm"
    image.save_as(path, enforce_file_format=True)
    sent = oracle.sent(image)
    made.acknowledged.append(sent)
    receive(
        ledger,
        arrived(
            sop_instance_uid=sent.sop_instance_uid,
            study_uid=study_uid,
            series_uid=series_uid,
            digest=sent.digest,
            path=path.name,
        ),
    )
    digest = oracle.input_digest([sent])
    plan(ledger, planned(study_uid=study_uid, series_uid=series_uid, input_digest=digest))
    lease = claimed(ledger)
    with ledger.write() as db:
        for role, result in zip(oracle.KINDS, results, strict=True):
            result.SOPInstanceUID = uid("result", role)
            result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
            for kept in (settings.artifact_folder / f"{role}.dcm", made.result(role)):
                result.save_as(kept, enforce_file_format=True)
            one = Artifact(
                result.SOPInstanceUID, "1.2", study_uid, lease.job.id, role, f"{role}.dcm", "0", 1
            )
            deliveries.write_artifact(db, one)
            deliveries.plan_deliveries(db, [one], "pacs")
        jobs.finish(db, lease, Outcome.FOUND, "{}")
        db.execute(update(delivery).values(state=DeliveryState.COMMITTED.value))
    return made


BREAKAGES: dict[str, tuple[str, Callable[[Scene], object]]] = {
    "an instance without a row": (
        "lost_instances",
        lambda scene: scene.change(delete(instance)),
    ),
    "an instance without a file": (
        "lost_instances",
        lambda scene: scene.spooled().unlink(),
    ),
    "an instance with other bytes on the disk": (
        "lost_instances",
        lambda scene: scene.spooled().write_bytes(scene.spooled().read_bytes() + b"\0\0"),
    ),
    "a result that never came": (
        "lost_results",
        lambda scene: scene.result("sr").unlink(),
    ),
    "a job on something else": (
        "lost_results",
        lambda scene: scene.change(update(job).values(input_digest="f" * 64)),
    ),
    "a job that is set aside": (
        "lost_results",
        lambda scene: scene.change(update(job).values(state="quarantined")),
    ),
    "two objects of one kind": (
        "doubled_results",
        lambda scene: scene.change(update(artifact).values(role="sr")),
    ),
    "an object that nobody knows": (
        "strange_results",
        lambda scene: scene.result("sr").rename(scene.pacs.folder / "1.2.3.dcm"),
    ),
    "two contents under one UID": (
        "changed_results",
        lambda scene: (scene.pacs.folder / f"{uid('result', 'sr')}.other2.dcm").write_bytes(
            scene.result("sr").read_bytes()
        ),
    ),
    "a delivery on its way": (
        "unfinished",
        lambda scene: scene.change(update(delivery).values(state="sent")),
    ),
    "a part file": (
        "left_behind",
        lambda scene: _write(scene.settings.spool_folder / "tmp" / "1-1.part"),
    ),
}


def _write(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"")


@once
def test_the_oracle_finds_nothing_wrong_with_a_study_that_went_through(scene: Scene):
    verdict = scene.verdict()
    assert (verdict.instances, verdict.studies) == (1, 1)
    assert (verdict.lost, verdict.doubled, verdict.note) == (0, 0, "")


@once
@pytest.mark.parametrize("breakage", BREAKAGES)
def test_the_oracle_sees(scene: Scene, breakage: str):
    what, break_it = BREAKAGES[breakage]
    break_it(scene)
    verdict = scene.verdict()
    assert getattr(verdict, what)
    assert verdict.note


# --- the subjects ----------------------------------------------------------------------------


def test_every_crash_point_of_the_product_is_tortured_or_has_a_test_of_its_own():
    named = {
        point
        for path in (REPOSITORY / "node").rglob("*.py")
        for point in re.findall(r'\breach\("([a-z_.]+)"\)', path.read_text())
    }
    tortured = {point for points in crash_points.POINTS.values() for point in points}
    tests = "".join(path.read_text() for path in (REPOSITORY / "tests").rglob("test_*.py"))
    assert tortured <= named
    assert [point for point in sorted(named - tortured) if f'"{point}' not in tests] == []


def test_every_crash_point_has_its_turn_at_each_hit_and_no_job_dies_of_three():
    order = crash_points.armed(2, random.Random(1))
    for role, points in crash_points.POINTS.items():
        assert {f"{one}:{hit}" for one in points for hit in (1, 2)} <= set(order[role])
        pairs = [(one.partition(":")[0], int(one[-1])) for one in order[role]]
        kills = [crash_points.kills_the_first_job(*pair) for pair in pairs]
        assert kills == [True, False] * (len(kills) // 2)


def test_arrivals_in_any_order_are_what_the_model_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    harm.install(tmp_path / "site-packages")
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    route.registry._installed.cache_clear()
    with node_under_test(tmp_path / "node", start=False) as tested:
        steps, broken = stateful.explore(tested, seed=1, examples=4)
    assert broken == ""
    assert all(steps[what] for what in ("new", "late", "again", "conflicting", "work ended"))


# --- the figures -----------------------------------------------------------------------------


def test_a_figure_without_a_goal_is_met_and_one_beyond_its_goal_is_not():
    assert Figure("studies", 3).met
    assert Figure("lost", 0, at_most=0).met
    assert not Figure("lost", 1, at_most=0).met
    assert not Figure("kills", 59, at_least=60).met


def test_the_page_shows_what_was_measured_and_what_was_missed():
    figures = [Figure("kills", 60, at_least=60), Figure("lost", 1, 60, at_most=0, note="a | b")]
    section = document.section(
        {
            "at": "2026-11-30T12:00:00",
            "machine": {"processor": "x86", "cores": 2},
            "seed": 7,
            "took_s": 1.0,
            "failed": "",
            "figures": [goals.to_json(figure) for figure in figures],
        }
    )
    assert "2026-11-30, x86, 2 cores; seed 7" in section
    assert "| kills | 60 | ≥ 60 | met |" in section
    assert "| lost | 1 of 60 | ≤ 0 | **missed**; a \\| b |" in section


def test_every_subject_has_its_section_on_the_page():
    page = document.PAGE.read_text()
    for name in document.SUBJECTS:
        assert f"<!-- measured: {name} -->" in page
