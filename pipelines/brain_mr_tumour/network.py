"""The networks of Wang et al. 2017, rebuilt in PyTorch from their description and their weights.

One network looks at slices of one plane. Its convolutions lie within slices, at three
resolutions and with growing dilation; four fusions of three neighbouring slices each let it look
four slices to either side. So slices are the batch of plain 2-D convolutions, which is faster on
CPUs than 3-D ones, and a run of ``n`` output slices takes ``n + 8`` in.

Batch normalisation takes its statistics from the run itself, as its authors' code does when it
tests, too: the running means of the checkpoint are not used.

Source: Wang et al. 2017, arXiv:1709.00382; shapes of the weights in the checkpoints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from pipelines.brain_mr_tumour.checkpoint import CorruptCheckpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pipelines.brain_mr_tumour.checkpoint import Checkpoint

MARGIN_SLICES = 4
"""Slices that are needed on either side of those to be judged."""
DIVISOR = 4
"""Rows and columns are halved twice."""
CHANNELS = 4

_EPSILON = 1e-5
"""Of NiftyNet's batch normalisation, with which the networks were trained."""
_FEATURES = 32
_DILATIONS = {"block3_1": 1, "block3_2": 2, "block3_3": 3, "block4_1": 3, "block4_2": 2}
_TRAINING_ONLY = ("Adam", "moving_", "biased", "local_step", "_power")

Shape = tuple[int, ...]


def expected_shapes(*, halves_twice: bool) -> dict[str, Shape]:
    """Return name -> shape of every weight, without the network's own name in front.

    Args:
        halves_twice: Whether rows and columns are halved twice (whole tumour, core) or once
            (enhancing tumour).
    """
    shapes: dict[str, Shape] = {}

    def scale(place: str, activation: str, channels: int) -> None:
        shapes[f"{place}/beta"] = shapes[f"{place}/gamma"] = (channels,)
        shapes[f"{activation}/alpha"] = (channels,)

    def unit(name: str, kind: str, kernel: Shape, channels: int) -> None:
        shapes[f"{name}_bn_prelu/{kind}_/w"] = kernel
        scale(f"{name}_bn_prelu/bn_", f"{name}_bn_prelu/prelu_acti_", channels)

    blocks = ["block1_1", "block1_2", "block2_1", "block2_2", *_DILATIONS, "block4_3"]
    for block in blocks:
        for layer in (0, 1):
            channels = CHANNELS if (block, layer) == ("block1_1", 0) else _FEATURES
            scale(f"{block}/bn_{layer}", f"{block}/prelu_acti_{layer}", channels)
            shapes[f"{block}/conv_{layer}/w"] = (1, 3, 3, channels, _FEATURES)
    for number in range(1, 5):
        unit(f"fuse{number}", "conv", (3, 1, 1, _FEATURES, _FEATURES), _FEATURES)
    for number in (1, 2) if halves_twice else (2,):
        unit(f"downsample{number}", "conv", (1, 3, 3, _FEATURES, _FEATURES), _FEATURES)
    if halves_twice:
        unit("pred_up1", "deconv", (1, 3, 3, 2, _FEATURES), 2)
    else:
        shapes["pred1/w"] = (1, 3, 3, _FEATURES, 2)
    for number, channels in ((2, 4), (3, 8)):
        unit(f"pred_up{number}_1", "deconv", (1, 3, 3, channels, _FEATURES), channels)
        if halves_twice:
            unit(f"pred_up{number}_2", "deconv", (1, 3, 3, channels, channels), channels)
    shapes["final_pred/w"] = (1, 3, 3, 2 + 4 + 8, 2)
    return shapes


