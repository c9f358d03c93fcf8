"""A study of several series goes the whole way: what waits, what is said aloud, what replaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from node.domain import JobState, Outcome, Priority
from sr_templates.could_not_look import NOT_ANALYSED
from sr_templates.text import as_text
from tests.journeys.department import COMMITTING, FOLDER, data_set_bytes, dcmread_bytes
from tests.peers import two_series, wait_until
from tests.peers.validators import complaints_about

if TYPE_CHECKING:
    from pathlib import Path

    from tests.journeys.department import Department, Study

pytestmark = pytest.mark.slow


@pytest.fixture
def native(root: str) -> Study:
    return two_series.series(root, "NATIVE", 2)


@pytest.fixture
def contrast(root: str) -> Study:
    return two_series.series(root, "CONTRAST arterial", 3)


@pytest.mark.parametrize("native_first", [True, False])
def test_two_series_on_two_associations_come_back_as_one_valid_result(
    department: Department, native: Study, contrast: Study, tmp_path: Path, native_first: bool
):
    for series in (native, contrast) if native_first else (contrast, native):
        department.scan(series, calling_ae="CT6")
    department.wait_delivered(native)
    (job,) = department.jobs(native)
    assert (job["outcome"], job["priority"]) == (Outcome.FOUND, Priority.STAT)
    results = department.results(native)
    assert sorted(results) == ["SEG", "SR"]
    (drawn_on,) = results["SEG"].ReferencedSeriesSequence
    assert drawn_on.SeriesInstanceUID == contrast[0].SeriesInstanceUID
    held = [department.held(native, place) for place in (COMMITTING, FOLDER)]
    assert {uid: data_set_bytes(file) for uid, file in held[0].items()} == {
        uid: data_set_bytes(file) for uid, file in held[1].items()
    }
    for uid, content in held[0].items():
        (tmp_path / f"{uid}.dcm").write_bytes(content)
    assert complaints_about([tmp_path / f"{uid}.dcm" for uid in held[0]]) == {}


def test_a_series_that_never_comes_is_said_aloud_and_a_late_one_replaces_that(
    department: Department, native: Study, contrast: Study
):
    department.scan(native, calling_ae="CT6")
    wait_until(lambda: "input_awaited" in department.events(native), what="The wait for the other")
    assert department.jobs(native) == []
    department.wait_delivered(native)
    (refused,) = department.jobs(native)
    assert refused["outcome"] == Outcome.COULD_NOT_LOOK
    (report,) = department.results(native).values()
    assert f"{NOT_ANALYSED} No CONTRAST series came" in as_text(report)
    department.scan(contrast, calling_ae="CT6")
    department.wait_job(native, JobState.COMPLETED, number=2)
    department.wait_delivered(native, jobs=2)
    _, found = department.jobs(native)
    assert (found["outcome"], found["supersedes"]) == (Outcome.FOUND, refused["id"])
    held = [dcmread_bytes(one) for one in department.held(native, COMMITTING).values()]
    assert sorted(str(one.Modality) for one in held) == ["SEG", "SR", "SR"]
    assert "contrast" in department.say("why", str(native[0].StudyInstanceUID))
