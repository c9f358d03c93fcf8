"""What people ask a running node on the command line.

On one database: what the verbs ask the ledger is tested on both in tests/node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from node.domain import DeliveryState, JobState, StudyState
from node.log import short
from tests.journeys.department import EVERYWHERE
from tests.peers import bright_spot

if TYPE_CHECKING:
    from tests.journeys.department import Department, Study

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("_department", ["sqlite-embedded"], indirect=True),
]


def test_every_list_tells_of_a_study_to_people_and_to_programs(
    department: Department, study: Study
):
    department.scan(study)
    department.wait_delivered(study)
    department.wait_idle()
    uid, name = study[0].StudyInstanceUID, short(study[0].StudyInstanceUID)
    (job,) = department.jobs(study)

    (listed,) = [row for row in department.say_json("studies") if row["study_uid"] == uid]
    assert listed["state"] == StudyState.COMPLETE
    assert (listed["series"], listed["instances"], listed["revision"]) == (1, len(study), 1)
    (line,) = [line for line in department.say("studies").splitlines() if name in line]
    assert StudyState.COMPLETE in line

    (listed,) = [row for row in department.say_json("jobs") if row["study_uid"] == uid]
    assert (listed["id"], listed["state"]) == (job["id"], JobState.COMPLETED)
    (line,) = [line for line in department.say("jobs").splitlines() if name in line]
    assert job["id"][:12] in line
    assert bright_spot.NAME in line

    sent = [row for row in department.say_json("deliveries") if row["job_id"] == job["id"]]
    assert sorted((row["role"], row["destination"]) for row in sent) == sorted(
        (role, place) for role in ("seg", "sr") for place in EVERYWHERE
    )
    lines = [line for line in department.say("deliveries").splitlines() if name in line]
    assert sum(DeliveryState.COMMITTED in line for line in lines) == 2
    assert sum(f" {DeliveryState.SENT} " in line for line in lines) == 4


def test_show_tells_the_whole_story_of_a_job_and_reads_its_report(
    department: Department, study: Study
):
    department.scan(study)
    department.wait_delivered(study)
    (job,) = department.jobs(study)
    shown = department.say_json("show", job["id"])
    assert shown["job"]["pipeline"] == bright_spot.NAME
    assert len(shown["deliveries"]) == 2 * len(EVERYWHERE)
    kinds = [event["kind"] for event in shown["events"]]
    told = ["series_complete", "job_scheduled", "job_started", "job_completed", "sent", "committed"]
    assert [kind for kind in dict.fromkeys(kinds) if kind in told] == told
    readable = department.say("show", job["id"][:12])
    assert "Imaging Measurement Report" in readable
    assert "Volume: 0.4 mL" in readable
    assert "not for primary diagnosis" in readable.lower()


def test_why_explains_a_study_that_was_taken(department: Department, study: Study):
    department.scan(study, "CT5")
    department.wait_delivered(study)
    (series,) = department.say_json("why", study[0].StudyInstanceUID)
    assert series["modality"] == "CT"
    taken = [one["route"] for one in series["decisions"] if one["taken"]]
    assert taken == ["emergency room", "emergency heads"]
    said = department.say("why", short(study[0].StudyInstanceUID))
    assert "emergency heads -> bright-spot-ct: yes" in said
    assert "holds  route wants BodyPartExamined = HEAD*; it is HEAD" in said
    assert "FAILS  route wants CallingAETitle = CT1; it is CT5" in said


def test_why_explains_a_study_that_no_route_takes(department: Department, study: Study):
    for image in study:
        image.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    department.scan(study)
    department.wait_idle()
    assert "no_route" in department.events(study)
    assert department.jobs(study) == []
    (series,) = department.say_json("why", short(study[0].StudyInstanceUID)[:6])
    assert not any(decision["taken"] for decision in series["decisions"])
    (decision,) = [one for one in series["decisions"] if one["route"] == "CT"]
    failed = [condition for condition in decision["conditions"] if not condition["holds"]]
    assert [(one["of"], one["keyword"]) for one in failed] == [("pipeline", "ImageType")]
    said = department.say("why", study[0].StudyInstanceUID)
    assert "CT -> bright-spot-ct: no" in said
    assert "FAILS  pipeline wants ImageType = ORIGINAL; it is AXIAL, DERIVED, SECONDARY" in said


@pytest.mark.parametrize("verb", ["why", "retry"])
def test_a_name_that_nothing_has_is_two_lines_and_a_failure(department: Department, verb: str):
    answer = department.node.ask(verb, "ffffffffffff")
    assert answer.returncode == 1
    what, do = answer.stderr.splitlines()
    assert what.startswith("radnode: No ")
    assert "lists them" in do
