"""CT images with less noise, as a series of their own beside the originals."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from pipelines.contract import (
    CouldNotLook,
    DerivedImages,
    Model,
    Patterns,
    Result,
    Study,
    Volume,
)
from pipelines.ct_denoise.tissue import level_hu
from pipelines.denoise.codes import SMOOTHING
from pipelines.denoise.noise import noise_levels
from pipelines.denoise.report import derived, less_noise, quiet_enough

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

LEAST_HU: Final = 4.0
"""Less noise than this is not removed: it is that of a thick slice at full dose, or of a series
that was made smooth before."""
LARGEST_HU: Final = 250.0
"""More than any dose learned from had (card.md)."""

LABEL: Final = "CT with less noise"
UNIT: Final = "[hnsf'U]"
_DERIVED = {"DERIVED", "LOCALIZER", "SECONDARY", "MPR", "MIP", "MINIP", "PROJECTION", "AVERAGE"}


class CtDenoise:
    """What do these images look like with less noise?"""

    name: ClassVar[str] = "ct-denoise"
    version: ClassVar[str] = "1.0.0"
    title: ClassVar[str] = "CT noise reduction"
    input: ClassVar[Patterns] = {"Modality": "CT", "ImageType": ("!DERIVED", "!LOCALIZER")}
    report: ClassVar[str] = "measurement_report"
    network: ClassVar[str] = "cnn"
    model: ClassVar[Model] = Model(
        name="radnode-ct-denoise-cnn",
        version="1",
        maker="radnode",
        weights_sha256="67e3d5517a29acd3b1e8cdd2020f7bcf0da61bed7aa7146c82b81058f3a52214",
        trained_on="1 chest and abdomen CT (ACRIN-NSCLC-FDG-PET-042), with synthetic noise of low "
        "dose",
        citation="pipelines/ct_denoise/card.md",
    )
    parameters: ClassVar[Mapping[str, str]] = {"network": "cnn", "strength": "1"}
    deadline_s: ClassVar[float] = 1800.0

    def warm_up(self) -> None:
        """Load the network, verified by digest.

        Raises:
            RuntimeError: Its weights are missing or others.
        """
        _network(self.network, self.model.weights_sha256)

    def run(self, study: Study, /) -> Result:
        """Estimate the noise of each slice and subtract it.

        Raises:
            CouldNotLook: It is no original CT, or shows no soft tissue to measure noise in.
        """
        if not isinstance(study, Volume) or study.attributes.get("Modality", "CT") != "CT":
            raise CouldNotLook("This model takes the noise out of a volume of CT slices.")
        kind = set(re.split(r"[^A-Z0-9]+", study.attributes.get("ImageType", "").upper()))
        if kind & _DERIVED:
            raise CouldNotLook("These images are derived or a localizer, not original CT slices.")
        levels = noise_levels(study.voxels, level_hu)
        before = float(np.median(levels))
        if not before:
            raise CouldNotLook("The images show too little soft tissue to measure noise in.")
        if before > LARGEST_HU:
            raise CouldNotLook(
                f"The noise is {before:.0f} HU, more than this model was made for "
                f"({LARGEST_HU:.0f} HU)."
            )
        if before < LEAST_HU:
            why = f"The noise is only {before:.1f} HU; below {LEAST_HU:.0f} HU nothing is removed."
            return quiet_enough(before, UNIT, why)
        from pipelines.denoise.denoiser import denoised  # noqa: PLC0415 - imports torch

        strength = float(self.parameters["strength"])
        network = _network(self.network, self.model.weights_sha256)
        made = denoised(study.voxels, levels, network, strength, level_hu)
        described = derived(
            LABEL, f"{self.model.name} {self.model.version}", f"{before:.1f} HU", strength
        )
        images = DerivedImages(LABEL, SMOOTHING, described, made.voxels)
        return less_noise(images, before, made.level, UNIT, ())


class CtDenoiseVae(CtDenoise):
    """The same with a variational autoencoder, to compare."""

    name: ClassVar[str] = "ct-denoise-vae"
    title: ClassVar[str] = "CT noise reduction (VAE)"
    enabled: ClassVar[bool] = False
    network: ClassVar[str] = "vae"
    model: ClassVar[Model] = Model(
        name="radnode-ct-denoise-vae",
        version="1",
        maker="radnode",
        weights_sha256="5ddda1277cef07f7982e8fa660f2716cccdd795f2fad87526da114069bdd5902",
        trained_on=CtDenoise.model.trained_on,
        citation="pipelines/ct_denoise/card.md",
    )
    parameters: ClassVar[Mapping[str, str]] = {"network": "vae", "strength": "1"}


@cache
def _network(name: str, sha256: str) -> torch.nn.Module:
    # Listing the pipelines must not cost the seconds that importing torch takes.
    from pipelines.denoise.weights import load_network  # noqa: PLC0415

    return load_network(Path(__file__).with_name(f"{name}.safetensors"), name, sha256)
