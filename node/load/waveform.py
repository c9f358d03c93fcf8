"""One waveform object to physical units: gain, baseline, padding and sample format undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from node.load.headers import technical_attributes
from node.load.source import Source
from pipelines.contract import Channel, Code, CouldNotLook, MultiplexGroup, Waveform

if TYPE_CHECKING:
    from pydicom import Dataset

WAVEFORM_SEQUENCE = 0x54000100

_FORMATS = {
    (8, "SB"): "i1",
    (8, "UB"): "u1",
    (16, "SS"): "i2",
    (16, "US"): "u2",
    (32, "SL"): "i4",
    (32, "UL"): "u4",
    (64, "SV"): "i8",
    (64, "UV"): "u8",
}
"""Waveform Bits Allocated and Sample Interpretation (PS3.3 table C.10-9, C.10.9.1.5). The
companded formats MB and AB are for voice."""

_MILLIVOLTS = {"V": 1e3, "mV": 1.0, "uV": 1e-3, "nV": 1e-6}
"""UCUM voltages -> how many millivolts one of it is."""

ARBITRARY_UNIT = "[arb'U]"
UNSPECIFIED_SOURCE = Code("2:0", "MDC", "Unspecified lead")


def load_waveform(dataset: Dataset) -> Source:
    """Return the multiplex groups of a waveform object, voltages in millivolts.

    A channel's value is sample x sensitivity x correction factor + baseline (PS3.3 C.10.9.1.4).
    Channel skews and offsets, which shift channels against each other, are left as they are.
    A channel that has no sensitivity comes in ``ARBITRARY_UNIT``, one that is no voltage in its
    own unit: neither makes the other channels unreadable.

    Raises:
        CouldNotLook: The object contradicts itself, or uses a sample format not known here.
    """
    if not dataset.get("WaveformSequence"):
        raise CouldNotLook("The object holds no waveform.")
    big_endian = dataset.original_encoding[1] is False
    groups = tuple(
        _group(number, item, big_endian=big_endian)
        for number, item in enumerate(dataset.WaveformSequence, start=1)
    )
    return Source(
        Waveform(groups, technical_attributes([dataset])),
        instances=(dataset[:WAVEFORM_SEQUENCE],),
    )


def _group(number: int, item: Dataset, *, big_endian: bool) -> MultiplexGroup:
    definitions = item.get("ChannelDefinitionSequence") or []
    sampling_hz = float(item.get("SamplingFrequency") or 0.0)
    if sampling_hz <= 0.0:
        raise CouldNotLook(f"Multiplex group {number} has no sampling frequency.")
    raw = _raw_samples(number, item, big_endian=big_endian)
    if len(definitions) != raw.shape[0]:
        raise CouldNotLook(
            f"Multiplex group {number} defines {len(definitions)} channels but "
            f"holds {raw.shape[0]}."
        )
    samples = np.empty(raw.shape, dtype=np.float32)
    channels = []
    for row, definition in enumerate(definitions):
        unit, gain, baseline = _scale(definition)
        samples[row] = raw[row] * gain + baseline
        channels.append(Channel(_source(definition), str(definition.get("ChannelLabel", "")), unit))
    if item.get("WaveformPaddingValue") is not None:
        samples[raw == np.frombuffer(item.WaveformPaddingValue, raw.dtype, count=1)[0]] = np.nan
    return MultiplexGroup(
        number=number,
        sampling_hz=sampling_hz,
        channels=tuple(channels),
        samples=samples,
        original=item.get("WaveformOriginality") != "DERIVED",
    )


def _raw_samples(number: int, item: Dataset, *, big_endian: bool) -> npt.NDArray[np.integer]:
    """Return the stored samples, shape (channels, samples), in the stored format."""
    stored = (item.get("WaveformBitsAllocated"), item.get("WaveformSampleInterpretation"))
    if stored not in _FORMATS:
        raise CouldNotLook(
            f"Multiplex group {number} has samples of {stored[0]} bits as {stored[1]}, "
            "a format that is not read here."
        )
    dtype = np.dtype(_FORMATS[stored]).newbyteorder(">" if big_endian else "<")
    channels = int(item.get("NumberOfWaveformChannels") or 0)
    length = int(item.get("NumberOfWaveformSamples") or 0)
    data = item.get("WaveformData") or b""
    if not channels or not length or len(data) < channels * length * dtype.itemsize:
        raise CouldNotLook(
            f"Multiplex group {number} holds {len(data)} bytes, too few for "
            f"{channels} channels of {length} samples."
        )
    return np.frombuffer(data, dtype, count=channels * length).reshape(length, channels).T


def _scale(definition: Dataset) -> tuple[str, float, float]:
    """Return unit, gain and baseline of a channel; millivolts for any voltage."""
    units = definition.get("ChannelSensitivityUnitsSequence")
    if definition.get("ChannelSensitivity") is None or not units:
        return ARBITRARY_UNIT, 1.0, 0.0
    correction = definition.get("ChannelSensitivityCorrectionFactor")
    gain = float(definition.ChannelSensitivity) * (1.0 if correction is None else float(correction))
    baseline = float(definition.get("ChannelBaseline") or 0.0)
    unit = str(units[0].get("CodeValue", ""))
    if unit in _MILLIVOLTS:
        return "mV", gain * _MILLIVOLTS[unit], baseline * _MILLIVOLTS[unit]
    return unit or ARBITRARY_UNIT, gain, baseline


def _source(definition: Dataset) -> Code:
    sources = definition.get("ChannelSourceSequence")
    if not sources:
        return UNSPECIFIED_SOURCE
    value = sources[0].get("CodeValue") or sources[0].get("LongCodeValue") or ""
    return Code(
        str(value),
        str(sources[0].get("CodingSchemeDesignator", "")),
        str(sources[0].get("CodeMeaning", "")),
    )
