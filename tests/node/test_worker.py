"""The worker: a lease, a warm process, a gate, and every way in which a job may end."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import update

from node import complete, plan
from node.domain import JobState, Outcome
from node.settings import Complete, Route
from node.store import deliveries, jobs, listing
from node.store.tables import association, job
from node.worker import Stopping, Worker
from pipelines import registry
from tests.node.receiving import listening
from tests.peers import bright_spot, wait_until
from tests.peers.scanner import send


@pytest.fixture
def routed(settings, tmp_path, monkeypatch):
    """Settings with a route for CTs, in an environment where its pipeline is installed."""
    site = tmp_path / "site"
    site.mkdir()
    for name, value in bright_spot.install(site).items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(site))
    registry._installed.cache_clear()
    yield settings.model_copy(
        update={
            "complete": Complete(series_s=0.0, study_s=0.0),
            "routes": (Route(match={"Modality": "CT"}, run=(bright_spot.NAME,)),),
        }
    )
    registry._installed.cache_clear()
    registry.get.cache_clear()


@pytest.fixture
def worker(routed, ledger):
    running = Worker(routed, ledger, "worker-1")
    yield running
    running._inference.kill()


def receive(routed, ledger, instances):
    """Send instances, and let the association be over."""
    with listening(routed, ledger):
        assert all(answer.status == 0x0000 for answer in send(routed.listen.port, instances))


def planned(routed, ledger):
    """Complete and plan what was received."""
    with ledger.write() as db:
        db.execute(update(association).values(seen_at=0.0))
    complete.run_once(routed.complete, ledger)
    return plan.run_once(routed, ledger)


def inference_pid(worker):
    return worker._inference._child.process.pid


def rows(ledger):
    with ledger.read() as db:
        return listing.jobs(db, 10)


def test_a_job_becomes_objects_on_disk_with_rows(routed, ledger, worker):
    receive(routed, ledger, bright_spot.ct_series("bright"))
    assert planned(routed, ledger) == 1
    assert worker.run_next()
    (row,) = rows(ledger)
    assert (row["state"], row["outcome"]) == (JobState.COMPLETED, Outcome.FOUND)
    with ledger.read() as db:
        made = deliveries.artifacts_of(db, row["id"])
    assert [one.role for one in made] == ["seg", "sr"]
    assert all((routed.artifact_folder / one.path).stat().st_size == one.size_bytes for one in made)
    assert not list(routed.work_folder.iterdir())
    assert not worker.run_next()


def test_the_inference_process_stays_warm_between_jobs(routed, ledger, worker):
    for root in ("one", "two"):
        receive(routed, ledger, bright_spot.ct_series(root))
        planned(routed, ledger)
    worker.run_next()
    warm = inference_pid(worker)
    worker.run_next()
    assert inference_pid(worker) == warm
    assert {row["state"] for row in rows(ledger)} == {JobState.COMPLETED}


def test_a_series_that_grew_before_its_job_began_is_left_to_the_next_revision(
    routed, ledger, worker
):
    series = bright_spot.ct_series("late")
    receive(routed, ledger, series[:-1])
    planned(routed, ledger)
    receive(routed, ledger, series[-1:])
    worker.run_next()
    (row,) = rows(ledger)
    assert row["state"] == JobState.CANCELED
    assert "late instance" in row["what"]
    assert planned(routed, ledger) == 1
    worker.run_next()
    states = {row["revision"]: row["state"] for row in rows(ledger)}
    assert states == {1: JobState.CANCELED, 2: JobState.COMPLETED}


def test_a_late_instance_after_the_result_makes_a_result_that_supersedes(routed, ledger, worker):
    series = bright_spot.ct_series("later")
    receive(routed, ledger, series[:-1])
    planned(routed, ledger)
    worker.run_next()
    receive(routed, ledger, series[-1:])
    planned(routed, ledger)
    worker.run_next()
    second, first = rows(ledger)
    assert second["supersedes"] == first["id"]
    with ledger.read() as db:
        reports = [deliveries.artifacts_of(db, row["id"])[-1] for row in (first, second)]
    assert reports[0].sop_instance_uid != reports[1].sop_instance_uid


def test_a_worker_that_is_stopped_gives_its_job_back_untried(routed, ledger, worker):
    receive(routed, ledger, bright_spot.ct_series("stopped"))
    planned(routed, ledger)

    def stop_once_started():
        wait_until(lambda: worker._inference._child, what="The start of the inference")
        worker._stop.set()

    thread = threading.Thread(target=stop_once_started)
    thread.start()
    with pytest.raises(Stopping):
        worker.run_next()
    thread.join()
    (row,) = rows(ledger)
    assert (row["state"], row["attempts"]) == (JobState.SCHEDULED, 0)


def test_a_job_for_another_version_of_its_pipeline_is_not_guessed_at(routed, ledger, worker):
    receive(routed, ledger, bright_spot.ct_series("old"))
    planned(routed, ledger)
    with ledger.write() as db:
        db.execute(update(job).values(pipeline_version="0.9.0"))
    worker.run_next()
    (row,) = rows(ledger)
    assert row["state"] == JobState.SCHEDULED
    assert row["what"] == ("The job was planned for bright-spot-ct 0.9.0, this worker has 1.0.0.")


def test_a_missing_spool_file_ends_with_a_person_and_no_result(routed, ledger, worker):
    receive(routed, ledger, bright_spot.ct_series("gone"))
    planned(routed, ledger)
    for path in routed.spool_folder.rglob("*.dcm"):
        path.unlink()
    for _ in range(jobs.MAXIMUM_ATTEMPTS):
        worker.run_next()
        with ledger.write() as db:
            db.execute(update(job).values(next_attempt_at=0.0))
    (row,) = rows(ledger)
    assert row["state"] == JobState.QUARANTINED
    assert row["what"].startswith("It failed: FileNotFoundError")
    assert not list(routed.artifact_folder.rglob("*.dcm"))


def test_a_killed_inference_process_is_replaced_by_the_next_job(routed, ledger, worker):
    for root in ("one", "two"):
        receive(routed, ledger, bright_spot.ct_series(root))
        planned(routed, ledger)
    worker.run_next()
    worker._inference._child.process.kill()
    worker._inference._child.process.wait()
    worker.run_next()
    assert {row["state"] for row in rows(ledger)} == {JobState.COMPLETED}


def test_nothing_of_the_worker_names_the_patient(routed, ledger, worker, capfd):
    series = bright_spot.ct_series("canary")
    for one in series:
        one.PatientName, one.PatientID = "Canary^Secret", "CANARY-4711"
    receive(routed, ledger, series)
    planned(routed, ledger)
    worker.run_next()
    said = "".join(capfd.readouterr())
    assert "Canary" not in said
    assert "CANARY" not in said
    assert not [p for p in Path(routed.data).rglob("*") if "CANARY" in p.name.upper()]
