"""How the tissue network is trained: on images that are drawn at random from two tissue maps.

    python -m pipelines.brain_mr_volumetry.training --out DIR

No scan of any person is used. From the grey- and white-matter maps of the MNI152 template a
label map is drawn, bent and roughened; each tissue gets a random grey value, in the order that
T1 weighting has; then blur, bias field and noise as scanners add them, each of random strength.

Source: domain randomisation as in SynthSeg, Billot et al. 2023, Med Image Anal 86:102789, held to
T1-like contrasts. Maps: ICBM 2009a nonlinear symmetric, as nilearn ships them, copyright
1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill
University: use, copying, modification and distribution for any purpose are permitted, without fee.
"""

from __future__ import annotations

import argparse
import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch.nn import functional

from pipelines.brain_mr_volumetry.tissues import CLASSES, TissueNetwork
from pipelines.training.loop import Fitted, Plan, fit

PLAN = Plan(steps=200, seed=2026, learning_rate=2e-2, weight_decay=1e-4, score_every=40)
_PATCH = 40
_VALIDATION_SEED = 7_000_000
_VALIDATION_IMAGES = 6
_FLUID_MM = 3
"""Fluid between brain and mask: deepbet's masks hold about that much."""

Drawn = tuple[torch.Tensor, torch.Tensor]


def train(out: Path, plan: Plan = PLAN) -> Fitted:
    """Train, or go on training, and write ``tissues.safetensors`` and print its digest."""
    torch.manual_seed(plan.seed)
    network = TissueNetwork()
    fitted = fit(
        network,
        draw=lambda _, generator: phantom(generator),
        loss=lambda network, batch: tissue_loss(network(batch[0]), batch[1]),
        plan=plan,
        score=validation_score,
        checkpoints=out / "checkpoints",
        device="cpu",
    )
    content = safetensors.torch.save(
        {name: tensor.contiguous() for name, tensor in sorted(network.state_dict().items())}
    )
    (out / "tissues.safetensors").write_bytes(content)
    print(f"SHA-256 {hashlib.sha256(content).hexdigest()}, Dice {fitted.best_score}")  # noqa: T201
    return fitted


def phantom(generator: torch.Generator, size: int = _PATCH) -> Drawn:
    """Return a random image, shape (1, 1, size, size, size), and its classes, (1, size, ...).

    All chance comes from the generator.
    """
    maps = _maps()
    labels = _labels(maps, generator, size)
    mean = _grey_values(labels, generator)
    image = _blurred(mean, _between(generator, 0.3, 0.9))
    image = image * torch.exp(_smooth(size, 3, generator) * _between(generator, 0.0, 0.25))
    image = image + torch.randn(image.shape, generator=generator) * _between(generator, 0.01, 0.06)
    inside = labels > 0
    white = image[labels == 3]
    level = white.mean() if white.numel() > 100 else torch.tensor(1.0)
    image = image.clamp(min=0) / level * _between(generator, 0.88, 1.05)
    return (image * inside)[None, None], labels[None]


