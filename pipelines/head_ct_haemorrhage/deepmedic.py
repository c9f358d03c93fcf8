"""DeepMedic as BLAST-CT trained it, rebuilt in PyTorch: three paths that see 1, 3 and 5 mm.

Each path keeps every 1st, 3rd or 5th voxel, sends them through eight convolutions without
padding, and brings the outcome back to 1 mm; three convolutions of 1 x 1 x 1 then weigh all paths.
Before each convolution come a batch norm and a PReLU; where channels stay as many, its input is
added to its output.

Source: Kamnitsas et al. 2017, Med Image Anal 36:61-78; Monteiro et al. 2020, Lancet Digit Health
2:e314-e322.
"""

from __future__ import annotations

import io
import pickle
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Floats = npt.NDArray[np.float32]

STEPS = (5, 3, 1)
"""Of the voxels that each path keeps, as numbered in the files."""
CONVOLUTIONS = 8
"""Of each path, after the layer that thins the voxels out."""
CLASSES = 5
"""Background, then the four of ``lesions``."""

_PATHS = tuple(f"path({step}, {step}, {step}){number}" for number, step in enumerate(STEPS))
_MIXERS = 3
_TILE = 60
"""Voxels computed at once, each way. A multiple of 15: every path's kept voxels then lie as in
tiles of 30, which BLAST-CT uses."""
_EPSILON = 1e-5


class DeepMedic:
    """One network, ready."""

    def __init__(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take the weights onto a GPU where there is one.

        Raises:
            ValueError: They are not those of this network.
        """
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._paths = tuple(
            tuple(
                _Block(state, f"{path}.path.{number}", device)
                for number in range(1, CONVOLUTIONS + 1)
            )
            for path in _PATHS
        )
        self._mixers = tuple(
            _Block(state, f"fully_connected.{number}", device) for number in range(_MIXERS)
        )
        self._device = device
        if self._mixers[-1].weight.shape[0] != CLASSES:
            raise ValueError(f"The network does not tell {CLASSES} classes apart.")

    @classmethod
    def read(cls, content: bytes) -> DeepMedic:
        """Load a network from the verified bytes of a torch archive that holds tensors only.

        Raises:
            ValueError: It is no such archive, or the weights are not those of this network.
        """
        try:
            state = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError("The file is no archive of weights.") from error
        return cls(state)

    @torch.inference_mode()
    def probabilities(self, grey: Floats, where: npt.NDArray[np.bool_]) -> Floats:
        """Return how probable each class is in each voxel.

        Args:
            grey: Shape (slices, rows, columns), 1 mm each way, axes growing to the head, the back
                and the left, -1 to 1.
            where: Same shape. Elsewhere all is background, as it is in whole tiles at a time.

        Returns:
            Shape (5, slices, rows, columns).
        """
        found = np.zeros((CLASSES, *grey.shape), dtype=np.float32)
        found[0] = 1.0
        before, after = _margins(_TILE)
        tiles = [-(-size // _TILE) * _TILE for size in grey.shape]
        padding = [
            (before, after + tile - size) for tile, size in zip(tiles, grey.shape, strict=True)
        ]
        padded = np.pad(grey, padding, mode="edge")
        for tile in _tiles(grey.shape):
            if not where[tile].any():
                continue
            reach = tuple(slice(part.start, part.start + before + _TILE + after) for part in tile)
            patch = torch.from_numpy(np.ascontiguousarray(padded[reach]))
            told = self._tile(patch[None, None].to(self._device)).softmax(dim=1)[0].cpu().numpy()
            inside = tuple(slice(0, part.stop - part.start) for part in tile)
            found[(slice(None), *tile)] = told[(slice(None), *inside)]
        return found

    def _tile(self, patch: torch.Tensor) -> torch.Tensor:
        """Return the five outputs for the middle of a patch."""
        outputs = []
        for step, blocks in zip(STEPS, self._paths, strict=True):
            kept = _TILE // step + 2 * CONVOLUTIONS
            channels = _middle(patch, kept * step)
            channels = channels[..., step // 2 :: step, step // 2 :: step, step // 2 :: step]
            for block in blocks:
                channels = block(channels)
            outputs.append(functional.interpolate(channels, scale_factor=step, mode="nearest"))
        mixed = torch.cat(outputs, dim=1)
        for block in self._mixers:
            mixed = block(mixed)
        return mixed


class _Block:
    """Batch norm (with its running figures), PReLU, convolution, and the way around them."""

    def __init__(self, state: Mapping[str, torch.Tensor], name: str, device: torch.device) -> None:
        own = {
            key: state.get(f"{name}.{key}")
            for key in (
                *("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"),
                *("prelu.weight", "conv.weight"),
            )
        }
        there = {key: value.float() for key, value in own.items() if value is not None}
        norms = [there[key].shape for key in there if key.startswith("bn.")]
        convolution = there.get("conv.weight", torch.zeros(0))
        expected = torch.Size(convolution.shape[1:2])
        if len(there) < len(own) or convolution.ndim != 5 or set(norms) != {expected}:
            raise ValueError("The weights are not those of BLAST-CT's network.")
        self.weight = convolution.to(device)
        deviation = torch.sqrt(there["bn.running_var"] + _EPSILON)
        scale = there["bn.weight"] / deviation
        shift = there["bn.bias"] - there["bn.running_mean"] * scale
        self._scale = scale.to(device).view(1, -1, 1, 1, 1)
        self._shift = shift.to(device).view(1, -1, 1, 1, 1)
        self._slope = there["prelu.weight"].to(device)

    def __call__(self, channels: torch.Tensor) -> torch.Tensor:
        active = functional.prelu(channels * self._scale + self._shift, self._slope)
        convolved = functional.conv3d(active, self.weight)
        if convolved.shape[1] == channels.shape[1]:
            convolved += _middle(channels, *convolved.shape[2:])
        return convolved


def _margins(tile: int) -> tuple[int, int]:
    """Return how many voxels the widest path sees before and after a tile."""
    around = 2 * CONVOLUTIONS * STEPS[0]
    whole = tile + around
    before = whole // 2 - tile // 2
    return before, around - before


def _tiles(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    starts = [range(0, size, _TILE) for size in shape]
    for first in product(*starts):
        yield tuple(
            slice(start, min(start + _TILE, size)) for start, size in zip(first, shape, strict=True)
        )


def _middle(channels: torch.Tensor, *size: int) -> torch.Tensor:
    """Return the middle of an image, one voxel nearer to its end where that is not even."""
    sizes = size if len(size) == 3 else size * 3
    parts = [
        slice(whole // 2 - part // 2, whole // 2 + part // 2 + part % 2)
        for whole, part in zip(channels.shape[2:], sizes, strict=True)
    ]
    return channels[(slice(None), slice(None), *parts)]
