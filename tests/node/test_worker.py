"""The worker: a lease, a warm process, a gate, and every way in which a job may end."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import UID
from sqlalchemy import update

from node import complete, plan, publish
from node.domain import JobState, Outcome
from node.errors import LeaseLost
from node.settings import Complete, Route
from node.store import deliveries, events, jobs, listing
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
    registry._of_package.cache_clear()


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
    assert row["what"] == "A file of this study is gone."
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


def test_a_full_disk_makes_the_job_wait_without_costing_it_an_attempt(routed, ledger, worker):
    receive(routed, ledger, bright_spot.ct_series("full"))
    planned(routed, ledger)
    routed.artifact_folder.write_text("no folder: as if the disk refused it")
    for _ in range(jobs.MAXIMUM_ATTEMPTS + 1):
        worker.run_next()
        with ledger.write() as db:
            db.execute(update(job).values(next_attempt_at=0.0))
    (row,) = rows(ledger)
    assert (row["state"], row["attempts"]) == (JobState.SCHEDULED, 0)
    assert row["do"].startswith("Check the disk")
    with ledger.read() as db:
        told = [one.kind for one in events.of_study(db, row["study_uid"])]
    assert told.count("job_postponed") == 1
    routed.artifact_folder.unlink()
    worker.run_next()
    assert rows(ledger)[0]["state"] == JobState.COMPLETED


def test_a_worker_that_wakes_after_another_has_published_changes_no_byte(routed, ledger, worker):
    receive(routed, ledger, bright_spot.ct_series("zombie"))
    planned(routed, ledger)
    with ledger.write() as db:
        stale = jobs.claim(db, "zombie")
        assert stale
        db.execute(update(job).values(lease_until=0.0))
    worker.run_next()
    kept = routed.artifact_folder / stale.job.id
    published = {path.name: path.read_bytes() for path in kept.iterdir()}
    late = routed.work_folder / "late"
    late.mkdir(parents=True)
    for name in published:
        (late / name).write_bytes(b"other bytes")
    with pytest.raises(LeaseLost):
        publish.publish(
            ledger,
            stale,
            outcome=Outcome.FOUND,
            made={path.stem: path for path in late.iterdir()},
            sources=(),
            superseded=(),
            folder=routed.artifact_folder,
            send_to={},
            seconds={},
            tick=lambda: None,
        )
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == published


def test_what_a_killed_worker_left_is_swept_and_what_a_live_one_holds_is_not(
    routed, ledger, worker
):
    receive(routed, ledger, bright_spot.ct_series("left"))
    planned(routed, ledger)
    with ledger.write() as db:
        lease = jobs.claim(db, "another")
    held = routed.work_folder / f"{lease.job.id}-{lease.token}"
    left = routed.work_folder / f"{lease.job.id}-0123456789abcdef"
    for folder in (held, left):
        folder.mkdir(parents=True)
    worker._sweep()
    assert list(routed.work_folder.iterdir()) == [held]
    with ledger.write() as db:
        db.execute(update(job).values(lease_until=0.0))
    worker._drain()
    assert not list(routed.work_folder.iterdir())


def test_after_an_upgrade_waiting_jobs_are_planned_anew(routed, ledger, worker, monkeypatch):
    receive(routed, ledger, bright_spot.ct_series("upgrade"))
    with monkeypatch.context() as before:
        before.setattr(type(registry.get(bright_spot.NAME)), "version", "0.9.0")
        planned(routed, ledger)
    assert plan.plan_again(routed, ledger) == 1
    assert plan.run_once(routed, ledger) == 1
    worker.run_next()
    states = {row["pipeline_version"]: row["state"] for row in rows(ledger)}
    assert states == {"0.9.0": JobState.CANCELED, "1.0.0": JobState.COMPLETED}
    assert plan.plan_again(routed, ledger) == 0


def test_each_recording_of_a_series_is_a_job_of_its_own(settings, ledger):
    first = dcmread(str(get_testdata_file("waveform_ecg.dcm")))
    second = dcmread(str(get_testdata_file("waveform_ecg.dcm")))
    second.SOPInstanceUID = second.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    route = Route(match={"Modality": "ECG"}, run=("ecg-atrial-fibrillation",))
    here = settings.model_copy(
        update={"complete": Complete(series_s=0.0, study_s=0.0), "routes": (route,)}
    )
    receive(here, ledger, [first])
    assert planned(here, ledger) == 1
    receive(here, ledger, [second])
    assert planned(here, ledger) == 1
    judged = {row["sop_instance_uid"]: row for row in rows(ledger)}
    assert set(judged) == {str(first.SOPInstanceUID), "1.2.3.4"}
    assert {row["state"] for row in judged.values()} == {JobState.SCHEDULED}
    assert {row["supersedes"] for row in judged.values()} == {None}