def tissue_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return cross-entropy plus one minus the mean soft Dice of the tissues."""
    share = logits.softmax(dim=1)
    wanted = functional.one_hot(truth, len(CLASSES)).movedim(-1, 1)
    overlap = (share * wanted).sum(dim=(0, 2, 3, 4))
    dice = (2 * overlap + 1) / ((share + wanted).sum(dim=(0, 2, 3, 4)) + 1)
    return functional.cross_entropy(logits, truth) + 1 - dice[1:].mean()


def validation_score(network: torch.nn.Module) -> float:
    """Return the mean Dice of the three tissues on images that training never draws."""
    scores = []
    for number in range(_VALIDATION_IMAGES):
        generator = torch.Generator().manual_seed(_VALIDATION_SEED + number)
        image, truth = phantom(generator)
        scores.append(np.mean(dice_of(network(image).argmax(dim=1), truth)))
    return float(np.mean(scores))


def dice_of(found: torch.Tensor, truth: torch.Tensor) -> list[float]:
    """Return the Dice of fluid, grey and white matter."""
    return [
        float(2 * ((found == label) & (truth == label)).sum())
        / max(1.0, float((found == label).sum() + (truth == label).sum()))
        for label in range(1, len(CLASSES))
    ]


@cache
def _maps() -> torch.Tensor:
    """Return the share of fluid, grey and white matter, shape (3, x, y, z), 1 mm."""
    # The maps are needed for training alone.
    from nilearn import datasets  # noqa: PLC0415

    grey, white, mask = (
        torch.from_numpy(np.ascontiguousarray(image.get_fdata(dtype=np.float32)))
        for image in (
            datasets.load_mni152_gm_template(resolution=1),
            datasets.load_mni152_wm_template(resolution=1),
            datasets.load_mni152_brain_mask(resolution=1),
        )
    )
    width = 2 * _FLUID_MM + 1
    wide = functional.max_pool3d(mask[None, None], width, stride=1, padding=_FLUID_MM)[0, 0]
    fluid = (wide - grey - white).clamp(0, 1)
    return torch.stack((fluid, grey, white))


@cache
def _places() -> torch.Tensor:
    """Return every voxel that has a tissue, shape (n, 3)."""
    return (_maps().sum(dim=0) > 0.5).nonzero()


def _labels(maps: torch.Tensor, generator: torch.Generator, size: int) -> torch.Tensor:
    """Return a bent, mirrored, scaled and roughened patch of the maps as classes."""
    extent = torch.tensor(maps.shape[1:])
    places = _places()
    centre = places[int(torch.randint(len(places), (1,), generator=generator))]
    line = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    grid = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), dim=-1)
    turned = grid @ _rotation(generator).T * _between(generator, 0.85, 1.15)
    bend = torch.stack([_smooth(size, 4, generator) for _ in range(3)], dim=-1)
    position = centre + turned + bend * _between(generator, 0.0, 5.0)
    unit = (2 * position / (extent - 1) - 1).flip(-1)
    moved = functional.grid_sample(maps[None], unit[None], align_corners=True)[0]
    rough = torch.stack([_smooth(size, size // 4, generator) for _ in range(3)])
    scores = moved + rough * _between(generator, 0.0, 0.35) * (moved > 0.02)
    classes = scores.argmax(dim=0) + 1
    return torch.where(moved.sum(dim=0) > 0.5, classes, torch.zeros_like(classes))


def _grey_values(labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return the grey value of each voxel before the scanner's own faults; white matter is 1."""
    size = labels.shape[-1]
    grey = _between(generator, 0.52, 0.84)
    fluid = _between(generator, 0.08, 0.75) * grey
    values = torch.tensor([0.0, fluid, grey, 1.0])[labels]
    # Deep nuclei are brighter than cortex, and white matter is not everywhere the same.
    texture = _smooth(size, 6, generator) * _between(generator, 0.0, 0.05)
    return values + texture * (labels > 1)


def _smooth(size: int, knots: int, generator: torch.Generator) -> torch.Tensor:
    """Return a random field of about unit variance, between a cube of random knots."""
    coarse = torch.randn(1, 1, knots, knots, knots, generator=generator)
    field = functional.interpolate(coarse, (size,) * 3, mode="trilinear", align_corners=True)[0, 0]
    scaled: torch.Tensor = field / field.std().clamp(min=1e-3)
    return scaled


def _rotation(generator: torch.Generator) -> torch.Tensor:
    """Return a rotation by up to 20 degrees around a random axis, and by chance a mirror."""
    axis = functional.normalize(torch.randn(3, generator=generator), dim=0)
    cross = torch.tensor([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    matrix: torch.Tensor = torch.linalg.matrix_exp(cross * _between(generator, -0.35, 0.35))
    if _between(generator, 0.0, 1.0) < 0.5:
        matrix[:, 0] *= -1
    return matrix


def _blurred(image: torch.Tensor, sigma: float) -> torch.Tensor:
    reach = 2
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    blurred = image[None, None]
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[axis + 2] = 2 * reach + 1
        padding = [0, 0, 0]
        padding[axis] = reach
        blurred = functional.conv3d(blurred, kernel.reshape(shape), padding=tuple(padding))
    return blurred[0, 0]


def _between(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--out", type=Path, required=True)
    folder: Path = words.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    train(folder)
