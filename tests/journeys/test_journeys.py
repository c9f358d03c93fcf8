"""Studies travel the whole way: from a scanner, through every room, to every kind of PACS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import Comprehensive3DSRStorage, EnhancedSRStorage

from node.domain import DeliveryState, JobState, Outcome, Priority
from node.uids import derived_uid
from sr_templates.text import as_text
from tests.journeys.department import (
    COMMITTING,
    EVERYWHERE,
    FOLDER,
    SCRIPTED,
    SILENT,
    data_set_bytes,
)
from tests.peers import bright_spot, dcmtk
from tests.peers.validators import complaints_about

if TYPE_CHECKING:
    from pathlib import Path

    from tests.journeys.department import Department, Study

pytestmark = pytest.mark.slow


def electrocardiogram(root: str) -> Study:
    """Return pydicom's ECG as a study that nobody has seen."""
    dataset = dcmread(str(get_testdata_file("waveform_ecg.dcm")))
    dataset.StudyInstanceUID = derived_uid(root, "study")
    dataset.SeriesInstanceUID = derived_uid(root, "series")
    dataset.SOPInstanceUID = derived_uid(root, "instance")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return [dataset]


@pytest.mark.parametrize("send", [dcmtk.storescu, dcmtk.dcmsend], ids=["storescu", "dcmsend"])
@pytest.mark.parametrize(
    ("make", "kinds"),
    [(bright_spot.ct_series, ["SEG", "SR"]), (electrocardiogram, ["SR"])],
    ids=["ct", "ecg"],
)
def test_a_study_sent_with_dcmtk_comes_back_valid_and_the_same_everywhere(
    department: Department, root: str, tmp_path: Path, send, make, kinds
):
    study = make(root)
    for number, instance in enumerate(study):
        instance.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    sent = send(department.port, [tmp_path])
    assert sent.returncode == 0, sent.stderr
    department.wait_delivered(study)
    assert set(department.states(study, COMMITTING)) == {DeliveryState.COMMITTED}
    assert set(department.states(study, SILENT)) == {DeliveryState.SENT}
    assert sorted(department.results(study)) == kinds
    held = [
        {uid: data_set_bytes(file) for uid, file in department.held(study, place).items()}
        for place in EVERYWHERE
    ]
    assert held[0] == held[1] == held[2]
    copies = [tmp_path / f"{uid}.dcm" for uid in held[0]]
    for path, content in zip(copies, department.held(study, COMMITTING).values(), strict=True):
        path.write_bytes(content)
    assert complaints_about(copies) == {}


def test_a_late_slice_makes_a_new_result_that_names_the_first_and_leaves_it(
    department: Department, study: Study
):
    department.scan(study[:-1])
    department.wait_delivered(study)
    early = department.results(study)
    stored = department.held(study, COMMITTING)
    department.scan(study[-1:])
    department.wait_delivered(study, jobs=2)
    first, second = department.jobs(study)
    assert second["supersedes"] == first["id"]
    assert (first["revision"], second["revision"]) == (1, 2)
    held = department.held(study, COMMITTING)
    assert held.items() >= stored.items()
    assert len(held) == 4
    late = {
        str(one.Modality): one
        for one in department.orthanc.datasets(StudyInstanceUID=study[0].StudyInstanceUID)
        if one.SOPInstanceUID not in stored
    }
    assert sorted(late) == ["SEG", "SR"]
    (predecessor,) = late["SR"].PredecessorDocumentsSequence
    (series,) = predecessor.ReferencedSeriesSequence
    (report,) = series.ReferencedSOPSequence
    assert report.ReferencedSOPInstanceUID == early["SR"].SOPInstanceUID
    assert series.SeriesInstanceUID == early["SR"].SeriesInstanceUID
    assert "PredecessorDocumentsSequence" not in early["SR"]
    for kind in ("SEG", "SR"):
        assert late[kind].SeriesInstanceUID != early[kind].SeriesInstanceUID


