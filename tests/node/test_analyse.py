"""From files to result objects: what a job says of itself, and what it says of damaged files."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from node.analyse import analyse, outcome_of
from node.domain import Outcome
from node.errors import UnreadableSeries
from node.load.source import read_headers
from node.publish_gate import verify
from pipelines import codes
from pipelines.contract import CouldNotLook, DerivedImages, Finding, Presence, Result
from sr_templates.could_not_look import NOT_ANALYSED
from sr_templates.text import as_text
from tests.peers.bright_spot import ct_series
from tests.sr_templates import made

PRESENT = Finding(codes.NODULE)
ABSENT = Finding(codes.NODULE, Presence.ABSENT)
UNDECIDED = Finding(codes.NODULE, Presence.INDETERMINATE)
NORMAL = Finding(codes.BRAIN, normal=True)
(OUTLINE,) = made.outlined().segments
MADE = DerivedImages("Smooth", codes.OPACITY, "Made smooth.", np.zeros(made.SHAPE, np.float32))
EMPTY = replace(OUTLINE, mask=made.mask(4, 4))


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (Result(), Outcome.NOTHING_FOUND),
        (Result((PRESENT,)), Outcome.FOUND),
        (Result((ABSENT,)), Outcome.NOTHING_FOUND),
        (Result((UNDECIDED,)), Outcome.FOUND),
        (Result((ABSENT, NORMAL)), Outcome.NOTHING_FOUND),
        (Result((PRESENT, NORMAL)), Outcome.FOUND),
        (Result((replace(NORMAL, presence=Presence.INDETERMINATE),)), Outcome.FOUND),
        (Result(segments=(OUTLINE,)), Outcome.FOUND),
        (Result((ABSENT,), (OUTLINE,)), Outcome.FOUND),
        (Result(segments=(EMPTY,)), Outcome.NOTHING_FOUND),
        (Result((replace(NORMAL, segment="Brain"),), (OUTLINE,)), Outcome.NOTHING_FOUND),
        (Result((NORMAL,), images=(MADE,)), Outcome.PROCESSED),
        (Result((PRESENT,), images=(MADE,)), Outcome.FOUND),
    ],
    ids=[
        "nothing said",
        "present",
        "absent",
        "undecided",
        "absent and normal",
        "present and normal",
        "undecided whether normal",
        "outlined without a finding",
        "outlined beside an absent finding",
        "nothing outlined",
        "a normal organ outlined",
        "images made",
        "found, and images made",
    ],
)
def test_a_job_has_found_something_unless_all_is_absent_or_normal(result, outcome):
    assert outcome_of(result) is outcome


class Answers:
    """A pipeline that says what it is told to."""

    def __init__(self, answer):
        self.answer = answer

    def run(self, _study):
        if isinstance(self.answer, CouldNotLook):
            raise self.answer
        return self.answer


def analysed(answer, paths, folder):
    """Analyse with a pipeline that says ``answer``."""
    pipeline: Any = Answers(answer)
    return analyse(pipeline, {"": paths}, made.work(), folder / "out")


@pytest.fixture
def paths(tmp_path):
    written = []
    for number, image in enumerate(ct_series("analyse")):
        written.append(tmp_path / f"{number}.dcm")
        image.save_as(written[-1], enforce_file_format=True)
    return written


def test_a_result_has_the_seconds_of_every_stage(paths, tmp_path):
    analysis = analysed(Result(), paths, tmp_path)
    assert analysis.outcome is Outcome.NOTHING_FOUND
    assert list(analysis.files) == ["sr"]
    assert list(analysis.seconds) == ["load", "model", "encode"]
    assert all(seconds > 0.0 for seconds in analysis.seconds.values())


def test_a_refusal_of_the_model_has_the_seconds_of_every_stage(paths, tmp_path):
    analysis = analysed(CouldNotLook("Too noisy."), paths, tmp_path)
    assert analysis.outcome is Outcome.COULD_NOT_LOOK
    assert all(seconds > 0.0 for seconds in analysis.seconds.values())


def test_a_model_that_never_ran_took_no_time(paths, tmp_path):
    paths[2].unlink()
    analysis = analysed(Result(), paths[:2] + paths[3:], tmp_path)
    assert analysis.outcome is Outcome.COULD_NOT_LOOK
    assert analysis.seconds["load"] > 0.0
    assert analysis.seconds["model"] == 0.0


@pytest.mark.parametrize("left", [0, 100], ids=lambda left: f"{left} bytes left")
def test_a_damaged_file_ends_in_a_report_that_the_study_was_not_analysed(paths, tmp_path, left):
    paths[3].write_bytes(paths[3].read_bytes()[:left])
    analysis = analysed(Result(), paths, tmp_path)
    assert analysis.outcome is Outcome.COULD_NOT_LOOK
    report = dcmread(analysis.files["sr"])
    said = as_text(report)
    assert NOT_ANALYSED in said
    assert "damaged" in said
    verify([report], read_headers(paths[:3] + paths[4:]))


def test_where_no_file_can_be_read_there_is_nobody_to_report_on(paths, tmp_path):
    for path in paths:
        path.write_bytes(b"gone")
    with pytest.raises(UnreadableSeries, match="None of the 6 files"):
        analysed(Result(), paths, tmp_path)
