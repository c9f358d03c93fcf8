"""Codes that the report of a denoiser is made of; PS3.16 has none for noise of an image."""

from __future__ import annotations

from typing import Final

from pipelines.contract import Code

SMOOTHING: Final = Code("113087", "DCM", "Smoothing")
"""CID 7203: the nearest to noise reduction that there is."""
IMAGE_NOISE: Final = Code("IMAGENOISE", "99RADNODE", "Image noise")
NOISE_BEFORE: Final = Code("NOISEBEFORE", "99RADNODE", "Noise of the source images")
NOISE_AFTER: Final = Code("NOISEAFTER", "99RADNODE", "Noise of the derived images")
