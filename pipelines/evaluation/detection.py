"""Lesion by lesion: how many are found, at how many false alarms for each study (FROC)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipelines.evaluation.estimate import Estimate, Indices, by_patient

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = npt.NDArray[np.float64]

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False alarms for each study at which LUNA16 reads the curve (Setio et al. 2017, Med Image Anal
42:1-13)."""


@dataclass(frozen=True)
class Candidate:
    """One thing that the pipeline marked, and which of the study's lesions it is on."""

    confidence: float
    hits: frozenset[int]


@dataclass(frozen=True)
class Marked:
    """One study: how many lesions it has, numbered from 0, and what was marked."""

    patient: str
    lesions: int
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Froc:
    """Sensitivity against false alarms for each study.

    Attributes:
        false_alarms: For each study, at every threshold, growing.
        sensitivity: Share of the lesions that is marked there.
        at_rates: Sensitivity at each of ``RATES``.
        score: Mean of ``at_rates`` (LUNA16's competition metric).
    """

    false_alarms: Floats
    sensitivity: Floats
    at_rates: tuple[Estimate, ...]
    score: Estimate


def froc(studies: Sequence[Marked]) -> Froc:
    """Return the curve. A second mark on a lesion is neither a hit nor a false alarm."""
    patients = [one.patient for one in studies]
    tables = [_events(one) for one in studies]
    lesions = np.array([one.lesions for one in studies], dtype=np.float64)

    def curve(k: Indices) -> tuple[Floats, Floats]:
        events = np.concatenate([tables[one] for one in k])
        events = events[np.argsort(-events[:, 0], kind="stable")]
        last = np.append(events[1:, 0] != events[:-1, 0], True) if len(events) else np.array([])
        ends = np.flatnonzero(last)
        found = np.cumsum(events[:, 1])[ends] / max(float(lesions[k].sum()), 1.0)
        alarms = np.cumsum(events[:, 2])[ends] / len(k)
        return np.concatenate(([0.0], alarms)), np.concatenate(([0.0], found))

    def at(rate: float, k: Indices) -> float:
        if not lesions[k].sum():
            return float("nan")
        alarms, found = curve(k)
        return float(found[np.searchsorted(alarms, rate, side="right") - 1])

    everything = np.arange(len(studies))
    alarms, found = curve(everything) if len(studies) else (np.zeros(1), np.zeros(1))
    return Froc(
        alarms,
        found,
        tuple(by_patient(patients, lambda k, rate=rate: at(rate, k)) for rate in RATES),  # type: ignore[misc]
        by_patient(patients, lambda k: float(np.mean([at(rate, k) for rate in RATES]))),
    )


def _events(study: Marked) -> Floats:
    """Return (confidence, lesions found newly, false alarms) of each candidate, best first."""
    found: set[int] = set()
    rows = []
    for one in sorted(study.candidates, key=lambda one: -one.confidence):
        rows.append((one.confidence, len(one.hits - found), 0 if one.hits else 1))
        found |= one.hits
    return np.array(rows, dtype=np.float64).reshape(-1, 3)
