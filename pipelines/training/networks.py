"""The networks that the generic recipes train."""

from __future__ import annotations

import torch
from torch import nn


class TumourClassifier(nn.Module):
    """Three stages of convolution and pooling, a dense layer, one output a label (logits).

    32, 64 and 128 filters, 512 units: the smallest network worth the name. It takes images of
    ``SIZE`` and one channel, shape (batch, 1, 150, 150).
    """

    SIZE = (150, 150)

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            *_stage(1, 32),
            *_stage(32, 64),
            *_stage(64, 128),
        )
        self.dense = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(128 * (150 // 8) ** 2, 512),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(512, labels),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits, shape (batch, labels)."""
        logits: torch.Tensor = self.dense(self.stages(images))
        return logits


def _stage(channels: int, filters: int) -> tuple[nn.Module, ...]:
    return (nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))


class UNet(nn.Module):
    """A small U-Net (Ronneberger et al. 2015, arXiv:1505.04597) in two or three dimensions.

    Every level halves the axes and doubles the channels; sizes are multiples of
    ``UNet.DIVISOR``. Instance normalisation, as batches are small (Isensee et al. 2021, Nat
    Methods 18:203-211). One logit map a class.
    """

    LEVELS = 3
    DIVISOR = 2**LEVELS

    def __init__(self, dimensions: int, classes: int, width: int = 16) -> None:
        super().__init__()
        convolution = nn.Conv3d if dimensions == 3 else nn.Conv2d
        transposed = nn.ConvTranspose3d if dimensions == 3 else nn.ConvTranspose2d
        widths = [width * 2**level for level in range(self.LEVELS + 1)]
        self.down = nn.ModuleList(
            _block(dimensions, before, after)
            for before, after in zip([1, *widths], widths, strict=False)
        )
        self.pool = nn.MaxPool3d(2) if dimensions == 3 else nn.MaxPool2d(2)
        self.up = nn.ModuleList(
            transposed(widths[level + 1], widths[level], 2, stride=2)
            for level in reversed(range(self.LEVELS))
        )
        self.join = nn.ModuleList(
            _block(dimensions, 2 * widths[level], widths[level])
            for level in reversed(range(self.LEVELS))
        )
        self.head = convolution(width, classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits, shape (batch, classes, axes...)."""
        kept: list[torch.Tensor] = []
        x = images
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.pool(x))
            kept.append(x)
        for step, (up, join) in enumerate(zip(self.up, self.join)):  # noqa: B905 - TorchScript
            x = join(torch.cat([kept[len(kept) - 2 - step], up(x)], dim=1))
        logits: torch.Tensor = self.head(x)
        return logits


def _block(dimensions: int, channels: int, out: int) -> nn.Sequential:
    convolution = nn.Conv3d if dimensions == 3 else nn.Conv2d
    norm = nn.InstanceNorm3d if dimensions == 3 else nn.InstanceNorm2d
    layers: list[nn.Module] = []
    for before in (channels, out):
        layers += [
            convolution(before, out, 3, padding=1, bias=False),
            norm(out, affine=True),
            nn.LeakyReLU(0.01),
        ]
    return nn.Sequential(*layers)
