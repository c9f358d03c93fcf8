"""A convolutional and a recurrent network: ten seconds of one lead in, fibrillation over time out.

Both take ``prepare``'s samples, float32, shape (batch, FRAME * frames), and give one logit per
frame of ``FRAME_S``, shape (batch, FRAMES).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pipelines.ecg_atrial_fibrillation.windows import SAMPLING_HZ, WINDOW

DECIMATION = 4
RATE_HZ = SAMPLING_HZ / DECIMATION
"""125 Hz: a QRS complex has little above 60 Hz, and a beat's place is known to 8 ms."""
FRAME = 16
"""Samples at ``RATE_HZ`` per frame: 0.128 s."""
SAMPLES = -(-WINDOW // DECIMATION // FRAME) * FRAME
FRAMES = SAMPLES // FRAME
MOST = 3.0
"""Beyond this many times the usual deflection a sample tells only that it is large."""


def prepare(samples_mv: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a window as the networks take it, free of offset and gain.

    Args:
        samples_mv: float32, at most ``WINDOW`` samples at 500 Hz.

    Returns:
        float32, shape (SAMPLES,): the mean of every four samples, less the median, in units of
        the 99th percentile of its size; zeros behind the end.
    """
    count = samples_mv.shape[0] // DECIMATION
    coarse = samples_mv[: count * DECIMATION].reshape(count, DECIMATION).mean(axis=1)
    coarse = coarse - np.median(coarse)
    usual = max(1e-6, float(np.percentile(np.abs(coarse), 99)))
    prepared = np.zeros(SAMPLES, dtype=np.float32)
    prepared[:count] = np.clip(coarse / usual, -MOST, MOST)
    return prepared


class _Down(nn.Sequential):
    """Half the samples, other channels."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(
            nn.Conv1d(channels, out, kernel_size=9, stride=2, padding=4),
            nn.GroupNorm(4, out),
            nn.ReLU(),
        )


class _Residual(nn.Module):
    """A dilated convolution that is added to what came in."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(channels, channels, kernel_size=3, padding=dilation, dilation=dilation),
            nn.GroupNorm(4, channels),
            nn.ReLU(),
            nn.Dropout(0.2),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the layers' answer; shape (batch, channels, frames) stays."""
        return x + self.layers(x)  # type: ignore[no-any-return]


class Cnn(nn.Module):
    """Four strided convolutions, then dilated ones that see four seconds to each side."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_Down(1, 16), _Down(16, 24), _Down(24, 32), _Down(32, 48))
        self.context = nn.Sequential(*(_Residual(48, dilation) for dilation in (1, 2, 4, 8, 16)))
        self.head = nn.Conv1d(48, 1, kernel_size=1)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Return the logits, shape (batch, FRAMES)."""
        logits: torch.Tensor = self.head(self.context(self.stem(samples[:, None])))
        return logits[:, 0]


class Lstm(nn.Module):
    """Four strided convolutions, then two layers of LSTM that read forwards and backwards."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_Down(1, 16), _Down(16, 24), _Down(24, 32), _Down(32, 32))
        self.context = nn.LSTM(
            32, 32, num_layers=2, dropout=0.2, batch_first=True, bidirectional=True
        )
        self.head = nn.Linear(64, 1)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Return the logits, shape (batch, FRAMES)."""
        over_time, _state = self.context(self.stem(samples[:, None]).transpose(1, 2))
        logits: torch.Tensor = self.head(over_time)
        return logits[:, :, 0]


NETWORKS = {"cnn": Cnn, "lstm": Lstm}
