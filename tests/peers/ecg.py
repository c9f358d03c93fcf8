"""ECG recordings with a known truth, and DICOM waveform objects made from any recording."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    AmbulatoryECGWaveformStorage,
    ExplicitVRLittleEndian,
    General32bitECGWaveformStorage,
    GeneralECGWaveformStorage,
    TwelveLeadECGWaveformStorage,
)

from node.uids import derived_uid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TWELVE_LEAD = str(TwelveLeadECGWaveformStorage)
GENERAL = str(GeneralECGWaveformStorage)
GENERAL_32_BIT = str(General32bitECGWaveformStorage)
AMBULATORY = str(AmbulatoryECGWaveformStorage)

TWELVE_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
LEAD_NUMBERS = {"I": 1, "II": 2, "III": 61, "aVR": 62, "aVL": 63, "aVF": 64} | {
    f"V{chest}": chest + 2 for chest in range(1, 7)
}
"""CID 3001: MDC code 2:n, SCP-ECG code 5.6.3-9-n."""

_SIZES = {"I": 0.6, "II": 1.0, "III": 0.5, "aVR": -0.8, "aVL": 0.2, "aVF": 0.7, "V1": -0.5}
_WAVES = ((-0.16, 0.025, 0.15), (-0.03, 0.009, -0.1), (0.0, 0.011, 1.1), (0.03, 0.009, -0.2))
_T_WAVE = (0.27, 0.045, 0.3)
"""Centre (s from the R peak), width (s) and height (mV) of P, Q, R, S, and T."""


@dataclass(frozen=True)
class Recording:
    """Leads sampled together: ``samples_mv`` is (leads, samples); NaN is stored as padding."""

    leads: tuple[str, ...]
    sampling_hz: float
    samples_mv: npt.NDArray[np.float64]

    def cut(self, start_s: float, end_s: float) -> Recording:
        """Return a part of the recording."""
        part = slice(round(start_s * self.sampling_hz), round(end_s * self.sampling_hz))
        return Recording(self.leads, self.sampling_hz, self.samples_mv[:, part])

    def only(self, *leads: str) -> Recording:
        """Return these leads, in this order."""
        rows = [self.leads.index(lead) for lead in leads]
        return Recording(leads, self.sampling_hz, self.samples_mv[rows])


@dataclass(frozen=True)
class Storage:
    """How a recording is written down. The signal is the same whatever is chosen here.

    Attributes:
        interpretation: Waveform Sample Interpretation; the number of bits follows.
        unit: UCUM code of the voltage.
        sensitivity: In ``unit`` per step.
        correction: Channel Sensitivity Correction Factor.
        baseline: In ``unit``.
        scheme: ``MDC`` or ``SCPECG``.
        original: False for a derived group.
    """

    interpretation: str = "SS"
    unit: str = "uV"
    sensitivity: float = 1.0
    correction: float = 1.0
    baseline: float = 0.0
    scheme: str = "MDC"
    original: bool = True


_DTYPES = {"SB": "<i1", "UB": "<u1", "SS": "<i2", "US": "<u2", "SL": "<i4", "UL": "<u4"}
_PER_MILLIVOLT = {"V": 1e-3, "mV": 1.0, "uV": 1e3, "nV": 1e6}


def sinus(beats_per_minute: float, **options: float) -> Recording:
    """Simulate regular sinus rhythm; see ``_simulate`` for the options."""
    return _simulate(60.0 / beats_per_minute, 0.0, **options)


def fibrillation(beats_per_minute: float, **options: float) -> Recording:
    """Simulate atrial fibrillation: irregular, no P waves, fibrillatory waves at 6 Hz."""
    return _simulate(60.0 / beats_per_minute, 0.25, **options)


def noise(slope: float, seed: int) -> Recording:
    """Return ten seconds of noise alone, whose power falls with frequency to the ``slope``."""
    random = np.random.default_rng(seed)
    hertz = np.fft.rfftfreq(5000, 1 / 500)
    spectrum = random.normal(size=hertz.size) + 1j * random.normal(size=hertz.size)
    signal = np.fft.irfft(spectrum / np.maximum(hertz, 0.5) ** (slope / 2), 5000)
    return Recording(("II",), 500.0, 0.3 * signal[None] / signal.std())


def _simulate(
    mean_rr_s: float,
    irregularity: float,
    *,
    duration_s: float = 10.0,
    sampling_hz: float = 500.0,
    noise_mv: float = 0.01,
    seed: float = 0,
) -> Recording:
    """Place a sum of Gaussians at every beat (after McSharry et al. 2003, IEEE Trans Biomed
    Eng 50:289-294), so that the time of every beat is known."""
    random = np.random.default_rng(int(seed))
    count = int(duration_s / mean_rr_s) + 3
    spacing_s = mean_rr_s * np.exp(irregularity * random.standard_normal(count))
    peaks_s = 0.3 + np.concatenate([[0.0], np.cumsum(spacing_s)])
    times_s = np.arange(round(duration_s * sampling_hz)) / sampling_hz
    signal = np.zeros_like(times_s)
    waves = (_WAVES[1:] if irregularity else _WAVES) + (_T_WAVE,)
    for peak_s in peaks_s:
        for centre_s, width_s, height_mv in waves:
            signal += height_mv * np.exp(-0.5 * ((times_s - peak_s - centre_s) / width_s) ** 2)
    if irregularity:
        signal += 0.08 * np.sin(2 * np.pi * 6.0 * times_s + np.sin(2 * np.pi * 0.7 * times_s))
    hiss = noise_mv * random.standard_normal((len(TWELVE_LEADS), times_s.size))
    rows = [_SIZES.get(lead, 0.9) * signal for lead in TWELVE_LEADS]
    return Recording(TWELVE_LEADS, sampling_hz, np.array(rows) + hiss)


def from_wfdb(record: Path) -> Recording:
    """Read a WFDB record, given without suffix; its channels must be leads in millivolts."""
    import wfdb

    read = wfdb.rdrecord(str(record))
    names = tuple({lead.upper(): lead for lead in TWELVE_LEADS}[n.upper()] for n in read.sig_name)
    return Recording(names, float(read.fs), read.p_signal.T)


def waveform_object(
    *groups: Recording,
    sop_class: str = TWELVE_LEAD,
    storage: Storage | Sequence[Storage] = Storage(),
    patient_id: str = "RADNODE-ECG",
    patient_name: str = "Ecg^Test",
) -> Dataset:
    """Return a Part 10 data set with one multiplex group per recording.

    UIDs are derived from the samples, so that the same recording is the same object.
    """
    storages = [storage] * len(groups) if isinstance(storage, Storage) else list(storage)
    items = [_group(group, stored) for group, stored in zip(groups, storages, strict=True)]
    digest = hashlib.sha256(b"".join(item.WaveformData for item in items)).hexdigest()
    dataset = Dataset()
    dataset.SOPClassUID = UID(sop_class)
    dataset.SOPInstanceUID = derived_uid("test ecg", patient_id, sop_class, digest, "instance")
    dataset.StudyInstanceUID = derived_uid("test ecg", patient_id, digest, "study")
    dataset.SeriesInstanceUID = derived_uid("test ecg", patient_id, sop_class, digest, "series")
    dataset.PatientName, dataset.PatientID = patient_name, patient_id
    dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.StudyDate = dataset.ContentDate = "20260101"
    dataset.StudyTime = dataset.ContentTime = "120000"
    dataset.AcquisitionDateTime = "20260101120000"
    dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.StudyID = "1"
    dataset.Modality = "ECG"
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    dataset.Manufacturer = "radnode tests"
    dataset.ManufacturerModelName = "WFDB"
    dataset.DeviceSerialNumber, dataset.SoftwareVersions = "1", "1"
    dataset.AcquisitionContextSequence = []
    dataset.WaveformSequence = items
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = UID(sop_class)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _group(recording: Recording, storage: Storage) -> Dataset:
    dtype = np.dtype(_DTYPES[storage.interpretation])
    padding = np.iinfo(dtype).min if dtype.kind == "i" else np.iinfo(dtype).max
    steps = recording.samples_mv * _PER_MILLIVOLT[storage.unit] - storage.baseline
    steps = np.round(steps / (storage.sensitivity * storage.correction))
    stored = np.where(np.isnan(steps), padding, steps)
    if stored.min() < np.iinfo(dtype).min or stored.max() > np.iinfo(dtype).max:
        raise ValueError(f"The recording does not fit {storage.interpretation} at this gain.")
    item = Dataset()
    item.WaveformOriginality = "ORIGINAL" if storage.original else "DERIVED"
    item.NumberOfWaveformChannels, item.NumberOfWaveformSamples = recording.samples_mv.shape
    item.SamplingFrequency = recording.sampling_hz
    item.ChannelDefinitionSequence = [
        _channel(lead, storage, dtype.itemsize * 8) for lead in recording.leads
    ]
    item.WaveformBitsAllocated = dtype.itemsize * 8
    item.WaveformSampleInterpretation = storage.interpretation
    representation = "OB" if dtype.itemsize == 1 else "OW"
    if np.isnan(steps).any():
        value = np.array([padding], dtype).tobytes()
        item.add_new("WaveformPaddingValue", representation, value.ljust(2, b"\0"))
    data = stored.T.astype(dtype).tobytes()
    item.add_new("WaveformData", representation, data + b"\0" * (len(data) % 2))
    return item


def _channel(lead: str, storage: Storage, bits: int) -> Dataset:
    channel = Dataset()
    number = LEAD_NUMBERS[lead]
    if storage.scheme == "MDC":
        source = _code(f"2:{number}", "MDC", f"Lead {lead}")
    else:
        source = _code(f"5.6.3-9-{number}", "SCPECG", f"Lead {lead}", version="1.3")
    channel.ChannelSourceSequence = [source]
    channel.ChannelSensitivity = f"{storage.sensitivity:.10g}"
    channel.ChannelSensitivityUnitsSequence = [_code(storage.unit, "UCUM", storage.unit)]
    channel.ChannelSensitivityCorrectionFactor = f"{storage.correction:.10g}"
    channel.ChannelBaseline = f"{storage.baseline:.10g}"
    channel.ChannelSampleSkew = 0
    channel.WaveformBitsStored = bits
    return channel


def _code(value: str, scheme: str, meaning: str, version: str | None = None) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    if version:
        code.CodingSchemeVersion = version
    return code
