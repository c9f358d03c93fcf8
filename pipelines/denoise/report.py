"""What a denoiser tells: how much noise there was and is, and the series without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.contract import Finding, Measurement, Result
from pipelines.denoise.codes import IMAGE_NOISE, NOISE_AFTER, NOISE_BEFORE

if TYPE_CHECKING:
    from pipelines.contract import DerivedImages

NO_MORE_THAN = (
    "For research, beside the original images and never instead of them: small lesions of low "
    "contrast may be weakened."
)


def quiet_enough(before: float, unit: str, why: str) -> Result:
    """Return the result where no series is made.

    Args:
        before: Noise of the source.
        unit: Its UCUM unit.
        why: A sentence.
    """
    measured = (Measurement(NOISE_BEFORE, before, unit),)
    finding = Finding(IMAGE_NOISE, measurements=measured, normal=True)
    return Result((finding,), notes=(f"No derived series was made. {why}",))


def less_noise(
    images: DerivedImages, before: float, after: float, unit: str, notes: tuple[str, ...]
) -> Result:
    """Return the result where one is: the images, and the noise before and after.

    Args:
        images: The series.
        before: Noise of the source.
        after: Noise of the series.
        unit: UCUM unit of both.
        notes: What else the reader is told.
    """
    measured = (
        Measurement(NOISE_BEFORE, before, unit),
        Measurement(NOISE_AFTER, after, unit),
    )
    finding = Finding(IMAGE_NOISE, measurements=measured, normal=True)
    made = (
        f"A series '{images.label}' was made of these images. Nothing was looked for in them.",
        *notes,
        NO_MORE_THAN,
    )
    return Result((finding,), notes=made, images=(images,))


def derived(label: str, model: str, level: str, strength: float) -> str:
    """Return how the images of a series were made, in words (PS3.3 C.7.6.1.1.3).

    Args:
        label: Of the series.
        model: Name and version of the network.
        level: Noise of the source with its unit, in words.
        strength: Share of the noise that was subtracted.
    """
    return (
        f"{label}: noise estimated and subtracted by a neural network ({model}), slice by slice, "
        f"strength {strength:g}, noise of the source {level}. {NO_MORE_THAN}"
    )
