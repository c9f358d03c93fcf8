"""Measure ``ecg-atrial-fibrillation`` on annotated recordings: one command, the card's figures.

    python -m tests.clinical.evaluate_ecg --data DIR

DIR holds ``cpsc2021`` (two leads, rhythm annotated) and ``cinc2021_georgia`` (12-lead strips,
none with atrial fibrillation), as WFDB records. Every recording becomes a DICOM waveform file
and goes through the node's own loader.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import wfdb

from node.load.source import load
from pipelines.contract import CouldNotLook, Presence, Result
from pipelines.ecg_atrial_fibrillation import codes
from pipelines.ecg_atrial_fibrillation.pipeline import EcgAtrialFibrillation
from pipelines.evaluation.estimate import wilson
from tests.peers import ecg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

STRIP_S = 10.0
CLEAR = 0.9
"""A strip counts as fibrillation, or as none, when at least this share of it is annotated so."""


@dataclass(frozen=True)
class Annotated:
    """A recording, what its annotators say, and whose it is."""

    patient: str
    recording: ecg.Recording
    sop_class: str
    fibrillation: npt.NDArray[np.bool_]
    beats_s: npt.NDArray[np.float64]

    def strips(self) -> Iterator[Annotated]:
        """Yield its ten-second strips, without overlap."""
        length_s = self.recording.samples_mv.shape[1] / self.recording.sampling_hz
        for start_s in np.arange(0.0, length_s - STRIP_S + 1e-9, STRIP_S):
            part = slice(*(round(t * self.recording.sampling_hz) for t in _extent(start_s)))
            beats_s = self.beats_s[(self.beats_s >= start_s) & (self.beats_s < start_s + STRIP_S)]
            yield Annotated(
                self.patient,
                self.recording.cut(*_extent(start_s)),
                self.sop_class,
                self.fibrillation[part],
                beats_s - start_s,
            )

    @property
    def truth(self) -> bool | None:
        """Fibrillation, none, or None where the strip holds both."""
        share = float(self.fibrillation.mean())
        return None if 1.0 - CLEAR < share < CLEAR else share >= CLEAR


@dataclass(frozen=True)
class Outcome:
    """One strip: the truth, the pipeline's answer (None: no answer), the heart rates."""

    patient: str
    truth: bool
    answer: bool | None
    rate_error: float | None = None


def _extent(start_s: float) -> tuple[float, float]:
    return float(start_s), float(start_s) + STRIP_S


def cpsc2021(folder: Path) -> list[Annotated]:
    """Read the records of the China Physiological Signal Challenge 2021 (CC BY 4.0)."""
    found = []
    for header in sorted(folder.glob("*.hea")):
        record = header.with_suffix("")
        recording = ecg.from_wfdb(record)
        marks = wfdb.rdann(str(record), "atr")
        flags = np.zeros(recording.samples_mv.shape[1], dtype=np.bool_)
        onset: int | None = None
        for sample, text in zip(marks.sample, marks.aux_note, strict=True):
            rhythm = (text or "").strip("\0")
            if rhythm in {"(AFIB", "(AFL"} and onset is None:
                onset = int(sample)
            elif rhythm == "(N" and onset is not None:
                flags[onset : int(sample) + 1] = True
                onset = None
        if onset is not None:
            flags[onset:] = True
        beats = [s for s, kind in zip(marks.sample, marks.symbol, strict=True) if kind != "+"]
        found.append(
            Annotated(
                patient=record.name.split("_")[1],
                recording=recording,
                sop_class=ecg.GENERAL,
                fibrillation=flags,
                beats_s=np.array(beats) / recording.sampling_hz,
            )
        )
    return found


