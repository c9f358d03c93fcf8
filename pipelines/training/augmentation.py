"""Make images look otherwise than they are, as other patients and scanners would: own torch ops.

Images are (batch, channels, axes...) with two or three spatial axes. Every chance comes from the
generator that is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Augmentation:
    """How far images are changed, at most.

    Attributes:
        flips: Axes along which half of the images are mirrored, from 0 for the first spatial
            one. None by default: a body has sides, and a mirrored one is another finding.
        turn: Degrees of rotation, either way.
        scale: Share by which images grow or shrink, either way.
        shift: Share of the size by which they move along each axis, either way.
        gain: Share by which intensities are multiplied more or less.
        offset: What is added to intensities, either way, in their standard deviation.
        noise: Standard deviation of noise, in that of the intensities.
    """

    flips: tuple[int, ...] = ()
    turn: float = 10.0
    scale: float = 0.1
    shift: float = 0.05
    gain: float = 0.15
    offset: float = 0.1
    noise: float = 0.05


def augmented(
    images: torch.Tensor,
    generator: torch.Generator,
    amount: Augmentation,
    masks: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return changed images, and their masks moved alike (nearest neighbour).

    Beyond the border an image goes on as its border; a mask is 0 there.
    """
    for axis in amount.flips:
        chosen = torch.rand(len(images), generator=generator) < 0.5
        images = _flip(images, chosen, axis)
        masks = None if masks is None else _flip(masks, chosen, axis)
    grid = functional.affine_grid(
        _matrices(images, generator, amount),
        [len(images), 1, *images.shape[2:]],
        align_corners=False,
    )
    images = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    if masks is not None:
        moved = functional.grid_sample(masks.float(), grid, mode="nearest", align_corners=False)
        masks = moved.to(masks.dtype)
    return _intensities(images, generator, amount), masks


def _flip(values: torch.Tensor, chosen: torch.Tensor, axis: int) -> torch.Tensor:
    apart = chosen.reshape(-1, *[1] * (values.ndim - 1))
    return torch.where(apart, values.flip(axis + 2), values)


def _uniform(count: int, size: int, most: float, generator: torch.Generator) -> torch.Tensor:
    return (2 * torch.rand(count, size, generator=generator) - 1) * most


def _matrices(
    images: torch.Tensor, generator: torch.Generator, amount: Augmentation
) -> torch.Tensor:
    """Return the affine map of each image in ``affine_grid``'s coordinates, -1 to 1 an axis.

    Those are (column, row, slice) and shares of the size, so a rotation goes through sizes.
    """
    axes = images.ndim - 2
    count = len(images)
    sizes = torch.tensor(images.shape[2:][::-1], dtype=torch.float32)
    maps = torch.eye(axes).repeat(count, 1, 1)
    planes = list(pairwise(range(axes))) + ([(0, 2)] if axes == 3 else [])
    for first, second in planes:
        angle = _uniform(count, 1, amount.turn, generator)[:, 0] * torch.pi / 180
        turn = torch.eye(axes).repeat(count, 1, 1)
        turn[:, first, first] = turn[:, second, second] = angle.cos()
        turn[:, first, second], turn[:, second, first] = -angle.sin(), angle.sin()
        maps = maps @ turn
    maps = maps * (1 + _uniform(count, 1, amount.scale, generator))[:, :, None]
    maps = maps * sizes[None, None, :] / sizes[None, :, None]
    shift = 2 * _uniform(count, axes, amount.shift, generator)
    return torch.cat([maps, shift[:, :, None]], dim=2)


def _intensities(
    images: torch.Tensor, generator: torch.Generator, amount: Augmentation
) -> torch.Tensor:
    count = len(images)
    one_each = (count, *[1] * (images.ndim - 1))
    deviation = images.reshape(count, -1).std(dim=1).reshape(one_each)
    gain = 1 + _uniform(count, 1, amount.gain, generator).reshape(one_each)
    offset = _uniform(count, 1, amount.offset, generator).reshape(one_each) * deviation
    noise = torch.randn(images.shape, generator=generator) * amount.noise * deviation
    return images * gain + offset + noise
