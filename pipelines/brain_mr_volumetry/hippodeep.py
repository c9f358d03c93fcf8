"""hippodeep: the left and the right hippocampus on a T1-weighted head.

One network sees the head in 64 x 64 x 64 voxels, a second one reads from its tissues how the head
lies in MNI space, and a third outlines a hippocampus in a box cut out there at 1 mm; it knows the
right one, so the left one is shown to it mirrored. The layers and numbers are the authors', written
anew in PyTorch and fed with their published weights.

Source: Thyreau et al. 2018, Med Image Anal 43:214-228, doi:10.1016/j.media.2017.11.004;
bthyreau/hippodeep_pytorch (MIT).
"""

from __future__ import annotations

import io
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from pipelines.geometry import reorder_towards

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.conform import Box
    from pipelines.geometry import Vector
    from pipelines.models import AddedModel
    from pipelines.study import Volume

_HEAD = "torchparams/params_head_00075_00000.pt"
_AFFINE = "torchparams/paramsaffineta_00079_00000.pt"
_HIPPOCAMPUS = "torchparams/hippodeep.pt"

LAS: tuple[Vector, Vector, Vector] = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))
"""Array axes growing to the left, the front and the head: those of the MNI template."""
_COARSE = (64, 64, 64)
_MNI_BOX_MM = ((90.0, -90.0), (-126.0, 90.0), (-72.0, 108.0))
"""First and last voxel centre of the second network's template along each axis (MNI, RAS)."""
_REGION_SHAPE = (107, 72, 68)
_REGION_TO_MNI = np.array(
    [[-1.0, 0.0, 0.0, 54.0], [0.0, 1.0, 0.0, -59.0], [0.0, 0.0, 1.0, -45.0], [0.0, 0.0, 0.0, 1.0]]
)
_RIGHT = np.s_[6:54, :, 2:-2]
_LEFT = np.s_[-7:-55:-1, :, 2:-2]
"""Of the region; the left one runs the other way, so that it looks like a right one."""
_VALID = np.s_[2:-2, 2:-2, 2:-2]
"""Of what the third network sees, for what it answers."""

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
Array = npt.NDArray[np.float32]


class Hippodeep:
    """The three networks, loaded and ready."""

    def __init__(self, model: AddedModel) -> None:
        """Load the weights from verified bytes.

        Raises:
            pipelines.models.ModelChanged: A file is not the one that was added.
        """
        self._head, self._affine, self._hippocampus = (
            _Weights(model.read(path)) for path in (_HEAD, _AFFINE, _HIPPOCAMPUS)
        )

    @torch.inference_mode()
    def hippocampi(self, volume: Volume) -> tuple[BoolArray, BoolArray]:
        """Return the left and the right hippocampus on the volume's own grid.

        Args:
            volume: T1-weighted head, as it was scanned.
        """
        to_las = reorder_towards(volume.grid, LAS)
        grey = torch.from_numpy(np.ascontiguousarray(to_las.apply(volume.voxels))).nan_to_num()
        grey = (grey - grey.mean()) / grey.std(correction=0)
        coarse = functional.interpolate(
            grey[None, None], _COARSE, mode="trilinear", align_corners=True
        )
        tissues = _head_network(self._head, coarse)
        lies = _affine_network(self._affine, tissues[:, [1, 3]] * tissues[:, :1])
        to_head = _unit_to_index(tuple(grey.shape)) @ lies @ _mni_to_unit() @ _REGION_TO_MNI
        region = _sampled(grey, to_head, tuple(slice(0, size) for size in _REGION_SHAPE))
        region = (region - region.mean()) / region.std()
        right, left = (region[side][None] for side in (_RIGHT, _LEFT))
        answers = _hippocampus_network(
            self._hippocampus, torch.from_numpy(np.stack((right, left)))
        )[:, 0].numpy()
        # The authors stretch what is over one half, and drop the rest.
        answers = np.clip(2 * answers - 0.5, 0, 1) * (answers > 0.5)
        masks = []
        for side, answer in ((_LEFT, answers[1]), (_RIGHT, answers[0])):
            share = np.zeros(_REGION_SHAPE, dtype=np.float32)
            share[side][_VALID] = answer
            mask = _mask(share, np.linalg.inv(to_head), tuple(grey.shape))
            masks.append(np.ascontiguousarray(to_las.undo(mask)))
        return masks[0], masks[1]


