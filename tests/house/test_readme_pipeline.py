"""The pipeline in the README is a whole one: it runs, and its result passes the publish gate."""

from __future__ import annotations

import re
from copy import deepcopy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from pydicom import dcmread, examples
from pydicom.uid import generate_uid

from node.analyse import analyse
from node.domain import Outcome
from node.encode.work import Work
from node.publish_gate import verify
from pipelines.contract import Pipeline
from tests.peers import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def bright_spot() -> Any:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - the example, as a reader would run it
    return names["BrightSpot"]()


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    """Four slices, 5 mm apart, made from pydicom's one CT slice."""
    paths = []
    for number in range(4):
        slice_ = deepcopy(examples.ct)
        slice_.SOPInstanceUID = generate_uid(entropy_srcs=["bright-spot", str(number)])
        slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID
        slice_.InstanceNumber = number + 1
        slice_.ImagePositionPatient = [*slice_.ImagePositionPatient[:2], number * 5.0]
        slice_.SliceThickness = 5.0
        paths.append(tmp_path / f"{number}.dcm")
        slice_.save_as(paths[-1])
    return paths


def test_the_example_pipeline_finds_its_bright_spots(
    bright_spot: Any, series: list[Path], tmp_path: Path
) -> None:
    assert isinstance(bright_spot, Pipeline)
    work = Work(
        job_id="0" * 32,
        uid_parts=("readme",),
        pipeline=bright_spot.name,
        pipeline_version=bright_spot.version,
        title=bright_spot.title,
        report=bright_spot.report,
        model=bright_spot.model,
        parameters=bright_spot.parameters,
        analysed_at=datetime(2025, 1, 1, tzinfo=UTC),
        software_version="0",
    )
    analysis = analyse(bright_spot, {"": series}, work, tmp_path / "out")
    assert analysis.outcome is Outcome.FOUND
    made = [dcmread(path) for path in analysis.files.values()]
    verify(made, [dcmread(path, stop_before_pixels=True) for path in series])
