"""Atrial fibrillation in an electrocardiogram, by openecg's codec."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from pipelines.contract import (
    Chart,
    CouldNotLook,
    Model,
    Patterns,
    Presence,
    Result,
    Study,
    Waveform,
)
from pipelines.ecg_atrial_fibrillation.codec import WEIGHTS_SHA256, Codec
from pipelines.ecg_atrial_fibrillation.codes import ATRIAL_FIBRILLATION
from pipelines.ecg_atrial_fibrillation.findings import readable_share, result
from pipelines.ecg_atrial_fibrillation.leads import Lead, readable_leads
from pipelines.ecg_atrial_fibrillation.quality import AGREEMENT
from pipelines.ecg_atrial_fibrillation.rhythm import EPISODE_S, Band, read_bands
from pipelines.ecg_atrial_fibrillation.saliency import chart, saliency
from pipelines.ecg_atrial_fibrillation.windows import SAMPLING_HZ, windows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class EcgAtrialFibrillation:
    """Reads one lead of any DICOM ECG. What it can and cannot do is in ``card.md``."""

    name: ClassVar[str] = "ecg-atrial-fibrillation"
    version: ClassVar[str] = "1.0.0"
    title: ClassVar[str] = "ECG: atrial fibrillation"
    input: ClassVar[Patterns] = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.9.1.?"}
    """12-lead (1), General (2), Ambulatory (3), General 32-bit (4): PS3.4 table B.5-1."""
    report: ClassVar[str] = "ecg_report"
    model: ClassVar[Model] = Model(
        name="openecg codec v6 (int8 ONNX)",
        version="0.11.0",
        maker="VitalDB (openecg)",
        weights_sha256=WEIGHTS_SHA256,
        trained_on=(
            "Real recordings annotated by people: LUDB, QTDB, ISP, MIT-BIH DS1, "
            "vitaldb-arrhythmia, lydus hospital ECGs (Korea). No synthetic data."
        ),
        citation="https://github.com/vitaldb/openecg, codec_v6_MODEL_CARD.md (Apache-2.0)",
    )
    parameters: ClassVar[Mapping[str, str]] = {
        "episode_s": f"{EPISODE_S:g}",
        "beat_agreement": f"{AGREEMENT:g}",
    }
    deadline_s: ClassVar[float] = 3600.0
    """A day of ambulatory recording is 14,400 windows of some 70 ms each."""

    def __init__(self) -> None:
        self._codec: Codec | None = None

    def warm_up(self) -> None:
        """Load the network, verified by digest."""
        self._codec = self.load()

    def load(self) -> Codec:
        """Load what judges the windows, verified by digest."""
        return Codec()

    def run(self, study: Study, /) -> Result:
        """Judge the best readable lead of one recording.

        Raises:
            CouldNotLook: No lead is long enough, a voltage, and clean for any ten seconds.
        """
        if not isinstance(study, Waveform):
            raise CouldNotLook("The series holds images, not a waveform.")
        codec = self._codec = self._codec or self.load()
        best: tuple[Lead, Sequence[Band]] | None = None
        best_share = 0.0
        faults: Counter[str] = Counter()
        for lead in readable_leads(study):
            samples = lead.group.samples[lead.channel - 1]
            bands = read_bands(samples, lead.group.sampling_hz, codec)
            faults.update(band.fault for band in bands if band.fault)
            share = readable_share(bands)
            if share > best_share:
                best, best_share = (lead, bands), share
            if best_share >= 0.5:
                break
        if best is None:
            reasons = ", ".join(fault for fault, _count in faults.most_common())
            raise CouldNotLook(f"No lead of the recording can be read: {reasons}.")
        return result(*best)

    def explanation(self, study: Study, result: Result, /) -> Chart | None:
        """Return what speaks for fibrillation in the first ten seconds in which it was found."""
        spans = [
            span
            for finding in result.findings
            if finding.finding == ATRIAL_FIBRILLATION and finding.presence is not Presence.ABSENT
            for span in finding.spans
        ]
        if not spans or not isinstance(study, Waveform):
            return None
        codec = self._codec = self._codec or self.load()
        group = next(one for one in study.groups if one.number == spans[0].group)
        start = round(spans[0].start_s * SAMPLING_HZ)
        lead_mv = group.samples[spans[0].channel - 1]
        window = next(
            one
            for one in windows(lead_mv, group.sampling_hz)
            if one.keep_from <= start < one.keep_to
        )
        values = saliency(window.samples_mv, codec)
        return chart(window.samples_mv, values, start_s=window.first / SAMPLING_HZ)
