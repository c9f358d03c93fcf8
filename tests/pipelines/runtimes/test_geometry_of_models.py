"""Whatever way a patient was scanned, a model's answer lies where the patient's lesion is."""

from __future__ import annotations

import pytest

from pipelines.runtimes import load
from tests.pipelines.runtimes import balls


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return load(balls.write_onnx(tmp_path_factory.mktemp("balls")))


@pytest.mark.parametrize("mirrored", [False, True], ids=["", "mirrored"])
@pytest.mark.parametrize("plane", balls.PLANES)
def test_segments_lie_on_the_balls_whatever_the_plane(pipeline, plane, mirrored):
    where = balls.grid(balls.PLANES[plane])
    balls.assert_sees_both_balls(pipeline, where, mirrored=mirrored)


@pytest.mark.parametrize(
    "spacing_mm", [(2.0, 2.0, 2.0), (4.0, 1.0, 1.0), (1.0, 1.3, 2.1), (3.0, 2.0, 1.0)]
)
@pytest.mark.parametrize("turn_degrees", [0.0, 20.0])
def test_segments_lie_on_the_balls_whatever_the_voxels(pipeline, spacing_mm, turn_degrees):
    where = balls.grid(balls.AXIAL, spacing_mm, turn_degrees=turn_degrees)
    balls.assert_sees_both_balls(pipeline, where)
