"""MeshNet, the small dilated networks of Brainchop, rebuilt in PyTorch from their own files.

A stack of 3 x 3 x 3 convolutions at full resolution whose dilation grows and shrinks again, then
one of 1 x 1 x 1 to the classes. ``model.json`` states the layers, ``model.pth`` holds their
weights, ``colormap*.json`` the names and colours of the classes.

    model = models.find("meshnet-tissues")
    network = MeshNet.read(model)
    head = conform(volume)
    labels = labels_onto(network.labels(head), head.grid, volume.grid)

Source: Fedorov et al. 2017, arXiv:1612.00940; Masoud et al. 2023, doi:10.21105/joss.05098;
MindGrab: Fani et al. 2025, arXiv:2506.11860.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.conform import Box, Conformed, LabelArray
    from pipelines.models import AddedModel

_CONFIGURATION = "model.json"
_WEIGHTS = "model.pth"
_PLANES = 16
"""Of a convolution computed at once: the network needs one copy of its channels, not several."""
_FEWEST_CHANNELS = 8
"""Of a hidden layer: PyTorch's kernels for fewer take five times as long (measured), so that a
narrower network is padded with channels of zeros."""
_QUANTILES = {"mindgrab": (0.02, 0.98), "meshnet-50": (0.01, 0.99)}
"""Between which grey values are stretched, for the models whose authors do not use the extremes."""
_CLIPPED = {"mindgrab"}
_TINY = 1e-3
"""Added to the range by MindGrab's authors, against a blank image."""


