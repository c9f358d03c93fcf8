"""Saliency over time, and our own networks as a second opinion."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from node.load.waveform import load_waveform
from pipelines.contract import CouldNotLook, Pipeline, Presence
from pipelines.ecg_atrial_fibrillation import codes
from pipelines.ecg_atrial_fibrillation.codec import Codec, Rhythm
from pipelines.ecg_atrial_fibrillation.saliency import chart, saliency
from pipelines.ecg_atrial_fibrillation.windows import SAMPLING_HZ, WINDOW
from pipelines.ecg_baselines import codec as baselines
from pipelines.ecg_baselines.networks import FRAMES, NETWORKS, SAMPLES, prepare
from pipelines.ecg_baselines.pipeline import EcgAtrialFibrillationCnn, EcgAtrialFibrillationLstm
from pipelines.ecg_baselines.recipe import Strip
from pipelines.ecg_baselines.simulation import strip
from tests.peers import ecg

BOTH = [EcgAtrialFibrillationCnn, EcgAtrialFibrillationLstm]


@pytest.fixture(scope="module")
def half_and_half():
    regular = ecg.sinus(70, duration_s=5, seed=0).only("II").samples_mv[0]
    irregular = ecg.fibrillation(110, duration_s=5, seed=10).only("II").samples_mv[0]
    return np.concatenate([regular, irregular]).astype(np.float32)


@pytest.fixture(scope="module", params=["openecg", "cnn", "lstm"])
def codec(request):
    return Codec() if request.param == "openecg" else baselines.load(request.param)


def test_saliency_lies_in_the_half_that_fibrillates(codec, half_and_half):
    values = saliency(half_and_half, codec)
    assert values.shape == half_and_half.shape
    assert np.abs(values).max() == pytest.approx(1.0)
    assert values[WINDOW // 2 :].mean() > values[: WINDOW // 2].mean() + 0.1
    assert values.argmax() > WINDOW // 2 - SAMPLING_HZ


def test_integrated_gradients_add_up_to_what_the_window_changes(half_and_half):
    codec = baselines.load("cnn")
    network = codec.network
    with torch.no_grad():
        window = torch.from_numpy(prepare(half_and_half))[None]
        change = float(network(window).mean() - network(torch.zeros_like(window)).mean())
    assert codec.attribution(half_and_half).sum() == pytest.approx(change, rel=0.1, abs=0.05)


def test_a_flat_line_has_no_saliency():
    values = saliency(np.zeros(WINDOW, np.float32), baselines.load("cnn"))
    assert not values.any()


def test_the_chart_shows_lead_and_saliency_on_the_clock_of_the_recording(half_and_half):
    drawn = chart(half_and_half, np.zeros(WINDOW), start_s=30.0)
    assert [curve.x[0] for curve in drawn.curves] == [30.0, 30.0]
    assert drawn.curves[0].x[-1] == pytest.approx(40.0 - 1 / SAMPLING_HZ)


@pytest.mark.parametrize("kind", BOTH)
def test_the_second_opinion_is_a_pipeline_that_is_off_by_default(kind):
    pipeline = kind()
    assert isinstance(pipeline, Pipeline)
    assert pipeline.enabled is False
    assert "synthetic" in pipeline.model.trained_on
    assert len(pipeline.title) <= 64


@pytest.mark.parametrize("kind", BOTH)
def test_the_second_opinion_finds_fibrillation_and_never_reports_sinus_rhythm(kind):
    pipeline = kind()
    pipeline.warm_up()
    for simulate, presence in (
        (ecg.sinus, Presence.ABSENT),
        (ecg.fibrillation, Presence.PRESENT),
    ):
        recording = simulate(75, duration_s=40, seed=4)
        result = pipeline.run(load_waveform(ecg.waveform_object(recording)).study)
        assert {f.finding for f in result.findings} == {codes.ATRIAL_FIBRILLATION}
        assert result.findings[0].presence is presence
        assert "synthetic" in result.notes[0]


def test_the_second_opinion_refuses_noise_as_the_main_pipeline_does():
    pipeline = EcgAtrialFibrillationCnn()
    with pytest.raises(CouldNotLook, match="No lead"):
        pipeline.run(load_waveform(ecg.waveform_object(ecg.noise(0, 1))).study)


def test_weights_that_are_not_those_of_the_card_are_refused(monkeypatch):
    monkeypatch.setitem(baselines.WEIGHTS_SHA256, "cnn", "0" * 64)
    with pytest.raises(RuntimeError, match="not the file"):
        baselines.load("cnn")


def test_the_weights_are_small():
    for kind in NETWORKS:
        assert len(baselines.weights(kind)) < 300_000


@pytest.mark.parametrize("kind", NETWORKS)
def test_gain_and_offset_do_not_change_what_the_networks_see(kind, half_and_half):
    codec = baselines.load(kind)
    plain = codec.read(half_and_half).rhythm[:, Rhythm.ATRIAL_FIBRILLATION]
    other = codec.read(3.0 * half_and_half + 1.0).rhythm[:, Rhythm.ATRIAL_FIBRILLATION]
    assert other == pytest.approx(plain, abs=1e-3)


def test_the_program_of_a_site_prepares_strips_as_the_pipeline_does(half_and_half):
    network = NETWORKS["cnn"]().eval()
    coarse = half_and_half.reshape(-1, 4).mean(axis=1)
    with torch.no_grad():
        program = Strip(network).eval()(torch.from_numpy(coarse)[None, None])
        direct = network(torch.from_numpy(prepare(half_and_half))[None]).mean()
    assert float(program) == pytest.approx(float(direct), abs=1e-4)


def test_simulated_strips_are_reproducible_and_half_of_them_fibrillate():
    random = np.random.default_rng(5)
    made = [strip(random) for _ in range(300)]
    again = np.random.default_rng(5)
    assert np.array_equal(made[0][0], strip(again)[0])
    assert all(samples.shape == (WINDOW,) and np.isfinite(samples).all() for samples, _ in made)
    assert np.mean([truth.mean() for _, truth in made]) == pytest.approx(0.5, abs=0.1)
    assert 0.1 < np.mean([0 < truth.mean() < 1 for _, truth in made]) < 0.25


def test_the_networks_answer_for_every_frame():
    for make in NETWORKS.values():
        assert make()(torch.zeros(2, SAMPLES)).shape == (2, FRAMES)
