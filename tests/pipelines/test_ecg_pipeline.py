"""The whole pipeline, real weights: what it says, what it refuses, and storage is no matter."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from node.load.waveform import load_waveform
from pipelines.contract import CouldNotLook, Grid, Pipeline, Presence, Volume
from pipelines.ecg_atrial_fibrillation import codec, codes
from pipelines.ecg_atrial_fibrillation.pipeline import EcgAtrialFibrillation
from tests.peers import ecg

PATIENT = ecg.sinus(66, duration_s=60, seed=1)


@pytest.fixture(scope="module")
def run():
    pipeline = EcgAtrialFibrillation()
    pipeline.warm_up()

    def _run(*groups, **options):
        return pipeline.run(load_waveform(ecg.waveform_object(*groups, **options)).study)

    return _run


def joined(*parts):
    samples = np.concatenate([part.samples_mv for part in parts], axis=1)
    return ecg.Recording(parts[0].leads, parts[0].sampling_hz, samples)


def spoiled(recording, lead, signal):
    samples = recording.samples_mv.copy()
    samples[recording.leads.index(lead)] = signal
    return ecg.Recording(recording.leads, recording.sampling_hz, samples)


def test_it_is_a_pipeline_of_the_contract():
    assert isinstance(EcgAtrialFibrillation(), Pipeline)
    assert len(EcgAtrialFibrillation.title) <= 64


def test_sinus_rhythm_says_aloud_that_there_is_no_fibrillation(run):
    absent, sinus = run(ecg.sinus(66)).findings
    assert (absent.finding, absent.presence) == (codes.ATRIAL_FIBRILLATION, Presence.ABSENT)
    assert (sinus.finding, sinus.presence) == (codes.SINUS_RHYTHM, Presence.PRESENT)
    assert absent.confidence > 0.9
    assert sinus.normal


def test_only_sinus_rhythm_is_normal(run):
    assert not any(found.normal for found in run(ecg.fibrillation(90)).findings)


def test_fibrillation_is_found_with_its_rate_and_without_intervals(run):
    (found,) = run(ecg.fibrillation(90)).findings
    assert (found.finding, found.presence) == (codes.ATRIAL_FIBRILLATION, Presence.PRESENT)
    assert {m.name for m in found.measurements} == {codes.HEART_RATE, codes.RR_INTERVAL}


@pytest.mark.parametrize("sop_class", [ecg.TWELVE_LEAD, ecg.GENERAL, ecg.AMBULATORY])
@pytest.mark.parametrize("sampling_hz", [200.0, 1000.0])
def test_the_answer_is_the_same_in_every_object_and_at_every_rate(run, sop_class, sampling_hz):
    for simulate, presence in (
        (ecg.sinus, Presence.ABSENT),
        (ecg.fibrillation, Presence.PRESENT),
    ):
        recording = simulate(75, sampling_hz=sampling_hz)
        assert run(recording, sop_class=sop_class).findings[0].presence is presence


@pytest.mark.parametrize(
    "storage",
    [
        ecg.Storage("SS", "mV", sensitivity=0.001),
        ecg.Storage("SS", "uV", sensitivity=2.0, correction=0.5),
        ecg.Storage("US", "uV", sensitivity=1.0, baseline=-32768.0),
        ecg.Storage("SL", "nV", sensitivity=1000.0, scheme="SCPECG"),
    ],
    ids=lambda s: f"{s.interpretation}-{s.unit}",
)
def test_gain_unit_and_sample_format_do_not_change_the_result(run, storage):
    recording = ecg.sinus(66)
    as_stored_first = run(recording).findings
    sop_class = ecg.GENERAL_32_BIT if storage.interpretation == "SL" else ecg.GENERAL
    for expected, found in zip(
        as_stored_first, run(recording, sop_class=sop_class, storage=storage).findings, strict=True
    ):
        assert (found.finding, found.presence, found.spans) == (
            expected.finding,
            expected.presence,
            expected.spans,
        )
        assert found.confidence == pytest.approx(expected.confidence, abs=0.02)
        assert [m.value for m in found.measurements] == pytest.approx(
            [m.value for m in expected.measurements], abs=4.0
        )


def test_the_order_of_channels_and_groups_only_changes_where_the_result_points(run):
    recording = ecg.sinus(66)
    limbs, chest = recording.only("I", "II", "III"), recording.only("V1", "V2")
    results = [
        run(recording),
        run(recording.only(*reversed(ecg.TWELVE_LEADS))),
        run(chest, limbs, sop_class=ecg.GENERAL),
    ]
    assert [(r.findings[0].spans[0].group, r.findings[0].spans[0].channel) for r in results] == [
        (1, 2),
        (1, 11),
        (2, 2),
    ]
    for result in results[1:]:
        for expected, found in zip(results[0].findings, result.findings, strict=True):
            assert found.confidence == expected.confidence
            assert found.measurements == expected.measurements


def test_an_episode_has_its_onset_and_offset(run):
    recording = joined(
        ecg.sinus(66, duration_s=60), ecg.fibrillation(95, duration_s=60), PATIENT
    ).only("II")
    episode, sinus = run(recording, sop_class=ecg.AMBULATORY).findings
    (span,) = episode.spans
    assert episode.presence is Presence.PRESENT
    assert span.start_s == pytest.approx(60.0, abs=4.0)
    assert span.end_s == pytest.approx(120.0, abs=4.0)
    assert all(s.end_s <= span.start_s or s.start_s >= span.end_s for s in sinus.spans)


def test_a_short_run_in_a_long_recording_is_indeterminate(run):
    recording = joined(PATIENT, ecg.fibrillation(95, duration_s=20), PATIENT).only("II")
    result = run(recording, sop_class=ecg.AMBULATORY)
    assert result.findings[0].presence is Presence.INDETERMINATE
    assert result.findings[0].spans[0].start_s == pytest.approx(60.0, abs=6.0)
    assert any("less than 30 s" in note for note in result.notes)


def test_noise_in_part_of_a_recording_is_told_and_not_judged(run):
    noise = np.random.default_rng(0).normal(scale=0.5, size=20 * 500)
    samples = PATIENT.only("II").samples_mv.copy()
    samples[0, 10_000:20_000] = noise
    result = run(ecg.Recording(("II",), 500.0, samples), sop_class=ecg.AMBULATORY)
    assert result.findings[0].presence is Presence.ABSENT
    assert all(s.end_s <= 24.0 or s.start_s >= 36.0 for s in result.findings[0].spans)
    assert any(note.startswith("Not judged, noise") for note in result.notes)


def test_when_lead_ii_is_off_another_lead_is_read_and_the_note_says_so(run):
    recording = ecg.sinus(66)
    result = run(spoiled(recording, "II", 0.0))
    assert result.findings[0].presence is Presence.ABSENT
    assert result.findings[0].spans[0].channel == 1
    assert any("Lead II is missing or unreadable" in note for note in result.notes)


def flat(signal):
    return np.zeros_like(signal)


def lost_halfway(signal):
    return np.where(np.arange(signal.size) < 3000, signal, 0.0)


def saturated(signal):
    return np.clip(signal * 3.0, -0.05, 0.2)


def wrong_gain(signal):
    return signal * 20.0


def noise(signal):
    return np.random.default_rng(0).normal(scale=0.3, size=signal.size)


def padded(signal):
    return np.where(np.arange(signal.size) % 2500 < 250, np.nan, signal)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (flat, "no signal"),
        (lost_halfway, "flat line"),
        (saturated, "saturated amplifier"),
        (wrong_gain, "amplitude over 20 mV"),
        (noise, "two beat detectors disagree"),
        (padded, "samples missing"),
    ],
)
def test_a_signal_that_cannot_be_read_is_refused_with_the_reason(run, spoil, reason):
    lead = ecg.sinus(66).only("II")
    with pytest.raises(CouldNotLook, match=reason):
        run(spoiled(lead, "II", spoil(lead.samples_mv[0])), sop_class=ecg.GENERAL)


def test_five_seconds_are_too_short(run):
    with pytest.raises(CouldNotLook, match=r"lasts 5\.0 s"):
        run(ecg.sinus(66, duration_s=5))


def test_nine_and_a_half_seconds_are_enough(run):
    assert run(ecg.sinus(66, duration_s=9.5)).findings[0].presence is Presence.ABSENT


def test_images_are_refused():
    axes = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    grid = Grid((1, 1, 1), (0.0, 0.0, 0.0), axes, (1.0, 1.0, 1.0))
    volume = Volume(np.zeros(grid.shape, dtype=np.float32), grid)
    with pytest.raises(CouldNotLook, match="holds images"):
        EcgAtrialFibrillation().run(volume)


def test_other_weights_than_those_measured_are_refused(monkeypatch):
    monkeypatch.setattr(codec, "WEIGHTS", "openecg/models/codec_v5_int8.onnx")
    with pytest.raises(RuntimeError, match=codec.WEIGHTS_SHA256):
        EcgAtrialFibrillation().warm_up()


def test_neither_import_nor_warm_up_loads_a_training_framework():
    program = (
        "import sys\n"
        "from pipelines.ecg_atrial_fibrillation.pipeline import EcgAtrialFibrillation\n"
        "assert not {'onnxruntime', 'openecg', 'torch'} & set(sys.modules)\n"
        "EcgAtrialFibrillation().warm_up()\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
