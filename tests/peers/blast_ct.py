"""Weights for BLAST-CT's network: drawn at random, or set by hand so that it finds dense blood."""

from __future__ import annotations

import io
from itertools import pairwise

import torch

from pipelines.head_ct_haemorrhage.deepmedic import CLASSES, STEPS

_WIDTHS = (1, 30, 30, 40, 40, 40, 40, 50, 50)
_MIXED = (150, 250, 250, CLASSES)


def random_state(seed: int = 0) -> dict[str, torch.Tensor]:
    """Return a state with the names and shapes of the published files."""
    draw = torch.Generator().manual_seed(seed)
    state = {}
    for name, into, out, size in _blocks():
        state[f"{name}.bn.weight"] = torch.ones(into)
        state[f"{name}.bn.bias"] = torch.zeros(into)
        state[f"{name}.bn.running_mean"] = torch.randn(into, generator=draw) * 0.1
        state[f"{name}.bn.running_var"] = torch.rand(into, generator=draw) + 0.5
        state[f"{name}.prelu.weight"] = torch.tensor([0.25])
        scale = (2.0 / (into * size**3)) ** 0.5
        state[f"{name}.conv.weight"] = scale * torch.randn(
            (out, into, size, size, size), generator=draw
        )
    return state


def dense_blood(label: int, least_grey: float) -> dict[str, torch.Tensor]:
    """Return a state that calls voxels brighter than ``least_grey`` (-1 to 1) ``label``.

    Every block passes its first channel on; the last ones compare it with the threshold.
    """
    state = {}
    for name, into, out, size in _blocks():
        state[f"{name}.bn.weight"] = torch.ones(into)
        state[f"{name}.bn.bias"] = torch.zeros(into)
        state[f"{name}.bn.running_mean"] = torch.zeros(into)
        state[f"{name}.bn.running_var"] = torch.ones(into)
        state[f"{name}.prelu.weight"] = torch.ones(1)
        weight = torch.zeros((out, into, size, size, size))
        if into != out:  # where channels stay as many, a block adds its input to nothing
            weight[0, 0, size // 2, size // 2, size // 2] = 1.0
        state[f"{name}.conv.weight"] = weight
    # The mixers' first channel is the 5 mm path's; the 1 mm path's comes after the other two.
    first = state["fully_connected.0.conv.weight"]
    first.zero_()
    first[0, 2 * _WIDTHS[-1], 0, 0, 0] = 1.0
    last = state["fully_connected.2.conv.weight"]
    last.zero_()
    last[label, 0, 0, 0, 0] = 500.0
    state["fully_connected.2.bn.running_mean"][0] = least_grey
    last[0, 1, 0, 0, 0] = 5.0
    state["fully_connected.2.bn.bias"][1] = 1.0  # background, where nothing speaks for more
    return state


def as_file(state: dict[str, torch.Tensor]) -> bytes:
    written = io.BytesIO()
    torch.save(state, written)
    return written.getvalue()


def _blocks():
    """Yield name, channels in, channels out and kernel size of every block."""
    for number, step in enumerate(STEPS):
        for layer, (into, out) in enumerate(pairwise(_WIDTHS), start=1):
            yield f"path({step}, {step}, {step}){number}.path.{layer}", into, out, 3
    for layer, (into, out) in enumerate(pairwise(_MIXED)):
        yield f"fully_connected.{layer}", into, out, 1
