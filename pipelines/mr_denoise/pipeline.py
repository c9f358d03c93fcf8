"""MR images with less noise, as a series of their own beside the originals."""

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
from pipelines.denoise.codes import SMOOTHING
from pipelines.denoise.noise import noise_levels
from pipelines.denoise.report import derived, less_noise, quiet_enough
from pipelines.mr_denoise.tissue import level

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

LEAST: Final = 0.01
LARGEST: Final = 0.2
"""Noise as a share of bright tissue (99th percentile): less is not removed, more was not learned
from (card.md)."""

LABEL: Final = "MR with less noise"
UNIT: Final = "%"
_OF_WHAT = "Noise is told in percent of the bright tissue (99th percentile) of the images."
_BIAS = "What noise adds to dark background in a magnitude image is not taken out."
_DERIVED = {
    *("DERIVED", "LOCALIZER", "SECONDARY", "MPR", "MIP", "PROJECTION", "MAP", "ADC", "FA"),
    *("TRACEW", "PHASE", "P", "R", "I", "SUBTRACTION", "DIFFUSION", "PERFUSION"),
}


class MrDenoise:
    """What do these images look like with less noise?"""

    name: ClassVar[str] = "mr-denoise"
    version: ClassVar[str] = "1.0.0"
    title: ClassVar[str] = "MR noise reduction"
    input: ClassVar[Patterns] = {"Modality": "MR", "ImageType": ("!DERIVED", "!LOCALIZER")}
    report: ClassVar[str] = "measurement_report"
    enabled: ClassVar[bool] = False
    """Not better than non-local means on patients that it never saw (card.md)."""
    network: ClassVar[str] = "cnn"
    model: ClassVar[Model] = Model(
        name="radnode-mr-denoise-cnn",
        version="1",
        maker="radnode",
        weights_sha256="f9415fd55cba863ee42b0067fb03a94195c0c3fe6bd56afedeec156f63d3b214",
        trained_on="MR heads of 2 people (datalad example, TCGA-FG-6692), with synthetic noise",
        citation="pipelines/mr_denoise/card.md",
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
            CouldNotLook: It is no original MR, or shows no signal to measure noise in.
        """
        if not isinstance(study, Volume) or study.attributes.get("Modality", "MR") != "MR":
            raise CouldNotLook("This model takes the noise out of a volume of MR slices.")
        kind = set(re.split(r"[^A-Z0-9]+", study.attributes.get("ImageType", "").upper()))
        if kind & _DERIVED:
            raise CouldNotLook("These images are derived or a localizer, not original MR slices.")
        bright = float(np.percentile(study.voxels[:, ::2, ::2], 99.0))
        levels = noise_levels(study.voxels, level)
        share = float(np.median(levels)) / bright if bright > 0.0 else 0.0
        if not share:
            raise CouldNotLook("The images show too little signal to measure noise in.")
        if share > LARGEST:
            raise CouldNotLook(
                f"The noise is {share:.0%} of bright tissue, more than this model was made for "
                f"({LARGEST:.0%})."
            )
        if share < LEAST:
            why = f"The noise is {share:.1%} of bright tissue; under {LEAST:.0%} none is removed."
            return quiet_enough(100.0 * share, UNIT, why)
        from pipelines.denoise.denoiser import denoised  # noqa: PLC0415 - imports torch

        strength = float(self.parameters["strength"])
        network = _network(self.network, self.model.weights_sha256)
        made = denoised(study.voxels, levels, network, strength, level)
        described = derived(
            LABEL,
            f"{self.model.name} {self.model.version}",
            f"{share:.1%} of bright tissue",
            strength,
        )
        images = DerivedImages(LABEL, SMOOTHING, described, made.voxels)
        return less_noise(
            images, 100.0 * share, 100.0 * made.level / bright, UNIT, (_OF_WHAT, _BIAS)
        )


class MrDenoiseVae(MrDenoise):
    """The same with a variational autoencoder, to compare."""

    name: ClassVar[str] = "mr-denoise-vae"
    title: ClassVar[str] = "MR noise reduction (VAE)"
    network: ClassVar[str] = "vae"
    model: ClassVar[Model] = Model(
        name="radnode-mr-denoise-vae",
        version="1",
        maker="radnode",
        weights_sha256="26f4f6041cc25d334d26fee168a6b651cacf0a1332a8f507175deaf01038d11f",
        trained_on=MrDenoise.model.trained_on,
        citation="pipelines/mr_denoise/card.md",
    )
    parameters: ClassVar[Mapping[str, str]] = {"network": "vae", "strength": "1"}


@cache
def _network(name: str, sha256: str) -> torch.nn.Module:
    # Listing the pipelines must not cost the seconds that importing torch takes.
    from pipelines.denoise.weights import load_network  # noqa: PLC0415

    return load_network(Path(__file__).with_name(f"{name}.safetensors"), name, sha256)
