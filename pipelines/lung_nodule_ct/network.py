"""The detector of our own: a small network that judges each candidate, and its weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load
from torch import nn

from pipelines.lung_nodule_ct.candidates import LUNG_HU, TISSUE_HU, patch

if TYPE_CHECKING:
    import numpy.typing as npt

    from pipelines.lung_nodule_ct.candidates import Candidate, SearchGrid

SIZE = 24
"""Voxels along each edge of what the network sees: 36 mm."""
WEIGHTS = Path(__file__).parent / "simulated_nodules.safetensors"
_MANY = 64


class Judge(nn.Module):
    """A cube around a candidate in, the logit of its being a nodule out."""

    def __init__(self) -> None:
        super().__init__()
        # The first layer halves the grid: a nodule of 4 mm is nearly three voxels across.
        self.features = nn.Sequential(
            *_layer(1, 16, 5, 2),
            *_layer(16, 16, 3, 1),
            nn.MaxPool3d(2),
            *_layer(16, 32, 3, 1),
            *_layer(32, 32, 3, 1),
        )
        self.answer = nn.Linear(64, 1)

    def forward(self, cubes: torch.Tensor) -> torch.Tensor:
        """Return logits (n,) of cubes (n, 1, 24, 24, 24) between 0 and 1."""
        features = self.features(cubes)
        middle = features[:, :, 2:4, 2:4, 2:4].mean(dim=(2, 3, 4))
        around = features.mean(dim=(2, 3, 4))
        logits: torch.Tensor = self.answer(torch.cat((middle, around), dim=1))[:, 0]
        return logits


def read_judge(sha256: str) -> Judge:
    """Return the trained network, verified.

    Raises:
        RuntimeError: Its weights are not those that this pipeline was tested with.
    """
    content = WEIGHTS.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise RuntimeError(
            f"{WEIGHTS.name} is not the file this pipeline was tested with: its SHA-256 differs. "
            "Install radnode again."
        )
    judge = Judge()
    judge.load_state_dict(load(content))
    return judge.eval()


def probabilities(
    judge: Judge, search: SearchGrid, found: list[Candidate]
) -> npt.NDArray[np.float32]:
    """Return the network's probability of each candidate, the mean over its mirror images."""
    answers = []
    with torch.inference_mode():
        for start in range(0, len(found), _MANY):
            cubes = cubes_at(search, found[start : start + _MANY])
            seen = [cubes, *(cubes.flip(axis) for axis in (2, 3, 4))]
            answers.append(torch.stack([judge(one).sigmoid() for one in seen]).mean(0))
    return torch.cat(answers).numpy() if answers else np.zeros(0, np.float32)


def cubes_at(search: SearchGrid, found: list[Candidate]) -> torch.Tensor:
    """Return what the network sees of candidates: (n, 1, 24, 24, 24) between 0 and 1."""
    cubes = np.stack([patch(search.voxels, one.centre, SIZE) for one in found])
    return torch.from_numpy((cubes - LUNG_HU) / (TISSUE_HU - LUNG_HU))[:, None]


def _layer(before: int, after: int, width: int, stride: int) -> tuple[nn.Module, ...]:
    """A convolution; the normalisation is per sample, so that one cube is like many."""
    return (
        nn.Conv3d(before, after, width, stride=stride, padding=width // 2),
        nn.GroupNorm(4, after),
        nn.ReLU(),
    )
