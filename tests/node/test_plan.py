"""Plan: a completed series becomes the jobs of the routes that take it, each exactly once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid

from node import derive, plan, route
from node.domain import CompletedSeries, Priority, StoredInstance
from node.settings import FolderDestination, Route, Settings
from node.store.tables import job, outbox, series
from tests.node.ledger_rows import arrived, complete, events, job_row, receive, rows
from tests.peers import bright_spot
from tests.peers.bright_spot import ct_series

if TYPE_CHECKING:
    from pathlib import Path

    from node.store.ledger import Ledger

once = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

SERIES = CompletedSeries("1.2.3", "1.2.3.4", "CT", 1)


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    bright_spot.install(folder)
    monkeypatch.syspath_prepend(folder)
    route.registry._installed.cache_clear()


@dataclass
class Department:
    """A node without network: what it received lies in its spool."""

    settings: Settings
    ledger: Ledger

    def receive(self, *, slices: range = range(6), calling_ae: str = "CT1") -> None:
        for image in [ct_series("plan")[number] for number in slices]:
            path = self.settings.spool_folder / f"{image.InstanceNumber}.dcm"
            path.parent.mkdir(exist_ok=True)
            image.save_as(path, enforce_file_format=True)
            one = arrived(
                sop_instance_uid=image.SOPInstanceUID,
                study_uid=image.StudyInstanceUID,
                series_uid=image.SeriesInstanceUID,
                digest=hashlib.sha256(path.read_bytes()).hexdigest(),
                path=path.name,
                calling_ae=calling_ae,
            )
            receive(self.ledger, one)

    def plan(self) -> int:
        complete(self.ledger)
        return plan.run_once(self.settings, self.ledger)

    def jobs(self) -> list[Any]:
        return sorted(rows(self.ledger, job), key=lambda row: row.revision)


def take(match: dict[str, Any], *send_to: str, **other: Any) -> Route:
    return Route(match=match, run=(bright_spot.NAME,), send_to=send_to, **other)


def department(settings: Settings, ledger: Ledger, *routes: Route) -> Department:
    out = FolderDestination(kind="folder", path="out")
    changes = {"routes": routes, "destinations": {"pacs": out, "research": out}}
    return Department(settings.model_copy(update=changes), ledger)


def test_a_completed_series_becomes_a_job_with_its_bell(settings: Settings, ledger: Ledger) -> None:
    node = department(settings, ledger, take({"Modality": "CT"}, "pacs"))
    node.receive()
    assert node.plan() == 1
    (found,) = node.jobs()
    assert (found.pipeline, found.send_to, found.state) == (bright_spot.NAME, "pacs", "scheduled")
    assert [row.job_id for row in rows(ledger, outbox)] == [found.id]
    assert node.plan() == 0


@once
def test_a_series_that_no_route_takes_is_told(settings: Settings, ledger: Ledger) -> None:
    node = department(settings, ledger, take({"Modality": "MR"}, "pacs"))
    node.receive()
    assert node.plan() == 0
    assert len(events(ledger, "no_route")) == 1
    assert node.plan() == 0
    assert len(events(ledger, "no_route")) == 1


@once
def test_routes_to_one_pipeline_make_one_job_for_all_their_destinations(
    settings: Settings, ledger: Ledger
) -> None:
    node = department(
        settings,
        ledger,
        take({"Modality": "CT"}, "pacs"),
        take({"Modality": "MR"}, "elsewhere"),
        take({"CallingAETitle": "CT*"}, "research", "pacs", priority="stat"),
    )
    node.receive()
    assert node.plan() == 1
    (found,) = node.jobs()
    assert found.send_to == "pacs research"
    assert found.priority == Priority.STAT


def test_a_late_instance_makes_a_second_job_that_supersedes_the_first(
    settings: Settings, ledger: Ledger
) -> None:
    node = department(settings, ledger, take({}, "pacs"))
    node.receive(slices=range(5))
    node.plan()
    node.receive()
    assert node.plan() == 1
    first, second = node.jobs()
    assert (first.state, first.revision) == ("canceled", 1)
    assert (second.state, second.revision) == ("scheduled", 2)
    assert first.input_digest != second.input_digest


@once
def test_a_resend_makes_no_second_job(settings: Settings, ledger: Ledger) -> None:
    node = department(settings, ledger, take({}, "pacs"))
    node.receive()
    node.plan()
    node.receive()
    assert node.plan() == 0
    assert len(node.jobs()) == 1


def test_a_file_that_cannot_be_read_is_told_and_looked_at_again(
    settings: Settings, ledger: Ledger
) -> None:
    node = department(settings, ledger, take({}, "pacs"))
    node.receive()
    damaged = settings.spool_folder / "3.dcm"
    content = damaged.read_bytes()
    damaged.unlink()
    assert node.plan() == 0
    assert node.plan() == 0
    (told,) = events(ledger, "not_planned")
    assert "3.dcm" in told.detail
    damaged.write_bytes(content)
    with ledger.write() as db:
        db.execute(series.update().values(route_at=series.c.route_at - plan.LOOK_AGAIN_S))
    assert node.plan() == 1


def test_a_series_that_cannot_be_read_holds_up_no_other(settings: Settings, ledger: Ledger) -> None:
    node = department(settings, ledger, take({}, "pacs"))
    receive(ledger, arrived(path="gone.dcm"))
    complete(ledger)
    node.receive()
    assert node.plan() == 1


@once
def test_a_pipeline_of_a_route_that_is_gone_leaves_the_series_for_later(
    settings: Settings, ledger: Ledger
) -> None:
    node = department(settings, ledger, Route(run=("no-such",), send_to=("pacs",)))
    node.receive()
    assert node.plan() == 0
    (told,) = events(ledger, "not_planned")
    assert "no-such" in told.detail
    repaired = department(settings, ledger, take({}, "pacs"))
    with ledger.write() as db:
        db.execute(series.update().values(route_at=series.c.route_at - plan.LOOK_AGAIN_S))
    assert repaired.plan() == 1


# --- identity --------------------------------------------------------------------------------

INSTANCES = st.lists(
    st.builds(
        StoredInstance,
        sop_instance_uid=st.integers(0, 10**6).map(lambda n: f"1.2.{n}"),
        sop_class_uid=st.just("1.2"),
        digest=st.integers(0, 2**256 - 1).map(lambda n: f"{n:064x}"),
        path=st.text(),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda one: one.sop_instance_uid,
)


def identity(instances: list[StoredInstance], **changes: Any) -> str:
    values = vars(SERIES) | changes
    pipeline = route.pipeline(bright_spot.NAME)
    planned = plan.planned_job(
        CompletedSeries(**values), instances, pipeline, priority=Priority.STAT, send_to=()
    )
    return planned.id


@given(INSTANCES, st.randoms(use_true_random=False))
def test_the_order_of_instances_makes_no_other_job(instances: list[StoredInstance], random) -> None:
    shuffled = list(instances)
    random.shuffle(shuffled)
    assert derive.input_digest(shuffled) == derive.input_digest(instances)
    assert identity(shuffled) == identity(instances)


@given(INSTANCES, st.data())
def test_one_instance_more_or_other_bytes_make_another_job(
    instances: list[StoredInstance], data
) -> None:
    more = StoredInstance("1.2.9999999", "1.2", "0" * 64, "")
    assert identity([*instances, more]) != identity(instances)
    number = data.draw(st.integers(0, len(instances) - 1))
    old = instances[number]
    instances[number] = StoredInstance(old.sop_instance_uid, "1.2", "another", old.path)
    assert identity(instances) != identity([*instances[:number], old, *instances[number + 1 :]])


@pytest.mark.parametrize(
    "alone",
    [
        uid.ComputedRadiographyImageStorage,
        uid.DigitalXRayImageStorageForPresentation,
        uid.DigitalXRayImageStorageForProcessing,
        uid.UltrasoundImageStorage,
        uid.UltrasoundMultiFrameImageStorage,
        uid.XRayAngiographicImageStorage,
        uid.TwelveLeadECGWaveformStorage,
    ],
)
def test_views_clips_and_recordings_are_judged_one_by_one_and_slices_together(alone: str) -> None:
    views = [StoredInstance(f"1.2.{n}", alone, "0" * 64, "") for n in range(2)]
    slices = [StoredInstance(f"1.3.{n}", uid.CTImageStorage, "0" * 64, "") for n in range(3)]
    assert plan.units([slices[0], views[0], *slices[1:], views[1]]) == (
        (views[0],),
        (views[1],),
        tuple(slices),
    )
    assert plan.units(views) == ((views[0],), (views[1],))


def test_another_study_or_series_is_another_job_and_another_revision_is_not() -> None:
    one = [StoredInstance("1.2.3.4.5", "1.2", "0" * 64, "")]
    assert identity(one, study_uid="1.2.4") != identity(one)
    assert identity(one, series_uid="1.2.4") != identity(one)
    assert identity(one, revision=7) == identity(one)


@once
def test_any_order_over_any_associations_makes_the_same_job(
    settings: Settings, ledger: Ledger
) -> None:
    """The same ten instances, in five orders, spread over one to five associations."""
    from random import Random

    from node.store import studies

    found = set()
    for seed in range(5):
        random = Random(seed)
        numbers = random.sample(range(10), 10)
        study_uid = f"1.2.{seed}"
        receive(
            ledger,
            *(
                arrived(
                    (seed, number),
                    study_uid=study_uid,
                    sop_instance_uid=f"1.3.{seed}.{number}",
                    association_id=str(random.randrange(seed + 1)),
                    digest=f"{number:064x}",
                )
                for number in numbers
            ),
        )
        with ledger.read() as db:
            stored = studies.instances_of(db, study_uid, arrived().series_uid)
        same = [
            StoredInstance(
                one.sop_instance_uid.replace(f"1.3.{seed}.", "1.3."), "1", one.digest, ""
            )
            for one in stored
        ]
        found.add(derive.input_digest(same))
    assert len(found) == 1


@once
def test_the_plan_is_not_undone_by_an_instance_that_comes_after_it(
    settings: Settings, ledger: Ledger
) -> None:
    node = department(settings, ledger, take({}, "pacs"))
    node.receive(slices=range(5))
    node.plan()
    (first,) = node.jobs()
    node.receive()
    assert job_row(ledger, first.id).state == "scheduled"
