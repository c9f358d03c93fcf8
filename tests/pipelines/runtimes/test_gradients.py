"""A site's classifier in torch shows what it rests on by its gradients."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.contract import Images
from pipelines.explain.explained import Explained
from tests.pipelines.runtimes.scripted import mean_brightness, pipeline

SECTIONS = """
[input]
match = {{ Modality = "US" }}
view = "images"
window = [0, 100]
[model]
[output]
activation = "none"
pool = "{pool}"
threshold = 0.2
"""


@pytest.mark.parametrize(("pool", "frames"), [("max", [2]), ("mean", [1, 2])])
def test_every_pixel_of_the_frames_that_count_adds_its_brightness(tmp_path, pool, frames):
    values = np.zeros((4, 8, 8), np.float32)
    values[1, :4], values[2] = 60.0, 90.0
    made = pipeline(tmp_path, mean_brightness(), "classification", SECTIONS.format(pool=pool))
    result = Explained(made, "gradient").run(Images(values))
    (shown,) = result.maps
    assert [index for index in range(4) if shown.values[index].any()] == frames
    assert shown.values[2] == pytest.approx(np.full((8, 8), 0.9 / 64), abs=1e-5)
    assert any("by integrated gradients" in note for note in result.notes)


def test_a_classifier_explained_by_hiding_shows_the_same_place(tmp_path):
    values = np.zeros((1, 64, 64), np.float32)
    values[0, 40:48, 8:16] = 100.0
    sections = SECTIONS.format(pool="max").replace("0.2", "0.01")
    made = pipeline(tmp_path, mean_brightness(), "classification", sections)
    hidden, gradients = (
        Explained(made, method).run(Images(values)).maps[0].values
        for method in ("occlusion", "gradient")
    )
    assert np.count_nonzero(hidden) == np.count_nonzero(gradients > 1e-6) == 64
