"""A patient who comes back twice: listener, ledger, worker and Orthanc, as in a department."""

from __future__ import annotations

from math import log

import pytest
from pydicom import dcmread
from sqlalchemy import update

from node import complete, deliver, plan
from node.domain import JobState
from node.settings import Complete
from node.store import deliveries, listing
from node.store.tables import association
from node.worker import Worker
from pipelines import codes, registry
from sr_templates import codes as template_codes
from sr_templates.tree import children_named, is_named, walk
from tests.node.earlier import FIRST, SECOND, THIRD, asking, balls, series
from tests.node.receiving import listening
from tests.peers import free_port, spots
from tests.peers.body_phantom import Pose
from tests.peers.scanner import send

GROWTH = (34.0 / 26.0) ** 3
DAYS = {SECOND: 100, THIRD: 134}


@pytest.fixture
def database():
    """Everything here is the same on both."""
    return "sqlite"


@pytest.fixture
def routed(settings, orthanc, tmp_path, monkeypatch):
    """A node that stores its results in Orthanc and looks for earlier ones there."""
    site = tmp_path / "site"
    site.mkdir()
    for name, value in spots.install(site).items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(site))
    registry._installed.cache_clear()
    asked = asking(settings, orthanc.ae_title, orthanc.port)
    yield asked.model_copy(update={"complete": Complete(series_s=0.0, study_s=0.0)})
    registry._installed.cache_clear()
    registry._of_package.cache_clear()


@pytest.fixture
def worker(routed, ledger):
    running = Worker(routed, ledger, "worker-1")
    yield running
    running._inference.kill()


def analysed(routed, ledger, worker, images):
    """Receive, plan, analyse, deliver; the report and the segmentation of the job."""
    with listening(routed, ledger):
        assert all(answer.status == 0x0000 for answer in send(routed.listen.port, images))
    with ledger.write() as db:
        db.execute(update(association).values(seen_at=0.0))
    complete.run_once(routed.complete, ledger)
    assert plan.run_once(routed, ledger) == 1
    assert worker.run_next()
    deliver.run_once(routed, ledger)
    with ledger.read() as db:
        row = listing.jobs(db, 1)[0]
        made = {one.role: one for one in deliveries.artifacts_of(db, row["id"])}
    assert row["state"] == JobState.COMPLETED
    assert not list(routed.work_folder.iterdir())
    return (dcmread(routed.artifact_folder / made[role].path) for role in ("sr", "seg"))


def tracked(segmentation):
    return {one.SegmentLabel: one.TrackingUID for one in segmentation.SegmentSequence}


def measured(report, tracking_uid):
    """Concept value -> number, of the group that is tracked by a UID."""
    (group,) = [
        item
        for item in walk(report)
        if is_named(item, template_codes.MEASUREMENT_GROUP)
        and tracking_uid == children_named(item, template_codes.TRACKING_UID)[0].UID
    ]
    return {
        item.ConceptNameCodeSequence[0].CodeValue: float(item.MeasuredValueSequence[0].NumericValue)
        for item in group.ContentSequence
        if item.ValueType == "NUM"
    }


def words(report):
    return " ".join(str(item.get("TextValue", "")) for item in walk(report))


@pytest.mark.slow
def test_three_studies_of_one_patient(routed, ledger, worker, orthanc):
    def study(root, when, *args):
        images = series(root, when, *args)
        send(orthanc.port, images, called_ae=orthanc.ae_title)
        return analysed(routed, ledger, worker, images)

    report, segmentation = study("first", FIRST, balls(30.0, 26.0))
    first = tracked(segmentation)
    assert "No earlier result was found." in words(report)

    moved = Pose((3.0, -2.0, 6.0), (8.0, -5.0, 6.0))
    report, segmentation = study("second", SECOND, balls(30.0, 34.0), moved)
    # The larger is numbered first: it was the stable one, and is the grown one now.
    assert tracked(segmentation) == {"spot 1": first["spot 2"], "spot 2": first["spot 1"]}
    said = measured(report, first["spot 2"])
    change = said[codes.RELATIVE_VOLUME_CHANGE.value]
    assert 1 + change / 100 == pytest.approx(GROWTH, rel=0.15)  # in voxels of 0.2 mL
    assert said[codes.VOLUME_DOUBLING_TIME.value] == pytest.approx(
        DAYS[SECOND] * log(2) / log(1 + change / 100)
    )

    report, segmentation = study("third", THIRD, balls(0.0, 34.0))
    assert tracked(segmentation) == {"spot 1": first["spot 2"]}
    assert measured(report, first["spot 1"])[codes.TIME_SINCE_PRIOR.value] == DAYS[THIRD]
    assert "not found any more" in words(report)
    with ledger.read() as db:
        assert len(listing.jobs(db, 10)) == 3  # what was fetched is nobody's new study


def test_a_job_is_done_without_an_archive(routed, ledger, worker):
    away = routed.destinations["pacs"].model_copy(update={"port": free_port()})
    worker._settings = routed.model_copy(update={"destinations": {"pacs": away}})
    report, _ = analysed(routed, ledger, worker, series("first", FIRST))
    assert "could not be looked up: the archive did not answer" in words(report)
    assert "No earlier result" not in words(report)