def test_our_own_results_sent_back_by_the_pacs_start_nothing(department: Department, study: Study):
    department.scan(study)
    department.wait_delivered(study)
    department.wait_idle()
    jobs, row = department.jobs(study), department.study_row(study)
    results = department.orthanc.find(StudyInstanceUID=study[0].StudyInstanceUID)
    department.orthanc.send("RADNODE", results)
    assert department.events(study).count("own_result_returned") == len(results) == 2
    # Whatever were planned for the results would be planned before this.
    later = bright_spot.ct_series(f"later {study[0].PatientID}", spot=False)
    department.scan(later)
    department.wait_job(later, JobState.COMPLETED)
    assert department.jobs(study) == jobs
    assert department.study_row(study) == row
    assert len(department.series_rows(study)) == 1


def test_could_not_look_is_not_nothing_found(department: Department, root: str, tmp_path: Path):
    complete = bright_spot.ct_series(root, spot=False)
    gappy = bright_spot.ct_series(f"{root} gap")
    del gappy[2]
    department.scan(complete)
    department.scan(gappy)
    department.wait_delivered(complete)
    department.wait_delivered(gappy)
    assert department.jobs(complete)[0]["outcome"] == Outcome.NOTHING_FOUND
    assert department.jobs(gappy)[0]["outcome"] == Outcome.COULD_NOT_LOOK
    looked, could_not = department.results(complete), department.results(gappy)
    assert list(looked) == list(could_not) == ["SR"]
    assert looked["SR"].SOPClassUID == Comprehensive3DSRStorage
    assert could_not["SR"].SOPClassUID == EnhancedSRStorage
    readable = as_text(looked["SR"])
    assert "No voxel above 300 HU." in readable
    assert "Absent" in readable
    assert "NOT ANALYSED" not in readable
    reason = as_text(could_not["SR"])
    assert "NOT ANALYSED. This is not a negative result" in reason
    assert "1 of 6 slices are missing" in reason
    assert "Absent" not in reason
    files = []
    for number, report in enumerate((looked["SR"], could_not["SR"])):
        files.append(tmp_path / f"{number}.dcm")
        report.save_as(files[-1])
    assert complaints_about(files) == {}


def test_two_routes_that_match_make_one_job_for_the_destinations_of_both(
    department: Department, study: Study
):
    department.scan(study, "CT5")
    department.wait_delivered(study)
    (job,) = department.jobs(study)
    assert job["priority"] == Priority.STAT
    planned = sorted((row["destination"], row["role"]) for row in department.deliveries(study))
    assert planned == [(FOLDER, "seg"), (FOLDER, "sr"), (SCRIPTED, "seg"), (SCRIPTED, "sr")]
    assert department.results(study, FOLDER).keys() == {"SEG", "SR"}
    assert department.held(study, FOLDER).keys() == department.held(study, SCRIPTED).keys()


def test_stat_goes_before_routine_that_waited_longer(department: Department, root: str):
    blocking, routine, stat = (bright_spot.ct_series(f"{root}{n}") for n in range(3))
    department.scan(blocking, "CT3")
    department.wait_job(blocking, JobState.IN_PROGRESS)
    department.scan(routine, "CT2")
    department.wait_job(routine, JobState.SCHEDULED)
    department.scan(stat, "CT5")
    department.wait_job(stat, JobState.SCHEDULED)
    department.gate.write_bytes(b"")
    department.wait_delivered(routine)
    department.wait_delivered(stat)
    (first,), (second,) = department.jobs(stat), department.jobs(routine)
    assert first["started_at"] < second["started_at"]
    assert first["planned_at"] > second["planned_at"]


def test_a_result_that_contradicts_itself_goes_to_a_person_and_nowhere_else(
    department: Department, study: Study
):
    department.scan(study, "CT4")
    job = department.wait_job(study, JobState.QUARANTINED)
    assert "The report says 0.8 mL for segment 1; its voxels make 0.4 mL." in job["what"]
    assert job["do"]
    assert "job_quarantined" in department.events(study)
    department.wait_idle()
    assert department.deliveries(study) == []
    for place in (FOLDER, SCRIPTED):
        assert department.held(study, place) == {}
    said = department.say("jobs", "--state", "quarantined")
    assert job["id"][:12] in said
