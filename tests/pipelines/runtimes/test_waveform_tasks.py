"""Waveforms: what a network says of a recording becomes findings with their place in time."""

from __future__ import annotations

import pytest

from pipelines.contract import CouldNotLook, Presence
from tests.pipelines.runtimes.scripted import FIBRILLATION, pipeline, radiograph, recording


def ecg(folder, **changes):
    import torch

    class Loudness(torch.nn.Module):
        def forward(self, x):
            loud = x.flatten(1).mean(dim=1, keepdim=True)
            return torch.cat([1.0 - loud, loud], dim=1).clamp(0.0, 1.0)

    sections = """
[input]
match = { Modality = "ECG" }
[model]
[waveform]
leads = ["II"]
sampling_hz = 100.0
seconds = 5.0
[output]
activation = "none"
"""
    return pipeline(folder, Loudness(), "waveform", sections, [FIBRILLATION])


@pytest.mark.parametrize(("unit", "hz"), [("mV", 500.0), ("uV", 250.0)])
def test_a_finding_of_a_recording_has_its_place_in_time(tmp_path, unit, hz):
    made = ecg(tmp_path)
    assert made.report == "ecg_report"
    (finding,) = made.run(recording(unit=unit, hz=hz)).findings
    assert finding.presence is Presence.PRESENT
    (span,) = finding.spans
    assert (span.group, span.channel) == (1, 1)
    assert (span.start_s, span.end_s) == pytest.approx((10.0, 20.0), abs=0.1)


def test_a_quiet_recording_is_looked_and_found_nothing(tmp_path):
    (finding,) = ecg(tmp_path).run(recording(loud=(0.0, 0.0))).findings
    assert finding.presence is Presence.ABSENT
    assert finding.spans == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seconds": 4.0}, r"lasts 4\.0 s; this model needs 5 s"),
        ({"lead": "Lead II", "unit": "Pa"}, "no lead II, in volts"),
        ({"gap": (0.0, 30.0)}, "gaps in every stretch"),
        ({"hz": 40.0}, "less than half"),
    ],
)
def test_a_recording_that_the_network_cannot_read_is_could_not_look(tmp_path, changes, reason):
    with pytest.raises(CouldNotLook, match=reason):
        ecg(tmp_path).run(recording(**changes))


def test_images_are_no_waveform(tmp_path):
    with pytest.raises(CouldNotLook, match="looks at a waveform"):
        ecg(tmp_path).run(radiograph())
