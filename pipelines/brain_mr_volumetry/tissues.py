"""The tissue network of our own: grey matter, white matter and fluid inside a brain mask.

A small network on a bank of Gaussian means, made by ``training.py`` from simulated images alone;
training takes minutes on two cores.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import nn

from pipelines.brain_mr_volumetry.networks import TISSUE_NETWORK_SHA256

if TYPE_CHECKING:
    from pipelines.conform import Box, Conformed, LabelArray

WEIGHTS = Path(__file__).with_name("tissues.safetensors")

CLASSES = ("background", "Cerebrospinal fluid", "Grey Matter", "White Matter")
CHANNELS = 24
SCALES_MM = (0.7, 1.5, 3.0, 8.0)
"""Widths (standard deviation) of the neighbourhoods whose mean the network sees."""
_SLAB = 16
_LEAST_SHARE = 1e-3
_WHITE = 0.95
"""Quantile of the grey values in the brain that becomes 1: about that of white matter."""

BoolArray = npt.NDArray[np.bool_]


class TissueNetwork(nn.Module):
    """Three layers of 1 x 1 x 1 on a voxel and the means of four neighbourhoods around it."""

    def __init__(self) -> None:
        """Build the layers, with random weights."""
        super().__init__()
        self.first = nn.Conv3d(2 + len(SCALES_MM), CHANNELS, 1)
        self.second = nn.Conv3d(CHANNELS, CHANNELS, 1)
        self.last = nn.Conv3d(CHANNELS, len(CLASSES), 1)

    def forward(self, grey: torch.Tensor) -> torch.Tensor:
        """Return the classes' logits of images, shape (n, 1, depth, height, width)."""
        return self.judged(seen(grey))

    def judged(self, features: torch.Tensor) -> torch.Tensor:
        """Return the logits from what ``seen`` returns, voxel by voxel."""
        hidden = nn.functional.elu(self.first(features))
        logits: torch.Tensor = self.last(nn.functional.elu(self.second(hidden)))
        return logits


def seen(grey: torch.Tensor) -> torch.Tensor:
    """Return the voxel, the means around it, and how much brain is near, as channels.

    Args:
        grey: Shape (n, 1, depth, height, width), 1 mm; 0 outside of the brain.
    """
    brain = (grey > 0).to(grey.dtype)
    channels = [grey]
    near = brain
    for sigma_mm in SCALES_MM:
        near = _blurred(brain, sigma_mm)
        channels.append(_blurred(grey, sigma_mm) / near.clamp(min=_LEAST_SHARE))
    return torch.cat((*channels, near), dim=1) * brain


def _blurred(image: torch.Tensor, sigma_mm: float) -> torch.Tensor:
    reach = round(2.5 * sigma_mm)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma_mm) ** 2)
    kernel = (kernel / kernel.sum()).to(image.dtype)
    for axis in range(3):
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[axis + 2], padding[axis] = len(kernel), reach
        image = nn.functional.conv3d(image, kernel.reshape(shape), padding=tuple(padding))
    return image


def normalised(grey: npt.NDArray[np.float32], brain: BoolArray) -> npt.NDArray[np.float32]:
    """Return the brain alone, so that its white matter is about 1."""
    white = float(np.quantile(grey[brain], _WHITE))
    return np.where(brain, grey / np.float32(max(white, 1e-6)), np.float32(0))


def tissue_labels(head: Conformed, brain: BoolArray, box: Box) -> LabelArray:
    """Return the class of each voxel inside the brain, index as in ``CLASSES``.

    Args:
        head: On the 1 mm grid.
        brain: On the same grid.
        box: Around the brain.
    """
    grey = normalised(head.voxels.astype(np.float32), brain)
    labels: LabelArray = np.zeros(grey.shape, dtype=np.uint8)
    network = shipped_network()
    with torch.inference_mode():
        features = seen(torch.from_numpy(np.ascontiguousarray(grey[box]))[None, None])
        slabs = [network.judged(slab).argmax(dim=1)[0] for slab in features.split(_SLAB, dim=2)]
    labels[box] = torch.cat(slabs).numpy()
    labels[~brain] = 0
    return labels


@cache
def shipped_network() -> TissueNetwork:
    """Return the shipped network.

    Raises:
        RuntimeError: The file is not the one that was tested.
    """
    content = WEIGHTS.read_bytes()
    if hashlib.sha256(content).hexdigest() != TISSUE_NETWORK_SHA256:
        raise RuntimeError(f"{WEIGHTS.name} is not the network this pipeline was tested with.")
    network = TissueNetwork()
    network.load_state_dict(safetensors.torch.load(content))
    return network.eval()