class _Weights:
    """The tensors of one network, and the layers they belong to."""

    def __init__(self, content: bytes) -> None:
        self._tensors: Mapping[str, torch.Tensor] = torch.load(
            io.BytesIO(content), weights_only=True, map_location="cpu"
        )

    def convolved(self, name: str, image: torch.Tensor, padding: int = 1) -> torch.Tensor:
        weight, bias = self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"]
        return functional.conv3d(image, weight, bias, padding=padding)

    def batch_normalised(self, name: str, image: torch.Tensor) -> torch.Tensor:
        mean, variance, weight, bias = (
            self._tensors[f"{name}.{part}"]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(image, mean, variance, weight, bias)

    def layer_normalised(self, name: str, image: torch.Tensor) -> torch.Tensor:
        weight, bias = self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"]
        return functional.layer_norm(image, weight.shape, weight, bias)


def _head_network(weights: _Weights, image: torch.Tensor) -> torch.Tensor:
    """Return brain, cortex, cerebrum and white matter, 0..1, shape (1, 4, 64, 64, 64).

    A U-Net of four levels.
    """
    seen = []
    for level in range(4):
        image = functional.max_pool3d(image, 2) if level else image
        image = functional.elu(weights.convolved(f"conv{level}a", image))
        image = weights.convolved(f"conv{level}b", image)
        image = functional.elu(weights.batch_normalised(f"bn{level}a", image))
        seen.append(image)
    for level in (2, 1, 0):
        image = functional.interpolate(image, scale_factor=2, mode="nearest")
        image = functional.elu(weights.convolved(f"conv{level}u", image))
        image = weights.convolved(f"conv{level}v", torch.cat((image, seen[level]), dim=1))
        image = functional.elu(weights.batch_normalised(f"bn{level}u", image))
    return torch.sigmoid(weights.convolved("conv1x", image, padding=0))


def _affine_network(weights: _Weights, tissues: torch.Tensor) -> FloatArray:
    """Return the 4x4 matrix from the template's unit cube to the head's, both -1..1."""
    image = functional.relu(weights.convolved("convaff1", tissues))
    for number in (2, 3, 4):
        image = weights.convolved(f"convaff{number}", functional.max_pool3d(image, 2))
        image = functional.relu(weights.layer_normalised(f"bnaff{number}", image))
    image = weights.convolved("convaff5", functional.max_pool3d(image, 2), padding=0)
    image = weights.convolved("convaff6", functional.relu(image), padding=0)
    matrix = np.eye(4)
    matrix[:3] += image.reshape(3, 4).numpy()
    return matrix


def _hippocampus_network(weights: _Weights, image: torch.Tensor) -> torch.Tensor:
    """Return the hippocampus, 0..1, for boxes of 1 mm; four voxels smaller along each axis."""
    for name in ("conv0a_0", "conv0a_1", "conv0a", "convf1"):
        image = functional.relu(weights.convolved(name, image, padding=0))
    fine = image
    for norm, first, second in (("bn1", "convout0", "convout1"), ("bn2", "convout2p", "convout2")):
        pooled = functional.max_pool3d(image, 2)
        image = functional.relu(weights.convolved(first, weights.batch_normalised(norm, pooled)))
        image = functional.relu(weights.convolved(second, image) + pooled)
    image = functional.relu(weights.convolved("convlx3", image))
    image = functional.interpolate(image, scale_factor=2, mode="nearest")
    image = functional.relu(weights.convolved("convlx5", image))
    image = functional.interpolate(image, scale_factor=2, mode="nearest")
    image = functional.relu(weights.convolved("convlx7", image))
    first_answer = torch.sigmoid(weights.convolved("convlx8", image, padding=0))
    near = torch.sigmoid(weights.convolved("blur", first_answer, padding=3))
    image = functional.leaky_relu(weights.convolved("conv_extract", near * fine))
    image = functional.relu(weights.convolved("convmix", torch.cat((first_answer, image), dim=1)))
    return torch.sigmoid(weights.convolved("convout1x", image, padding=0))


def _unit_to_index(shape: tuple[int, ...]) -> FloatArray:
    """Return the matrix from -1..1 along each axis to array indices."""
    half = (np.array(shape) - 1) / 2
    matrix = np.diag([*half, 1.0])
    matrix[:3, 3] = half
    return matrix


def _mni_to_unit() -> FloatArray:
    first, last = np.array(_MNI_BOX_MM).T
    matrix = np.diag([*(2 / (last - first)), 1.0])
    matrix[:3, 3] = -(first + last) / (last - first)
    return matrix


def _sampled(image: torch.Tensor, to_image: FloatArray, box: tuple[slice, ...]) -> Array:
    """Return ``image`` at the indices of a box on another grid, interpolated linearly."""
    to_unit = np.linalg.inv(_unit_to_index(tuple(image.shape))) @ to_image
    lines = [torch.arange(part.start, part.stop, dtype=torch.float32) for part in box]
    index = torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1)
    matrix = torch.from_numpy(to_unit).float()
    unit = index @ matrix[:3, :3].T + matrix[:3, 3]
    sampled = functional.grid_sample(image[None, None], unit.flip(-1)[None], align_corners=True)
    return np.asarray(sampled[0, 0].numpy(), dtype=np.float32)


def _mask(share: Array, to_region: FloatArray, shape: tuple[int, ...]) -> BoolArray:
    """Return, on the head's grid, where a share of the region is at least one half."""
    mask: BoolArray = np.zeros(shape, dtype=np.bool_)
    corners = np.array([[0, size - 1] for size in _REGION_SHAPE])
    eight = np.array([[*index, 1.0] for index in product(*corners)])
    reached = (np.linalg.inv(to_region) @ eight.T)[:3]
    low = np.clip(np.floor(reached.min(axis=1)).astype(int), 0, shape)
    high = np.clip(np.ceil(reached.max(axis=1)).astype(int) + 1, 0, shape)
    box: Box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    if (low < high).all():
        mask[box] = _sampled(torch.from_numpy(share), to_region, box) >= 0.5
    return mask
