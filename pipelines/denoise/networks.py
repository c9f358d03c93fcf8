"""The two networks: a residual CNN, and a conditional variational autoencoder.

Both see an image divided by its own noise level, so that the noise they remove is always about 1:
one network serves every dose, and MR with its arbitrary unit. Neither sees nor changes the mean of
a neighbourhood, by construction.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import nn
from torch.nn import functional

NEIGHBOURHOOD_PX: Final = 31
"""What is added to the image has mean 0 over each square of this side."""

LATENT: Final = 12
_WIDTH = 24
_DILATIONS = (2, 3, 2, 1)


def _high_pass(x: torch.Tensor) -> torch.Tensor:
    """Return ``x`` less the mean of each neighbourhood, which at an edge is what there is of it."""
    size, half = NEIGHBOURHOOD_PX, NEIGHBOURHOOD_PX // 2
    # One axis after the other: a sixteenth of the additions.
    columns = functional.avg_pool2d(x, (size, 1), 1, (half, 0), count_include_pad=False)
    return x - functional.avg_pool2d(columns, (1, size), 1, (0, half), count_include_pad=False)


def _seen(image: torch.Tensor) -> torch.Tensor:
    """Return what a network sees: an image without its slow part, and with its edges compressed.

    Args:
        image: Shape (images, 1, rows, columns), in units of its noise.

    Returns:
        Shape (images, 2, rows, columns).
    """
    fine = _high_pass(image)
    return torch.cat((fine / 10.0, torch.asinh(fine)), dim=1)


class ResidualCnn(nn.Module):
    """Six convolutions, the middle ones dilated, no normalisation: noise from noisy image.

    After Zhang et al. 2017, IEEE Trans Image Process 26:3142-3155 (DnCNN), and CVPR 2017:2808-2817
    (dilated). Batch normalisation, as in the former, did worse than doing nothing here.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(2, _WIDTH, 3, padding=1), nn.ReLU()]
        for dilation in _DILATIONS:
            layers += [
                nn.Conv2d(_WIDTH, _WIDTH, 3, padding=dilation, dilation=dilation),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(_WIDTH, 1, 3, padding=1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the noise in each image, shape (images, 1, rows, columns), in its units."""
        noise: torch.Tensor = _high_pass(self.layers(_seen(image)))
        return noise


class Vae(nn.Module):
    """A conditional variational autoencoder of the noise.

    The encoder gives a normal distribution over a latent map at half resolution, given the noisy
    image; the decoder makes the noise from a draw of it and the image at full resolution.

    Source: Kingma and Welling 2014, arXiv:1312.6114; Sohn et al. 2015, NeurIPS 28:3483-3491.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(2, _WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=2, dilation=2),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, 2 * LATENT, 1),
        )
        self.grow = nn.Sequential(
            nn.Conv2d(LATENT, 4 * _WIDTH // 2, 3, padding=1), nn.ReLU(), nn.PixelShuffle(2)
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(_WIDTH // 2 + 2, _WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, 1, 3, padding=1),
        )

    def encode(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and logarithm of the variance of the latent map, at half resolution."""
        mean, log_variance = self.encoder(_seen(image)).chunk(2, dim=1)
        return mean, log_variance.clamp(-10.0, 10.0)

    def decode(self, latent: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Return the noise that a latent map says is in the image."""
        noise: torch.Tensor = _high_pass(
            self.decoder(torch.cat((self.grow(latent), _seen(image)), dim=1))
        )
        return noise

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the noise at the mean of the latent distribution: the same each time."""
        rows, columns = image.shape[2:]
        even = functional.pad(image, (0, columns % 2, 0, rows % 2), mode="replicate")
        mean, _ = self.encode(even)
        return self.decode(mean, even)[:, :, :rows, :columns]


NETWORKS: Final[dict[str, type[ResidualCnn | Vae]]] = {"cnn": ResidualCnn, "vae": Vae}
"""Name, as in file names and parameters -> network."""