def georgia(folder: Path) -> list[Annotated]:
    """Read the Georgia strips of CinC 2021 (CC BY 4.0), one patient each, copies left out."""
    found: dict[str, Annotated] = {}
    for header in sorted(folder.glob("*.hea")):
        recording = ecg.from_wfdb(header.with_suffix(""))
        digest = hashlib.sha256(recording.samples_mv.tobytes()).hexdigest()
        none = np.zeros(recording.samples_mv.shape[1], dtype=np.bool_)
        strip = Annotated(header.stem, recording, ecg.TWELVE_LEAD, none, np.empty(0))
        found.setdefault(digest, strip)
    return list(found.values())


class Reader:
    """A pipeline, warmed up, behind a real file and the node's loader."""

    def __init__(self, pipeline: EcgAtrialFibrillation) -> None:
        self._pipeline = pipeline
        self._pipeline.warm_up()

    def read(self, recording: ecg.Recording, sop_class: str) -> Result | None:
        """Return the result, or None if the pipeline could not look."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "ecg.dcm"
            ecg.waveform_object(recording, sop_class=sop_class).save_as(
                path, enforce_file_format=True
            )
            try:
                return self._pipeline.run(load([path]).study)
            except CouldNotLook:
                return None


def strip_outcome(reader: Reader, strip: Annotated) -> Outcome:
    """Read one strip as an object of its own."""
    assert strip.truth is not None
    result = reader.read(strip.recording, strip.sop_class)
    if result is None:
        return Outcome(strip.patient, strip.truth, None)
    presence = result.findings[0].presence
    rates = [
        measured.value
        for finding in result.findings
        for measured in finding.measurements
        if measured.name == codes.HEART_RATE
    ]
    error = None
    if rates and strip.beats_s.size > 2:
        error = rates[0] - 60.0 / float(np.diff(strip.beats_s).mean())
    answers = {Presence.PRESENT: True, Presence.ABSENT: False, Presence.INDETERMINATE: None}
    return Outcome(strip.patient, strip.truth, answers[presence], error)


def recording_outcomes(reader: Reader, annotated: Annotated) -> Iterator[Outcome]:
    """Read a recording whole, and judge each of its strips by the episodes reported.

    A strip that no episode covers counts as "none found", also where the pipeline was undecided.
    """
    result = reader.read(annotated.recording, ecg.AMBULATORY)
    if result is None:
        raise SystemExit(f"A recording of patient {annotated.patient} could not be read.")
    spans = [
        span
        for finding in result.findings
        if finding.finding == codes.ATRIAL_FIBRILLATION and finding.presence != Presence.ABSENT
        for span in finding.spans
    ]
    for index, strip in enumerate(annotated.strips()):
        start_s, end_s = _extent(index * STRIP_S)
        covered = sum(
            max(0.0, min(span.end_s, end_s) - max(span.start_s, start_s)) for span in spans
        )
        if strip.truth is not None:
            yield Outcome(annotated.patient, strip.truth, covered >= STRIP_S / 2)


def by_patient(
    outcomes: Sequence[Outcome], right: Callable[[Outcome], bool]
) -> tuple[float, float]:
    """Return the 95 % interval of a proportion when whole patients are drawn again.

    Strips of one patient resemble each other, which Wilson's interval does not know.
    """
    patients = sorted({outcome.patient for outcome in outcomes})
    hits = np.array([sum(right(o) for o in outcomes if o.patient == p) for p in patients])
    sizes = np.array([sum(o.patient == p for o in outcomes) for p in patients])
    draws = np.random.default_rng(0).integers(len(patients), size=(10_000, len(patients)))
    low, high = np.percentile(hits[draws].sum(axis=1) / sizes[draws].sum(axis=1), (2.5, 97.5))
    return float(low), float(high)


def accuracy_rows(
    title: str, outcomes: Sequence[Outcome], *, abstains: bool = True
) -> Iterator[str]:
    """Yield table rows; a strip without an answer counts as wrong, whatever the truth.

    Args:
        title: Which data.
        outcomes: All strips.
        abstains: False where the outcomes cannot tell "no answer" from "none found".
    """
    for name, truth in (("sensitivity", True), ("specificity", False)):
        of_truth = [outcome for outcome in outcomes if outcome.truth is truth]
        if not of_truth:
            continue
        n = len(of_truth)
        hits = sum(outcome.answer is truth for outcome in of_truth)
        silent = str(sum(outcome.answer is None for outcome in of_truth)) if abstains else "n/a"
        low, high = wilson(hits, n)
        bounds = by_patient(of_truth, lambda outcome: outcome.answer is outcome.truth)
        patients = len({outcome.patient for outcome in of_truth})
        yield (
            f"| {title} | {name} | {hits}/{n} = {hits / n:.3f} | {low:.3f} to {high:.3f} "
            f"| {bounds[0]:.3f} to {bounds[1]:.3f} | {patients} | {silent} |"
        )


def patient_rows(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield one table row per patient."""
    for patient in sorted({outcome.patient for outcome in outcomes}, key=lambda p: (len(p), p)):
        cells = []
        for truth in (True, False):
            own = [o for o in outcomes if o.patient == patient and o.truth is truth]
            cells += [sum(o.answer is answer for o in own) for answer in (True, False, None)]
        yield f"| {patient} | " + " | ".join(map(str, cells)) + " |"


