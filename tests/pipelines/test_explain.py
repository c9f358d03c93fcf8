"""What a pipeline looked at: hiding it changes the answer, hiding anything else does not."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from node.load.waveform import load_waveform
from pipelines.codes import MORPHOLOGICALLY_ABNORMAL, NODULE
from pipelines.contract import (
    Channel,
    Code,
    CouldNotLook,
    Finding,
    Grid,
    Images,
    Model,
    MultiplexGroup,
    Presence,
    Result,
    Segment,
    Volume,
    Waveform,
)
from pipelines.ecg_atrial_fibrillation.pipeline import EcgAtrialFibrillation
from pipelines.explain.codes import SALIENCY
from pipelines.explain.explained import MOST_CHARTS, Explained, explained, method_in
from pipelines.explain.gradients import integrated_gradients
from pipelines.explain.occlusion import MOST_RUNS, occlusion
from pipelines.explain.patches import divisions, patches
from pipelines.explain.question import question
from pipelines.registry import is_study_pipeline
from tests.peers import ecg

AXES = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
SPOT = (slice(2, 4), slice(20, 24), slice(4, 8))
CLINIC = Code("1", "99TEST", "Spike")


class Threshold:
    """Sees anything brighter than 300, and counts how often it is asked."""

    name, version, title, report = "threshold", "1", "Threshold", "measurement_report"
    model = Model("threshold", "1", "tests", "0" * 64, "nothing")
    parameters: ClassVar = {"threshold": "300"}
    input: ClassVar = {"Modality": "CT"}
    deadline_s = 2.0

    def __init__(self):
        self.runs = 0

    def warm_up(self):
        pass

    def run(self, study):
        self.runs += 1
        if isinstance(study, Waveform):
            peak = max(float(np.nanmax(one.samples)) for one in study.groups)
            there = Presence.PRESENT if peak > 5.0 else Presence.ABSENT
            sure = 0.8 if peak > 5.0 else 0.9
            return Result((Finding(CLINIC, there, confidence=sure),))
        values = study.voxels if isinstance(study, Volume) else study.frames
        mask = values > 300
        if mask.ndim == 4:
            mask = mask.any(axis=3)
        if not mask.any():
            return Result()
        spot = Segment("spot", MORPHOLOGICALLY_ABNORMAL, NODULE, mask)
        return Result((Finding(NODULE, segment="spot"),), (spot,))


def volume(shape=(8, 32, 32), spacing=(4.0, 1.0, 1.0), spot=SPOT, first_mm=0.0):
    voxels = np.random.default_rng(0).normal(40.0, 10.0, shape).astype(np.float32)
    voxels[spot] = 1000.0
    return Volume(voxels, Grid(shape, (0.0, 0.0, first_mm), AXES, spacing))


def recording(spike_s=6.2):
    samples = np.zeros((2, 5000), np.float32)
    samples[1, int(spike_s * 500)] = 10.0
    lead = Channel(CLINIC, "II", "mV")
    group = MultiplexGroup(1, 500.0, (lead, lead), samples)
    median = MultiplexGroup(2, 500.0, (lead,), np.ones((1, 500), np.float32), original=False)
    return Waveform((group, median))


def strip_of(recorded):
    return load_waveform(ecg.waveform_object(recorded)).study


def test_the_map_shows_the_spot_that_the_pipeline_looks_at_and_nothing_else():
    result = Explained(Threshold(), "occlusion").run(volume())
    (shown,) = result.maps
    assert (shown.quantity, shown.unit, shown.label) == (SALIENCY, "1", "Saliency: spot")
    assert (shown.values[SPOT] == 1.0).all()
    assert np.count_nonzero(shown.values) <= 2 * 8 * 8
    assert "Shown for spot: how much of the outlined volume" in result.notes[0]
    assert "64 parts" in result.notes[0]


def test_the_same_study_gives_the_same_map_twice_and_the_pipeline_is_asked_a_bounded_number():
    pipeline = Threshold()
    first, second = (Explained(pipeline, "occlusion").run(volume()) for _ in range(2))
    assert (first.maps[0].values == second.maps[0].values).all()
    assert pipeline.runs == 2 * (MOST_RUNS + 2)
    assert first.segments[0].mask.sum() == second.segments[0].mask.sum() == 2 * 4 * 4


def test_frames_of_a_clip_and_colour_images_are_hidden_alike():
    frames = np.full((3, 40, 60, 3), 90, np.uint8)
    frames[:, 30:34, 50:54] = 255
    pipeline = Threshold()
    pipeline.run = lambda study: Threshold.run(  # type: ignore[method-assign]
        # Of bytes nothing is brighter than 255.
        pipeline,
        replace(study, frames=study.frames.astype(np.float32) * 2.0),
    )
    (shown,) = Explained(pipeline, "occlusion").run(Images(frames)).maps
    assert shown.values.shape == (3, 40, 60)
    assert (shown.values[:, 30:34, 50:54] == 1.0).all()
    assert (shown.values[:, :20] == 0.0).all()


def test_of_a_waveform_the_moment_that_matters_is_drawn():
    result = Explained(Threshold(), "occlusion").run(recording())
    (drawn,) = result.charts
    (curve,) = drawn.curves
    assert drawn.title == "Saliency: Spike"
    at = curve.x[curve.y > 0.5]
    assert 6.0 <= at.min() <= 6.2 <= at.max() <= 6.6
    assert curve.y.max() == pytest.approx((0.8 - 0.1) / 0.8)
    assert not curve.y[(curve.x < 6.0) | (curve.x > 6.6)].any()


def test_a_derived_group_of_a_waveform_stays_as_it_is():
    study = {"": recording()}
    cut = patches(study, 64)
    assert cut.count == 20
    hidden = cut.without(study, 12)[""]
    assert (hidden.groups[1].samples == 1.0).all()
    assert hidden.groups[0].samples.max() == 0.0


def test_where_nothing_is_there_nothing_is_explained():
    empty = Explained(Threshold(), "occlusion").run(volume(spot=(slice(0, 0),)))
    assert empty == Result()
    assert question(Result((Finding(NODULE, Presence.ABSENT, confidence=0.9),))) is None


def test_what_is_not_normal_is_explained_first():
    normal = Finding(Code("2", "99TEST", "Sinus"), confidence=0.9, normal=True)
    asked = question(Result((normal, Finding(NODULE, confidence=0.6))))
    assert (asked.about, asked.whole) == ("Nodule", 0.6)
    assert asked.score(Result((Finding(NODULE, Presence.ABSENT, confidence=0.9),))) < 0.11
    assert asked.score(Result()) == 0.0


def test_a_part_of_which_the_pipeline_cannot_look_is_counted_and_shows_as_nothing():
    asked = []

    def look(studies):
        asked.append(1)
        if len(asked) == 3:
            raise CouldNotLook("No head.")
        return Threshold().run(studies[""])

    found = occlusion(look, {"": volume()}, lambda result: float(len(result.findings)))
    assert (found.runs, found.not_judged) == (64, 1)


def test_an_explanation_that_fails_does_not_take_the_result_with_it():
    pipeline = Threshold()

    def run(study):
        if pipeline.runs:
            raise ValueError("a hole")
        return Threshold.run(pipeline, study)

    pipeline.run = run  # type: ignore[method-assign]
    result = Explained(pipeline, "occlusion").run(volume())
    assert len(result.findings) == 1
    assert result.maps == ()
    assert result.notes == ("What the answer rests on could not be shown: that failed.",)


def test_a_study_that_cannot_be_judged_is_not_explained():
    pipeline = Threshold()

    def run(_):
        raise CouldNotLook("No head.")

    pipeline.run = run  # type: ignore[method-assign]
    with pytest.raises(CouldNotLook, match="No head"):
        Explained(pipeline, "occlusion").run(volume())


class Two(Threshold):
    """Sees what is bright in both of its series."""

    inputs: ClassVar = {"t1": {"Modality": "MR"}, "flair": {"Modality": "MR"}}

    def run(self, *, t1, flair):  # type: ignore[override]
        both = (t1.voxels > 300).any() and (flair.voxels > 300).any()
        return Result((Finding(NODULE, confidence=0.9),) if both else ())


def test_the_same_place_is_hidden_in_every_series():
    finer = volume((16, 32, 32), (2.0, 1.0, 1.0), (slice(4, 8), *SPOT[1:]), -1.0)
    series = {"t1": volume(), "flair": finer}
    pipeline = Explained(Two(), "occlusion")
    assert is_study_pipeline(pipeline)
    (shown,) = pipeline.run(**series).maps
    assert shown.values.shape == (8, 32, 32)
    assert (shown.values[SPOT] == 1.0).all()
    cut = patches(series, 64)
    hidden = cut.without(series, int(cut.numbers["t1"][0][2, 20, 4]))
    assert all(one.voxels.max() < 300 for one in hidden.values())


@pytest.mark.parametrize(
    ("shape", "spacing", "most", "counts"),
    [
        ((8, 32, 32), (4.0, 1.0, 1.0), 64, (4, 4, 4)),
        ((1, 512, 512), (5.0, 1.0, 1.0), 64, (1, 8, 8)),
        ((300, 4, 4), (1.0, 1.0, 1.0), 10, (10, 1, 1)),
        ((1, 1), (1.0, 1.0), 64, (1, 1)),
    ],
)
def test_patches_are_about_as_long_as_wide_and_never_too_many(shape, spacing, most, counts):
    assert divisions(shape, spacing, most) == counts


def test_an_explained_pipeline_is_another_one_only_by_its_parameters_and_its_deadline():
    pipeline = Threshold()
    wrapped = explained(pipeline, "occlusion")
    assert (wrapped.name, wrapped.input) == ("threshold", pipeline.input)
    assert wrapped.parameters == {"threshold": "300", "explain": "occlusion"}
    assert wrapped.deadline_s == 2.0 * (MOST_RUNS + 2)
    assert explained(pipeline, None) is pipeline
    assert method_in('{"explain": "gradient"}') == "gradient"
    assert method_in("{}") is method_in('{"explain": "tea leaves"}') is None


def test_integrated_gradients_of_a_product_add_up_to_it():
    given = np.array([1.0, 2.0, 0.0], np.float32)
    added = integrated_gradients(lambda at: at[0] * at[1] + 3.0 * at[2], given)
    assert added.sum() == pytest.approx(2.0, abs=0.01)
    assert added[2] == 0.0


def test_a_pipeline_with_gradients_is_asked_for_them():
    class Gradients(Threshold):
        def attribution(self, study, result, about):
            return np.full(study.shape, 0.5, np.float32)

    result = Explained(Gradients(), "gradient").run(volume())
    assert (result.maps[0].values == 0.5).all()
    assert "by integrated gradients" in result.notes[0]
    assert (Explained(Threshold(), "gradient").run(volume()).maps[0].values[SPOT] == 1.0).all()


def test_an_ecg_is_explained_by_its_own_pipeline_where_it_fibrillates():
    pipeline = Explained(EcgAtrialFibrillation(), "occlusion")
    (drawn,) = pipeline.run(strip_of(ecg.fibrillation(110, duration_s=10, seed=10))).charts
    assert drawn.title == "What speaks for fibrillation"
    assert drawn.curves[1].y.max() == pytest.approx(1.0)
    assert pipeline.run(strip_of(ecg.sinus(70, duration_s=10, seed=0))).charts == ()


def test_a_result_never_has_more_charts_than_are_drawn():
    class Charts(Threshold):
        def run(self, study):
            result = super().run(study)
            return replace(result, charts=(drawn,) * MOST_CHARTS)

    (drawn,) = Explained(Threshold(), "occlusion").run(recording()).charts
    assert len(Explained(Charts(), "occlusion").run(recording()).charts) == MOST_CHARTS
