"""Whatever format, gain or order a waveform is stored in, a pipeline sees the same millivolts."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRBigEndian
from pydicom.waveforms.numpy_handler import multiplex_array

from node.load.source import load
from node.load.waveform import ARBITRARY_UNIT, load_waveform
from pipelines.contract import Code, CouldNotLook
from tests.peers import ecg

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset

    from pipelines.contract import MultiplexGroup

STORAGES = [
    ecg.Storage("SS", "uV", sensitivity=1.0),
    ecg.Storage("SS", "mV", sensitivity=0.001),
    ecg.Storage("SS", "nV", sensitivity=1000.0),
    ecg.Storage("SS", "uV", sensitivity=2.0, correction=0.5),
    ecg.Storage("US", "uV", sensitivity=1.0, baseline=-32768.0),
    ecg.Storage("SL", "V", sensitivity=1e-6),
    ecg.Storage("UL", "uV", sensitivity=1.0, baseline=-100_000.0, scheme="SCPECG"),
]


def only_group(dataset: Dataset) -> MultiplexGroup:
    study = load_waveform(dataset).study
    (group,) = study.groups
    return group


@pytest.mark.parametrize("storage", STORAGES, ids=lambda s: f"{s.interpretation}-{s.unit}")
def test_the_same_signal_comes_back_from_every_way_of_storing_it(storage):
    recording = ecg.sinus(70)
    group = only_group(ecg.waveform_object(recording, storage=storage))
    assert group.samples.dtype == np.float32
    assert np.abs(group.samples - recording.samples_mv).max() <= 0.0006  # half a microvolt step
    assert {channel.unit for channel in group.channels} == {"mV"}


@pytest.mark.parametrize("interpretation", ["SB", "UB"])
def test_eight_bit_samples_of_an_ambulatory_recorder_are_read(interpretation):
    baseline = 0.0 if interpretation == "SB" else -1600.0
    storage = ecg.Storage(interpretation, "uV", sensitivity=12.5, baseline=baseline)
    recording = ecg.sinus(70, duration_s=9.998).only("II")
    dataset = ecg.waveform_object(recording, sop_class=ecg.AMBULATORY, storage=storage)
    assert np.abs(only_group(dataset).samples - recording.samples_mv).max() <= 0.00626


@settings(deadline=None)
@given(
    stored=st.lists(st.integers(-32767, 32767), min_size=2, max_size=40),
    sensitivity=st.floats(1e-3, 1e3),
    correction=st.floats(0.1, 10.0),
    baseline=st.floats(-1e4, 1e4),
)
def test_a_value_is_sample_times_sensitivity_times_correction_plus_baseline(
    stored, sensitivity, correction, baseline
):
    dataset = ecg.waveform_object(ecg.Recording(("II",), 500.0, np.array([stored]) / 1e3))
    definition = dataset.WaveformSequence[0].ChannelDefinitionSequence[0]
    definition.ChannelSensitivity = f"{sensitivity:.9g}"
    definition.ChannelSensitivityCorrectionFactor = f"{correction:.9g}"
    definition.ChannelBaseline = f"{baseline:.9g}"
    microvolts = np.array(stored) * sensitivity * correction + baseline
    assert only_group(dataset).samples[0] == pytest.approx(microvolts / 1e3, rel=1e-5, abs=1e-3)


def test_padding_becomes_missing_and_nothing_else_does():
    samples = ecg.sinus(70).samples_mv.copy()
    samples[3, 100:200] = np.nan
    group = only_group(ecg.waveform_object(ecg.Recording(ecg.TWELVE_LEADS, 500.0, samples)))
    assert np.array_equal(np.isnan(group.samples), np.isnan(samples))


def test_all_groups_come_with_their_number_rate_and_originality():
    rhythm, median = ecg.sinus(70), ecg.sinus(70, duration_s=1.2, sampling_hz=1000.0)
    storage = (ecg.Storage(), ecg.Storage(original=False))
    groups = load_waveform(ecg.waveform_object(rhythm, median, storage=storage)).study.groups
    assert [(g.number, g.sampling_hz, g.original, g.duration_s) for g in groups] == [
        (1, 500.0, True, 10.0),
        (2, 1000.0, False, 1.2),
    ]


def test_channels_keep_their_order_and_coded_source():
    group = only_group(ecg.waveform_object(ecg.sinus(70).only("V1", "II")))
    assert [channel.source for channel in group.channels] == [
        Code("2:3", "MDC", "Lead V1"),
        Code("2:2", "MDC", "Lead II"),
    ]


def test_a_channel_that_is_no_voltage_keeps_its_unit_and_spoils_no_other():
    dataset = ecg.waveform_object(ecg.sinus(70).only("I", "II", "V1"))
    pressure, bare, _voltage = dataset.WaveformSequence[0].ChannelDefinitionSequence
    pressure.ChannelSensitivityUnitsSequence[0].CodeValue = "mm[Hg]"
    del bare.ChannelSensitivity
    units = [channel.unit for channel in only_group(dataset).channels]
    assert units == ["mm[Hg]", ARBITRARY_UNIT, "mV"]


def test_big_endian_files_are_read_alike():
    little = ecg.waveform_object(ecg.sinus(70))
    big = ecg.waveform_object(ecg.sinus(70))
    item = big.WaveformSequence[0]
    item.WaveformData = np.frombuffer(item.WaveformData, "<i2").astype(">i2").tobytes()
    big.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    file = io.BytesIO()
    big.save_as(file, enforce_file_format=True)
    file.seek(0)
    assert np.array_equal(only_group(dcmread(file)).samples, only_group(little).samples)


def test_pydicoms_own_twelve_lead_agrees_with_pydicoms_decoder():
    dataset = dcmread(str(get_testdata_file("waveform_ecg.dcm")))
    groups = load_waveform(dataset).study.groups
    assert [group.original for group in groups] == [True, False]
    for index, group in enumerate(groups):
        microvolts = multiplex_array(dataset, index, as_raw=False).T
        assert group.samples == pytest.approx(microvolts / 1000.0, abs=1e-6)


def break_length(item: Dataset) -> None:
    item.WaveformData = item.WaveformData[:-2]


def break_format(item: Dataset) -> None:
    item.WaveformSampleInterpretation = "MB"


def break_rate(item: Dataset) -> None:
    item.SamplingFrequency = None


def break_channels(item: Dataset) -> None:
    del item.ChannelDefinitionSequence[3]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (break_length, "too few"),
        (break_format, "16 bits as MB"),
        (break_rate, "no sampling frequency"),
        (break_channels, "defines 11 channels but holds 12"),
    ],
)
def test_an_object_that_contradicts_itself_is_refused_with_the_reason(damage, reason):
    dataset = ecg.waveform_object(ecg.sinus(70))
    damage(dataset.WaveformSequence[0])
    with pytest.raises(CouldNotLook, match=reason):
        load_waveform(dataset)


def test_an_object_without_a_waveform_is_refused():
    dataset = ecg.waveform_object(ecg.sinus(70))
    del dataset.WaveformSequence
    with pytest.raises(CouldNotLook, match="holds no waveform"):
        load_waveform(dataset)


def test_the_pipeline_learns_nothing_about_the_patient_and_the_report_keeps_no_samples(
    tmp_path: Path,
):
    path = tmp_path / "ecg.dcm"
    ecg.waveform_object(ecg.sinus(70), patient_name="Doe^Jane").save_as(
        path, enforce_file_format=True
    )
    source = load([path])
    assert "Doe" not in repr(source.study.attributes)
    (instance,) = source.instances
    assert instance.PatientName == "Doe^Jane"
    assert "WaveformSequence" not in instance
