"""How the networks learn: strips of annotated recordings, and as many simulated ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from pipelines.ecg_atrial_fibrillation.windows import SAMPLING_HZ, WINDOW, resample
from pipelines.ecg_baselines.networks import DECIMATION, FRAME, FRAMES, NETWORKS, prepare
from pipelines.ecg_baselines.simulation import strip
from pipelines.training.loop import Fitted, Plan, Score, fit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    Batch = tuple[torch.Tensor, torch.Tensor]

PLAN = Plan(steps=500, learning_rate=2e-3, score_every=100)
BATCH = 32
SIMULATED = 4000
_CHUNK_S = 60.0


@dataclass(frozen=True)
class Annotated:
    """One lead of one recording, and where it fibrillates.

    Attributes:
        patient: Whose it is.
        samples_mv: float32 at 500 Hz, at least one window.
        fibrillation: bool, of each sample.
    """

    patient: str
    samples_mv: npt.NDArray[np.float32]
    fibrillation: npt.NDArray[np.bool_]


def annotated(
    patient: str,
    lead_mv: npt.NDArray[np.float32],
    sampling_hz: float,
    fibrillation: npt.NDArray[np.bool_],
) -> Annotated:
    """Return a lead at 500 Hz, as the pipeline resamples it; missing samples become zero."""
    known = np.nan_to_num(lead_mv).astype(np.float32)
    times_s = np.arange(int(lead_mv.shape[0] / sampling_hz * SAMPLING_HZ)) / SAMPLING_HZ
    parts = np.array_split(times_s, max(1, round(times_s.size / SAMPLING_HZ / _CHUNK_S)))
    at = np.minimum((times_s * sampling_hz).astype(np.int64), fibrillation.shape[0] - 1)
    return Annotated(
        patient,
        np.concatenate([resample(known, sampling_hz, part) for part in parts]),
        fibrillation[at],
    )


def train(  # noqa: PLR0913 - one name, one choice
    kind: str,
    recordings: Sequence[Annotated],
    *,
    plan: Plan = PLAN,
    simulated: int = SIMULATED,
    validation: Sequence[Annotated] = (),
    checkpoints: Path | None = None,
    identity: str = "",
    quiet: bool = True,
) -> tuple[torch.nn.Module, Fitted]:
    """Train a ``cnn`` or an ``lstm`` and return it with the record of its run.

    The weights kept are those that do best on the windows of ``validation``; without it, the
    last ones.
    """
    torch.manual_seed(plan.seed)
    network = NETWORKS[kind]()
    random = np.random.default_rng(plan.seed)
    made = [_example(*strip(random)) for _ in range(simulated)]
    groups = _groups(recordings)

    def draw(_step: int, generator: torch.Generator) -> Batch:
        chance = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        batch = [
            _crop(groups[int(chance.integers(len(groups)))], chance)
            if groups and k % 4 == 0
            else made[int(chance.integers(len(made)))]
            for k in range(BATCH)
        ]
        return (
            torch.from_numpy(np.stack([samples for samples, _ in batch])),
            torch.from_numpy(np.stack([truth for _, truth in batch])),
        )

    def loss(network: torch.nn.Module, batch: Batch) -> torch.Tensor:
        return functional.binary_cross_entropy_with_logits(network(batch[0]), batch[1])

    return network, fit(
        network,
        draw,
        loss,
        plan=plan,
        score=_score_on(validation) if validation else None,
        checkpoints=checkpoints,
        identity=identity,
        device="cpu",
        quiet=quiet,
    )


def _score_on(recordings: Sequence[Annotated]) -> Score:
    """Return what judges a network: minus the cross-entropy over the recordings' windows."""
    examples = [
        _example(one.samples_mv[first : first + WINDOW], one.fibrillation[first : first + WINDOW])
        for one in recordings
        for first in range(0, one.samples_mv.shape[0] - WINDOW + 1, WINDOW)
    ]
    samples = torch.from_numpy(np.stack([samples for samples, _ in examples]))
    truth = torch.from_numpy(np.stack([truth for _, truth in examples]))

    def score(network: torch.nn.Module) -> float:
        return -float(functional.binary_cross_entropy_with_logits(network(samples), truth))

    return score


Group = list[tuple[Annotated, npt.NDArray[np.int64]]]
"""Recordings of one patient in one rhythm, and where a window of it may begin."""


def _groups(recordings: Sequence[Annotated]) -> list[Group]:
    """Part the recordings by patient and rhythm, so that each is met equally often."""
    found: dict[tuple[str, bool], Group] = {}
    for one in recordings:
        starts = np.arange(0, max(1, one.samples_mv.shape[0] - WINDOW), SAMPLING_HZ // 2)
        middle = one.fibrillation[np.minimum(starts + WINDOW // 2, one.fibrillation.size - 1)]
        for rhythm in (True, False):
            if (middle == rhythm).any():
                found.setdefault((one.patient, rhythm), []).append((one, starts[middle == rhythm]))
    return [found[key] for key in sorted(found)]


def _crop(
    group: Group, chance: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return a window at random, up to 15 % faster or slower, either way up, with some noise."""
    weights = np.array([starts.size for _, starts in group])
    one, starts = group[int(chance.choice(len(group), p=weights / weights.sum()))]
    onset = int(chance.choice(starts)) + int(chance.integers(SAMPLING_HZ // 2))
    at = onset + np.arange(WINDOW) * chance.uniform(0.85, 1.15)
    at = np.minimum(at, one.samples_mv.shape[0] - 1.0)
    whole = at.astype(np.int64)
    first, end = int(whole[0]), int(whole[-1]) + 2
    stretch = one.samples_mv[first:end]
    samples = np.interp(at, first + np.arange(stretch.size), stretch)
    samples = samples * chance.choice([-1, 1, 1, 1])
    size_mv = float(np.percentile(np.abs(samples - np.median(samples)), 99))
    samples = samples + size_mv * chance.uniform(0.0, 0.05) * chance.standard_normal(WINDOW)
    drift = np.sin(2 * np.pi * chance.uniform(0.05, 0.5) * np.arange(WINDOW) / SAMPLING_HZ)
    samples = samples + size_mv * chance.uniform(0.0, 0.3) * drift
    return _example(samples.astype(np.float32), one.fibrillation[whole])


def _example(
    samples_mv: npt.NDArray[np.float32], fibrillation: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return a window as the network takes it, and how much of each frame fibrillates."""
    per_frame = DECIMATION * FRAME
    padded = np.pad(fibrillation, (0, FRAMES * per_frame - WINDOW), mode="edge")
    return prepare(samples_mv), padded.reshape(FRAMES, per_frame).mean(axis=1).astype(np.float32)
