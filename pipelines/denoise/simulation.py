"""Noise as a scanner makes it, added to real scans: fewer photons, or thermal noise of a coil."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

ANGLES: Final = 288
WATER_PER_MM: Final = 0.0193
"""Attenuation of water at 70 keV, about the mean energy of a 120 kV beam (NIST XCOM)."""

KERNELS: Final = ("ramp", "cosine", "hann")
"""Reconstruction filters from sharp to soft."""


def project(images_hu: torch.Tensor, spacing_mm: float) -> torch.Tensor:
    """Return line integrals of the attenuation, parallel beam over 180 degrees.

    Args:
        images_hu: Shape (images, n, n); what lies beyond the inscribed circle counts as air.
        spacing_mm: Of the pixels.

    Returns:
        Shape (images, ANGLES, n), no unit.
    """
    size = images_hu.shape[-1]
    per_pixel = (images_hu.clamp(min=-1000.0) / 1000.0 + 1.0) * WATER_PER_MM * spacing_mm
    per_pixel = per_pixel * _circle(size)
    sinogram = torch.empty(len(images_hu), ANGLES, size)
    for number in range(ANGLES):
        angle = math.pi * number / ANGLES
        cos, sin = math.cos(angle), math.sin(angle)
        turn = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]])
        grid = functional.affine_grid(turn[None], [1, 1, size, size], align_corners=False)
        turned = functional.grid_sample(per_pixel[None], grid, align_corners=False)[0]
        sinogram[:, number] = turned.sum(dim=1)
    return sinogram


def reconstruct(sinogram: torch.Tensor, spacing_mm: float, kernel: str) -> torch.Tensor:
    """Return images by filtered back-projection.

    Args:
        sinogram: As ``project`` returns it.
        spacing_mm: Of the pixels.
        kernel: One of ``KERNELS``.

    Returns:
        HU, shape (images, n, n); air beyond the inscribed circle.
    """
    count, angles, size = sinogram.shape
    filtered = _filtered(sinogram, kernel)
    # One more, for the interpolation at the last detector.
    filtered = functional.pad(filtered, (0, 1))
    centre = (size - 1) / 2.0
    y, x = torch.meshgrid(*2 * [torch.arange(size) - centre], indexing="ij")
    total = torch.zeros(count, size * size)
    for number in range(angles):
        angle = math.pi * number / angles
        at = (x * math.cos(angle) + y * math.sin(angle) + centre).clamp(0.0, size - 1.0).flatten()
        below = at.floor().long()
        weight = at - below
        line = filtered[:, number]
        total += torch.lerp(line[:, below], line[:, below + 1], weight)
    per_mm = total.reshape(count, size, size) * math.pi / (angles * spacing_mm)
    inside = _circle(size)
    images: torch.Tensor = (per_mm / WATER_PER_MM * inside - 1.0) * 1000.0
    return images


def low_dose(sinogram: torch.Tensor, photons: float, generator: torch.Generator) -> torch.Tensor:
    """Return a sinogram measured with ``photons`` for each ray that meets nothing.

    A detector that counts none is taken to have counted one.
    """
    expected = photons * torch.exp(-sinogram)
    counted = torch.poisson(expected, generator=generator).clamp(min=1.0)
    return math.log(photons) - torch.log(counted)


def rician(
    images: torch.Tensor, levels: Sequence[float], generator: torch.Generator, share: float = 1.0
) -> torch.Tensor:
    """Return magnitude images with normal noise in both parts of the complex signal.

    Args:
        images: Shape (images, rows, columns), 0 or more.
        levels: Standard deviation of the noise of each, in the images' unit.
        generator: Of all chance.
        share: Of k-space that was measured along each axis; scanners fill the rest with zeros,
            which makes noise of neighbouring pixels alike.

    Source: Gudbjartsson and Patz 1995, Magn Reson Med 34:910-914.
    """
    noise = torch.randn((2, *images.shape), generator=generator)
    if share < 1.0:
        noise = _low_pass(noise, share)
    noise = noise * torch.tensor(levels, dtype=torch.float32)[:, None, None]
    return torch.hypot(images + noise[0], noise[1])


def _low_pass(noise: torch.Tensor, share: float) -> torch.Tensor:
    """Return noise of variance 1 that fills the inner ``share`` of k-space along each axis."""
    inner = [torch.fft.fftfreq(n).abs() <= share / 2.0 for n in noise.shape[-2:]]
    kept = inner[0][:, None] & inner[1][None]
    filtered = torch.fft.ifft2(torch.fft.fft2(noise) * kept).real
    scaled: torch.Tensor = filtered / kept.float().mean().sqrt()
    return scaled


def _circle(size: int) -> torch.Tensor:
    along = torch.arange(size) - (size - 1) / 2.0
    return (along[:, None] ** 2 + along[None] ** 2 <= (size / 2.0) ** 2).float()


def _filtered(sinogram: torch.Tensor, kernel: str) -> torch.Tensor:
    """Return projections after the ramp filter of Kak and Slaney (1988, section 3.3), windowed."""
    size = sinogram.shape[-1]
    length = 2 ** math.ceil(math.log2(2 * size))
    n = torch.cat((torch.arange(length // 2), torch.arange(-length // 2, 0))).double()
    odd = n % 2 != 0
    response = torch.zeros(length, dtype=torch.float64)
    response[odd] = -1.0 / (math.pi * n[odd]) ** 2
    response[0] = 0.25
    ramp = torch.fft.rfft(response).real
    frequency = torch.linspace(0.0, 1.0, len(ramp), dtype=torch.float64)
    window = {
        "ramp": torch.ones_like(frequency),
        "cosine": torch.cos(math.pi * frequency / 2.0),
        "hann": 0.5 + 0.5 * torch.cos(math.pi * frequency),
    }[kernel]
    spectrum = torch.fft.rfft(functional.pad(sinogram, (0, length - size)))
    whole: torch.Tensor = torch.fft.irfft(spectrum * (ramp * window).float(), n=length)
    return whole[..., :size]