def report(data: Path) -> str:
    """Return all figures as the model card prints them (Markdown)."""
    reader = Reader(EcgAtrialFibrillation())
    long = cpsc2021(data / "cpsc2021")
    strips = [strip for record in long for strip in record.strips()]
    clear = [strip for strip in strips if strip.truth is not None]
    lead_ii = [strip_outcome(reader, strip) for strip in clear]
    lead_i = [
        strip_outcome(
            reader,
            Annotated(s.patient, s.recording.only("I"), s.sop_class, s.fibrillation, s.beats_s),
        )
        for s in clear
    ]
    whole = [outcome for record in long for outcome in recording_outcomes(reader, record)]
    american = [strip_outcome(reader, strip) for strip in georgia(data / "cinc2021_georgia")]
    noise = [
        reader.read(ecg.noise(slope, seed), ecg.GENERAL)
        for slope in (0, 1, 2)
        for seed in range(50)
    ]
    errors = np.abs([o.rate_error for o in lead_ii if o.rate_error is not None])
    return "\n".join(
        _lines(
            accuracy=[
                *accuracy_rows("CPSC2021, 10 s strips, lead II", lead_ii),
                *accuracy_rows("CPSC2021, whole recordings, lead II", whole, abstains=False),
                *accuracy_rows("CPSC2021, 10 s strips, lead I only", lead_i),
                *accuracy_rows("CinC2021 Georgia, 12-lead strips", american),
            ],
            patients=patient_rows(lead_ii),
            mixed=len(strips) - len(clear),
            errors=errors,
            noise=noise,
        )
    )


def _lines(
    *,
    accuracy: Iterable[str],
    patients: Iterable[str],
    mixed: int,
    errors: npt.NDArray[np.float64],
    noise: Sequence[Result | None],
) -> Iterator[str]:
    yield (
        "| data | | strips | 95 % of strips (Wilson) | 95 % of patients (bootstrap) "
        "| patients | no answer |"
    )
    yield "|---|---|---|---|---|---|---|"
    yield from accuracy
    yield ""
    yield f"{mixed} CPSC2021 strips that are part fibrillation, part not, were left out."
    yield ""
    yield "Per patient, CPSC2021, 10 s strips, lead II:"
    yield ""
    yield (
        "| patient | fibrillation: found | missed | no answer "
        "| none: false alarm | correct | no answer |"
    )
    yield "|---|---|---|---|---|---|---|"
    yield from patients
    yield ""
    yield (
        f"Heart rate against the annotated beats, {errors.size} strips: mean absolute error "
        f"{errors.mean():.1f}/min, 95th percentile {np.percentile(errors, 95):.1f}/min."
    )
    yield ""
    yield (
        f"Noise alone (white, pink, brown): {noise.count(None)} of {len(noise)} strips refused "
        "as unreadable."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder with the WFDB records")
    print(report(parser.parse_args().data))


if __name__ == "__main__":
    main()
