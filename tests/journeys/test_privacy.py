"""Patients are in the spool and in the results, and nowhere else.

Each text element that there is holds a canary, in every image: a name that is found by searching.
"""

from __future__ import annotations

import base64
import re
from copy import deepcopy
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from node.domain import DeliveryState, JobState
from node.store.tables import metadata
from tests.journeys.department import SCRIPTED, study_uid
from tests.node.canaries import CANARY as NAME
from tests.node.canaries import plant
from tests.peers import REPOSITORY, bright_spot, wait_until
from tests.peers.pacs import Script
from tests.peers.scanner import send

if TYPE_CHECKING:
    from pathlib import Path

    from tests.journeys.department import Department, Study

pytestmark = pytest.mark.slow

IDENTITY = {
    "PatientName": "Canary^Yellow",
    "PatientID": "CANARY4711",
    "PatientBirthDate": "19010203",
    "OtherPatientIDs": "CANARY4712",
    "AccessionNumber": "CANARY4713",
    "StudyID": "CANARY4714",
    "ReferringPhysicianName": "Canary^Referring",
    "StudyDescription": "canary study",
    "SeriesDescription": "canary series",
    "ImageComments": "canary comment",
}
CANARY = re.compile(rb"canary|19010203", re.IGNORECASE)


def canaries(root: str, number: int = 6) -> Study:
    """Return a CT that names a patient wherever a scanner may, and wherever none would."""
    study = bright_spot.ct_series(root, number)
    for image in study:
        plant(image)
        for keyword, value in IDENTITY.items():
            setattr(image, keyword, value)
    return study


def everywhere(folder: Path) -> list[Path]:
    """Return every file in a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


def legible(content: bytes) -> bytes:
    """Return bytes with what is Base64 in them also read: Celery's messages are."""
    encoded = re.findall(rb"[A-Za-z0-9+/]{16,}={0,2}", content)
    return content + b"".join(base64.b64decode(one[: len(one) // 4 * 4]) for one in encoded)


def said_in(path: Path) -> bool:
    """Whether a file names the patient, as text or in Base64."""
    try:
        return CANARY.search(legible(path.read_bytes())) is not None
    except FileNotFoundError:  # gone since it was listed
        return False


@pytest.fixture(scope="module")
def travelled(_department: Department) -> list[Study]:
    """Studies of one patient that met every fate there is."""
    department = _department
    found, gappy, refused, quarantined, unrouted = (canaries(f"patient {n}") for n in range(5))
    del gappy[2]
    department.pacs.script = Script(store=("0xA900", "0xC000"))
    department.scan(refused, "CT2")
    wait_until(
        lambda: department.states(refused, SCRIPTED) == [DeliveryState.REFUSED] * 2,
        timeout_s=60.0,
        what="The refusal",
    )
    department.scan(found)
    department.scan(gappy)
    department.scan(quarantined, "CT4")
    department.scan(unrouted, "CT9")
    conflicting, malformed = deepcopy(found[0]), deepcopy(found[1])
    conflicting.ImageComments = "another canary comment"
    del malformed.StudyInstanceUID
    answers = send(department.port, [conflicting, malformed])
    assert all(answer.status != 0x0000 for answer in answers)
    assert not any(CANARY.search(answer.comment.encode()) for answer in answers)
    department.wait_delivered(found)
    department.wait_delivered(gappy)
    department.wait_job(quarantined, JobState.QUARANTINED)
    department.wait_idle()
    return [found, gappy, refused, quarantined, unrouted]


def test_a_patient_is_named_in_the_spool_and_in_the_results_and_nowhere_else(
    department: Department, travelled: list[Study]
):
    settings = department.node.settings
    allowed = (settings.spool_folder, settings.artifact_folder)
    for folder in allowed:
        assert any(CANARY.search(path.read_bytes()) for path in everywhere(folder))
    received = b"".join(path.read_bytes() for path in everywhere(settings.spool_folder))
    assert len(set(re.findall(NAME.encode() + rb"\d+", received))) >= 500
    suspects = [
        path
        for path in everywhere(settings.data) + everywhere(department.broker)
        if not any(path.is_relative_to(folder) for folder in allowed)
    ]
    suspects.append(settings.data.parent / "node.log")
    assert [path for path in suspects if said_in(path)] == []
    assert everywhere(settings.work_folder) == []
    assert [path for path in everywhere(department.temporary) if said_in(path)] == []
    assert list(REPOSITORY.glob("core*")) == []
    assert not any(CANARY.search(str(path).encode()) for path in everywhere(settings.data))


def test_the_broker_hears_of_jobs_and_of_nothing_else(
    department: Department, travelled: list[Study]
):
    written = b"".join(legible(path.read_bytes()) for path in everywhere(department.broker))
    for study in travelled:
        assert study_uid(study).encode() not in written
    assert department.jobs(travelled[0])[0]["id"].encode() in written


def test_no_row_of_the_ledger_names_a_patient(department: Department, travelled: list[Study]):
    with department.ledger.read() as db:
        rows = [
            (table.name, row)
            for table in metadata.sorted_tables
            for row in db.execute(select(table))
        ]
    assert {"study", "job", "event", "delivery"} <= {name for name, _ in rows}
    assert [name for name, row in rows if CANARY.search(repr(row).encode())] == []


def test_logs_speak_of_studies_by_their_short_names(department: Department, travelled: list[Study]):
    logs = everywhere(department.node.settings.log_folder)
    said = b"".join(path.read_bytes() for path in logs)
    events = ("association_ended", "series_complete", "job_completed", "refused", "job_failed")
    assert [name for name in events if name.encode() not in said] == []
    for study in travelled:
        assert study_uid(study).encode() not in said
        assert str(study[0].SOPInstanceUID).encode() not in said
