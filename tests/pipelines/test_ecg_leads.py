"""The lead is chosen by its coded source, wherever it stands in the object."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.contract import Channel, Code, CouldNotLook, MultiplexGroup, Waveform
from pipelines.ecg_atrial_fibrillation.leads import lead_number, readable_leads

LEAD_I = Code("2:1", "MDC", "Lead I")
LEAD_II = Code("2:2", "MDC", "Lead II")
LEAD_V5 = Code("5.6.3-9-7", "SCPECG", "Lead V5")
PRIVATE = Code("CH1", "99ACME", "Channel 1")


def group(number, *sources, seconds=10.0, sampling_hz=500.0, unit="mV", original=True):
    channels = tuple(Channel(source, "", unit) for source in sources)
    samples = np.zeros((len(sources), round(seconds * sampling_hz)), dtype=np.float32)
    return MultiplexGroup(number, sampling_hz, channels, samples, original)


def chosen(*groups):
    lead = readable_leads(Waveform(groups))[0]
    return lead.group.number, lead.channel


@pytest.mark.parametrize(
    ("value", "scheme", "number"),
    [
        ("2:2", "MDC", 2),
        ("2:258", "MDC", 2),
        ("5.6.3-9-2", "SCPECG", 2),
        ("MDC_ECG_LEAD_II", "MDC", 2),
        ("2:61", "MDC", 61),
        ("MDC_ECG_LEAD_V6", "MDC", 8),
        ("2:0", "MDC", None),
        ("2:15872", "MDC", None),
        ("II", "99ACME", None),
    ],
)
def test_a_lead_is_known_by_each_code_it_travels_under(value, scheme, number):
    assert lead_number(Code(value, scheme, "")) == number


@pytest.mark.parametrize("order", [(LEAD_I, LEAD_II, LEAD_V5), (LEAD_V5, LEAD_II, LEAD_I)])
def test_lead_ii_is_chosen_wherever_it_stands(order):
    assert chosen(group(1, *order)) == (1, order.index(LEAD_II) + 1)


def test_a_rhythm_strip_is_chosen_over_the_short_piece_of_the_same_lead():
    assert chosen(group(1, LEAD_I, LEAD_II, seconds=2.5), group(2, LEAD_II)) == (2, 1)


def test_derived_beats_and_channels_that_are_no_voltage_are_never_chosen():
    median = group(1, LEAD_II, original=False)
    pressure = group(2, LEAD_II, unit="mm[Hg]")
    assert chosen(median, pressure, group(3, PRIVATE, LEAD_V5)) == (3, 2)


def test_without_a_known_lead_the_first_voltage_is_read():
    assert chosen(group(1, PRIVATE)) == (1, 1)


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        ([group(1, LEAD_II, original=False)], "derived waveforms only"),
        ([group(1, LEAD_II, unit="mm[Hg]")], "No channel of the recording is a voltage"),
        ([group(1, LEAD_II, seconds=5.0)], "The longest lead lasts 5.0 s"),
        ([group(1, LEAD_II, sampling_hz=50.0)], "fewer than 100 samples/s"),
    ],
)
def test_a_recording_without_a_readable_lead_is_refused_with_the_reason(groups, reason):
    with pytest.raises(CouldNotLook, match=reason):
        readable_leads(Waveform(tuple(groups)))