@dataclass(frozen=True)
class Layer:
    """One convolution; its padding is its dilation, so that the grid stays."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    dilation: int


@dataclass(frozen=True)
class MeshNet:
    """One network, ready.

    Attributes:
        layers: In their order; the last one makes the classes.
        activation: After every layer but the last: ``relu``, ``elu`` or ``gelu``.
        normalised: Each channel is normalised over the image after its convolution.
        quantiles: Of the whole image, which become 0 and 1; None: its smallest and largest value.
        clipped: What lies beyond them is clipped.
        names: Of the classes, by index; empty where the files do not tell.
        colors: sRGB 0..255 of the classes, ditto.
    """

    layers: tuple[Layer, ...]
    activation: str
    normalised: bool
    quantiles: tuple[float, float] | None = None
    clipped: bool = False
    names: tuple[str, ...] = ()
    colors: tuple[tuple[int, int, int], ...] = field(default=(), repr=False)

    @classmethod
    def read(cls, model: AddedModel) -> MeshNet:
        """Load a network from its verified files, onto a GPU where there is one.

        Raises:
            pipelines.models.ModelChanged: A file is not the one that was added.
            ValueError: The weights are not those of the layers that ``model.json`` states.
        """
        stated = json.loads(model.read(_CONFIGURATION))
        names, colors = _classes(model)
        return cls(
            layers=_layers(stated, _state(model.read(_WEIGHTS))),
            activation=next((name for name in ("elu", "gelu") if stated.get(name)), "relu"),
            normalised=bool(stated["bnorm"]),
            quantiles=_QUANTILES.get(model.name),
            clipped=model.name in _CLIPPED,
            names=names,
            colors=colors,
        )

    @property
    def reach(self) -> int:
        """How many voxels away a voxel still counts, if channels are not normalised."""
        return sum(layer.dilation for layer in self.layers if layer.weight.shape[-1] > 1)

    def labels(self, head: Conformed, box: Box | None = None) -> LabelArray:
        """Return the most probable class of each voxel, shape as ``head.voxels``.

        Args:
            head: On the 1 mm grid.
            box: Where to look: what is outside of it counts as black, and gets class 0. Costs
                time and memory in proportion. Not for a network that normalises its channels.
        """
        if box is not None and self.normalised:
            raise ValueError("This network's channels are normalised over the whole image.")
        return self.classes(self._stretched(head.voxels), box)

    @torch.inference_mode()
    def classes(self, grey: npt.NDArray[np.float32], box: Box | None = None) -> LabelArray:
        """Return the most probable class of each voxel of an image that is normalised already."""
        crop = np.ascontiguousarray(grey if box is None else grey[box])
        channels = torch.from_numpy(crop)[None, None].to(self.layers[0].weight.device)
        for layer in self.layers[:-1]:
            channels = _convolved(channels, layer)
            if self.normalised:
                _normalise(channels)
            _activate(channels, self.activation)
        labels: LabelArray = np.zeros(grey.shape, dtype=np.uint8)
        labels[box if box is not None else ...] = _most_probable(channels, self.layers[-1])
        return labels

    def _stretched(self, voxels: LabelArray) -> npt.NDArray[np.float32]:
        if self.quantiles is None:
            low, high, extra = float(voxels.min()), float(voxels.max()), 0.0
        else:
            low, high = (float(value) for value in np.quantile(voxels, self.quantiles))
            extra = _TINY if self.clipped else 0.0
        if not high > low:
            return np.zeros(voxels.shape, dtype=np.float32)
        grey = (voxels.astype(np.float32) - np.float32(low)) / np.float32(high - low + extra)
        return np.clip(grey, 0.0, 1.0, out=grey) if self.clipped else grey


def _state(content: bytes) -> Mapping[str, torch.Tensor]:
    """Return the tensors of a safetensors file, or of a torch archive that holds nothing else."""
    if content[:2] == b"PK":
        archive: Mapping[str, torch.Tensor] = torch.load(
            io.BytesIO(content), weights_only=True, map_location="cpu"
        )
        return archive
    return safetensors.torch.load(content)


def _layers(stated: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> tuple[Layer, ...]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    numbers = {name: int(name.split(".")[1]) for name in state}
    places = sorted(set(numbers.values()))
    if len(places) != len(stated["layers"]):
        raise ValueError(f"{len(places)} layers of weights for {len(stated['layers'])} stated.")
    layers = []
    for place, words in zip(places, stated["layers"], strict=True):
        own = {name.split(".")[-1]: state[name] for name in state if numbers[name] == place}
        weight = own["weight"].float().to(device, memory_format=torch.channels_last_3d)
        dilation, size = int(words["dilation"]), int(words["kernel_size"])
        if tuple(weight.shape[2:]) != (size,) * 3 or words["padding"] != dilation * (size // 2):
            raise ValueError("The weights are not of the layers that model.json states.")
        bias = own["bias"].float().to(device) if "bias" in own else None
        layers.append(Layer(weight, bias, dilation))
    return tuple(layers) if stated["bnorm"] else _widened(layers)


def _widened(layers: list[Layer]) -> tuple[Layer, ...]:
    """Pad hidden layers with channels that stay zero; not where zeros are normalised."""
    hidden = [max(_FEWEST_CHANNELS, layer.weight.shape[0]) for layer in layers[:-1]]
    outputs = [*hidden, layers[-1].weight.shape[0]]
    inputs = [layers[0].weight.shape[1], *hidden]
    widened = []
    for layer, into, out_of in zip(layers, outputs, inputs, strict=True):
        more, further = into - layer.weight.shape[0], out_of - layer.weight.shape[1]
        weight = functional.pad(layer.weight, (0, 0, 0, 0, 0, 0, 0, further, 0, more))
        bias = None if layer.bias is None else functional.pad(layer.bias, (0, more))
        weight = weight.contiguous(memory_format=torch.channels_last_3d)
        widened.append(Layer(weight, bias, layer.dilation))
    return tuple(widened)


def _classes(model: AddedModel) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    path = next((path for path in model.files if path.startswith("colormap")), None)
    if path is None:
        return (), ()
    stated = json.loads(model.read(path))
    colors = tuple(
        (int(red), int(green), int(blue))
        for red, green, blue in zip(stated["R"], stated["G"], stated["B"], strict=True)
    )
    return tuple(stated["labels"]), colors


def _convolved(channels: torch.Tensor, layer: Layer) -> torch.Tensor:
    """Convolve, a slab of planes after the other, into the same memory where it fits.

    Args:
        channels: Shape (1, channels, depth, height, width); may be overwritten.
        layer: Its dilation is at most ``_PLANES``.
    """
    into, reach = layer.weight.shape[0], layer.dilation
    depth = channels.shape[2]
    result = channels
    if into != channels.shape[1]:
        shape = (1, into, *channels.shape[2:])
        result = torch.empty(shape, device=channels.device, memory_format=torch.channels_last_3d)
    black = torch.zeros_like(channels[:, :, :1]).expand(-1, -1, reach, -1, -1)
    before = black
    for first in range(0, depth, _PLANES):
        past = min(first + _PLANES, depth)
        after = channels[:, :, past : past + reach]
        slab = torch.cat(
            (before, channels[:, :, first:past], after, black[:, :, after.shape[2] :]), dim=2
        )
        # What the next slab needs of this one, which is about to be overwritten.
        before = slab[:, :, past - first : past - first + reach]
        result[:, :, first:past] = functional.conv3d(
            slab, layer.weight, layer.bias, padding=(0, reach, reach), dilation=reach
        )
    return result


def _normalise(channels: torch.Tensor) -> None:
    """Bring each channel to mean 0 and variance 1, in place (GroupNorm, a group per channel)."""
    for channel in channels[0]:
        variance, mean = torch.var_mean(channel, correction=0)
        channel.sub_(mean).mul_(torch.rsqrt(variance + 1e-5))


def _activate(channels: torch.Tensor, activation: str) -> None:
    """Apply the activation in place."""
    for planes in channels.split(_PLANES, dim=2):
        if activation == "gelu":
            planes.copy_(functional.gelu(planes))
        elif activation == "elu":
            functional.elu_(planes)
        else:
            planes.relu_()


def _most_probable(channels: torch.Tensor, layer: Layer) -> LabelArray:
    """Return the class with the largest output, a slab of planes after the other."""
    slabs = [
        functional.conv3d(slab, layer.weight, layer.bias)[0].argmax(dim=0).to(torch.uint8)
        for slab in channels.split(_PLANES, dim=2)
    ]
    return np.asarray(torch.cat(slabs).cpu().numpy(), dtype=np.uint8)
