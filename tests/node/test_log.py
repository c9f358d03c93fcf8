"""Logs say what happened, and never to whom."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from node.log import places, short
from tests.peers import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

PATIENT = "Doe^Jane"

PROGRAM = """
import logging, sys, threading, warnings
from pathlib import Path
from node import log

log.configure("relay", Path(sys.argv[1]))
logger = log.get_logger("node.test")
patient = "Doe^" + "Jane"
"""


def events_of(program: str, folder: Path) -> list[dict[str, Any]]:
    """Run ``program`` after ``PROGRAM`` in a process of its own; what it logged to its file."""
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM + program, folder],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert PATIENT not in finished.stdout + finished.stderr
    lines = (folder / "relay.log").read_text().splitlines()
    assert len(finished.stderr.splitlines()) == len(lines)
    return [json.loads(line) for line in lines]


def test_an_event_has_a_word_a_time_a_role_and_fields(tmp_path: Path) -> None:
    (event,) = events_of("logger.info('sent', destination='pacs', status=0)", tmp_path)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "sent",
        "level": "info",
        "role": "relay",
        "destination": "pacs",
        "status": 0,
    }


def test_an_event_of_a_thread_has_its_role_too(tmp_path: Path) -> None:
    (event,) = events_of("threading.Thread(target=lambda: logger.info('sent')).start()", tmp_path)
    assert event["role"] == "relay"


@pytest.mark.parametrize(
    "logging_it",
    [
        "logger.exception('failed')",
        "logger.error('failed', exc_info=True)",
        "logger.error('failed', exc_info=error)",
    ],
)
def test_an_error_is_logged_by_type_and_place_without_its_message(
    tmp_path: Path, logging_it: str
) -> None:
    program = f"""
try:
    int(patient)
except ValueError as error:
    {logging_it}
"""
    (event,) = events_of(program, tmp_path)
    assert (event["event"], event["error"]) == ("failed", "ValueError")
    assert event["at"] == ["<string>:11"]


def test_an_error_of_a_library_does_not_quote_what_it_was_working_on(tmp_path: Path) -> None:
    """A library may log what it caught with the message as the event."""
    program = """
try:
    raise ValueError(f"Bad value {patient}")
except ValueError as error:
    logging.getLogger("sqlalchemy.pool").exception(error)
"""
    (event,) = events_of(program, tmp_path)
    assert (event["event"], event["error"]) == ("sqlalchemy.pool failed", "ValueError")


@pytest.mark.parametrize(
    "program",
    [
        "raise ValueError(patient)",
        "def fail():\n    raise ValueError(patient)\nthreading.Thread(target=fail).start()",
    ],
)
def test_an_error_that_nobody_catches_is_an_event(tmp_path: Path, program: str) -> None:
    (event,) = events_of(program, tmp_path)
    assert (event["event"], event["level"], event["error"]) == ("crashed", "critical", "ValueError")


def test_what_libraries_say_in_passing_is_not_logged(tmp_path: Path) -> None:
    program = """
for name in ("pynetdicom.assoc", "pydicom", "celery.worker", "kombu"):
    logging.getLogger(name).info(patient)
warnings.warn(patient, DeprecationWarning)
"""
    assert events_of(program, tmp_path) == []


def test_a_warning_is_told_by_kind_and_place_once_and_never_by_its_words(tmp_path: Path) -> None:
    """pydicom quotes the value: ``Invalid value for VR UI: '...'``."""
    program = """
from pydicom import Dataset, config
for number in range(3):
    data_set = Dataset()
    data_set.StudyInstanceUID = patient + str(number)
    data_set.PatientBirthDate = patient + str(number)
"""
    events = events_of(program, tmp_path)
    assert {event["event"] for event in events} == {"warned"}
    places_told = [(event["kind"], event["at"]) for event in events]
    assert len(places_told) == len(set(places_told)) > 0


@pytest.mark.parametrize("logger", ["pydicom", "pynetdicom.events"])
def test_dicom_libraries_do_not_log_the_values_they_cannot_read(
    tmp_path: Path, logger: str
) -> None:
    program = f"""
import pydicom, pynetdicom  # set their own levels
log.configure("relay", Path(sys.argv[1]))
logging.getLogger({logger!r}).error("Bad value " + patient)
"""
    assert events_of(program, tmp_path) == []


def test_a_uid_is_logged_in_a_form_that_does_not_lead_back() -> None:
    assert short("1.2.840.113619.2") == short("1.2.840.113619.2")
    assert short("1.2.840.113619.2") != short("1.2.840.113619.3")
    assert len(short("1.2.3")) == 12
    assert int(short("1.2.3"), 16) >= 0


def test_places_lead_from_the_outermost_call_inwards() -> None:
    def fail() -> None:
        raise ValueError(PATIENT)

    try:
        fail()
    except ValueError as error:
        found = places(error)
    assert len(found) == 2
    assert all(place.startswith("test_log.py:") for place in found)
