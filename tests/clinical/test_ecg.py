"""Rate, intervals and accuracy against a known truth; the model card says what is measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from node.load.waveform import load_waveform
from pipelines.contract import CouldNotLook, Presence
from pipelines.ecg_atrial_fibrillation import codes, pipeline
from pipelines.ecg_atrial_fibrillation.pipeline import EcgAtrialFibrillation
from tests.peers import ecg

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "ecg"
CARD = Path(pipeline.__file__).with_name("card.md")
NUMBER = re.compile(r"\d+(?:\.\d+)?")


@pytest.fixture(scope="module")
def model():
    loaded = EcgAtrialFibrillation()
    loaded.warm_up()
    return loaded


def measured(result):
    return {m.name: m.value for finding in result.findings for m in finding.measurements}


@pytest.mark.parametrize("beats_per_minute", [40, 60, 75, 100, 140])
def test_the_heart_rate_is_that_of_the_simulated_beats(model, beats_per_minute):
    recording = ecg.sinus(beats_per_minute)
    values = measured(model.run(load_waveform(ecg.waveform_object(recording)).study))
    assert values[codes.HEART_RATE] == pytest.approx(beats_per_minute, abs=0.5)
    assert values[codes.RR_INTERVAL] == pytest.approx(60_000 / beats_per_minute, abs=3)


@pytest.mark.parametrize("beats_per_minute", [50, 60, 75])
def test_the_intervals_are_those_of_the_simulated_waves(model, beats_per_minute):
    """Gaussian waves taken to end 2.5 widths from their centre: PR 170, QRS 105, QT 435 ms.

    Measured differences: PR up to 4 ms, QRS up to 3 ms, QT up to 20 ms: the T wave ends in a tail.
    """
    recording = ecg.sinus(beats_per_minute)
    values = measured(model.run(load_waveform(ecg.waveform_object(recording)).study))
    assert values[codes.PR_INTERVAL] == pytest.approx(170, abs=10)
    assert values[codes.QRS_DURATION] == pytest.approx(105, abs=12)
    assert values[codes.QT_INTERVAL] == pytest.approx(435, abs=30)


def test_a_real_twelve_lead_agrees_with_what_its_electrocardiograph_measured(model):
    """The cart's own annotations in the object: RR 982, PR 161, QRS 75, QT 368 ms (all leads)."""
    dataset = dcmread(str(get_testdata_file("waveform_ecg.dcm")))
    result = model.run(load_waveform(dataset).study)
    values = measured(result)
    assert result.findings[0].presence is Presence.ABSENT
    assert values[codes.RR_INTERVAL] == pytest.approx(982, abs=3)
    assert values[codes.PR_INTERVAL] == pytest.approx(161, abs=20)
    assert values[codes.QRS_DURATION] == pytest.approx(75, abs=25)
    assert values[codes.QT_INTERVAL] == pytest.approx(368, abs=25)


@pytest.mark.parametrize("slope", [0, 1, 2], ids=["white", "pink", "brown"])
def test_noise_alone_is_given_no_rhythm(model, slope):
    for seed in range(10):
        dataset = ecg.waveform_object(ecg.noise(slope, seed), sop_class=ecg.GENERAL)
        with pytest.raises(CouldNotLook):
            model.run(load_waveform(dataset).study)


@pytest.mark.skipif(not DATA.exists(), reason="the annotated ECG records are not on this machine")
@pytest.mark.timeout(600)
def test_the_card_says_what_the_command_measures():
    """Quantised arithmetic differs a little between processors: a strip or two may change sides,
    so each number may be off by 2 (of 62 strips or more), or by 0.04 if it is a proportion."""
    from tests.clinical.evaluate_ecg import report

    printed = report(DATA)
    card = CARD.read_text()
    begin, end = "<!-- measured -->\n", "<!-- /measured -->"
    written = card[card.index(begin) + len(begin) : card.index(end)].strip()
    assert NUMBER.sub("#", written) == NUMBER.sub("#", printed)
    for was, now in zip(NUMBER.findall(written), NUMBER.findall(printed), strict=True):
        assert float(now) == pytest.approx(float(was), abs=0.04 if "." in was else 2)