def read_weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Return the weights of a network, without what only training needs.

    Raises:
        CorruptCheckpoint: They are not those of such a network.
    """
    names = [name for name in checkpoint.names if not any(word in name for word in _TRAINING_ONLY)]
    weights = {name.partition("/")[2]: torch.from_numpy(checkpoint.tensor(name)) for name in names}
    shapes = expected_shapes(halves_twice="pred1/w" not in weights)
    if {name: tuple(weight.shape) for name, weight in weights.items()} != shapes:
        raise CorruptCheckpoint("The checkpoint holds another network than Wang's of 2017.")
    return weights


class TumourNetwork:
    """One network: grey values of a run of slices to the probability of its class."""

    def __init__(self, weights: Mapping[str, torch.Tensor], device: torch.device) -> None:
        """Take the weights, named and shaped as in ``expected_shapes``."""
        self._halves_twice = "pred1/w" not in weights
        self._weights = {name: _as_torch(name, w).to(device) for name, w in weights.items()}
        self._device = device

    def probability(self, slices: torch.Tensor) -> torch.Tensor:
        """Return the probability of the class this network looks for.

        Args:
            slices: float32, shape (n + 8, 4, rows, columns), rows and columns divisible by 4;
                channels are FLAIR, T1, T1c, T2.

        Returns:
            float32, shape (n, rows, columns), of the slices in the middle.
        """
        with torch.inference_mode():
            run = slices.to(self._device, memory_format=torch.channels_last)
            return self._scores(run).softmax(dim=1)[:, 1].cpu()

    def _scores(self, run: torch.Tensor) -> torch.Tensor:
        fine = self._fused("fuse1", self._blocks(run, ("block1_1", "block1_2")))
        if self._halves_twice:
            fine = self._halved("downsample1", fine)
        fine = self._fused("fuse2", self._blocks(fine, ("block2_1", "block2_2")))
        middle = self._halved("downsample2", fine)
        middle = self._fused("fuse3", self._blocks(middle, ("block3_1", "block3_2", "block3_3")))
        coarse = self._fused("fuse4", self._blocks(middle, ("block4_1", "block4_2", "block4_3")))
        fine, middle = fine[2:-2], middle[1:-1]
        fine = (
            self._doubled("pred_up1", fine)
            if self._halves_twice
            else functional.conv2d(fine, self._weights["pred1/w"], padding=1)
        )
        steps = (1, 2) if self._halves_twice else (1,)
        for step in steps:
            middle = self._doubled(f"pred_up2_{step}", middle)
            coarse = self._doubled(f"pred_up3_{step}", coarse)
        seen = torch.cat((fine, middle, coarse), dim=1)
        return functional.conv2d(seen, self._weights["final_pred/w"], padding=1)

    def _blocks(self, features: torch.Tensor, names: Iterable[str]) -> torch.Tensor:
        """Residual blocks of two convolutions each, normalised and activated before them."""
        for name in names:
            dilation = _DILATIONS.get(name, 1)
            change = features
            for layer in (0, 1):
                change = self._scaled(change, f"{name}/bn_{layer}", f"{name}/prelu_acti_{layer}")
                change = functional.conv2d(
                    change,
                    self._weights[f"{name}/conv_{layer}/w"],
                    padding=dilation,
                    dilation=dilation,
                )
            # The first block has 4 channels in and 32 out: NiftyNet adds them in the middle.
            first = (_FEATURES - features.shape[1]) // 2
            change[:, first : first + features.shape[1]] += features
            features = change
        return features

    def _fused(self, name: str, features: torch.Tensor) -> torch.Tensor:
        """Convolve each slice with its two neighbours; the outermost are lost."""
        before, here, after = self._weights[f"{name}_bn_prelu/conv_/w"]
        fused = functional.conv2d(features[:-2], before)
        fused += functional.conv2d(features[1:-1], here)
        fused += functional.conv2d(features[2:], after)
        return self._unit(name, fused)

    def _halved(self, name: str, features: torch.Tensor) -> torch.Tensor:
        # TensorFlow's SAME padding of a stride of 2 is at the far end only.
        padded = functional.pad(features, (0, 1, 0, 1))
        weight = self._weights[f"{name}_bn_prelu/conv_/w"]
        return self._unit(name, functional.conv2d(padded, weight, stride=2))

    def _doubled(self, name: str, features: torch.Tensor) -> torch.Tensor:
        weight = self._weights[f"{name}_bn_prelu/deconv_/w"]
        doubled = functional.conv_transpose2d(features, weight, stride=2)[..., :-1, :-1]
        return self._unit(name, doubled)

    def _unit(self, name: str, features: torch.Tensor) -> torch.Tensor:
        place = f"{name}_bn_prelu"
        return self._scaled(features, f"{place}/bn_", f"{place}/prelu_acti_")

    def _scaled(self, features: torch.Tensor, place: str, activation: str) -> torch.Tensor:
        """Normalise over the run, per channel, then apply the leaky activation."""
        scaled = functional.batch_norm(
            features,
            running_mean=None,
            running_var=None,
            weight=self._weights[f"{place}/gamma"],
            bias=self._weights[f"{place}/beta"],
            training=True,
            eps=_EPSILON,
        )
        return functional.prelu(scaled, self._weights[f"{activation}/alpha"])


def _as_torch(name: str, weight: torch.Tensor) -> torch.Tensor:
    """Return a kernel in PyTorch's order of axes.

    TensorFlow keeps (slices, rows, columns, in, out), for transposed convolutions out before in.
    """
    if weight.dim() == 1:
        return weight
    kernel = weight.permute(0, 4, 3, 1, 2).contiguous()
    if "/conv_/w" in name and len(kernel) == 3:
        return kernel  # of a fusion: one 1 x 1 kernel for each of three slices
    return kernel[0].contiguous()
