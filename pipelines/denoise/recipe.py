"""How both networks are trained, whatever the modality: from pairs of a noisy and a clean slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch.nn import functional

from pipelines.denoise.networks import NETWORKS, Vae
from pipelines.training.loop import Fitted, Plan, fit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PATCH_PX: Final = 64
BATCH: Final = 8
KL_WEIGHT: Final = 2e-4
"""Of the divergence from a standard normal distribution, against the mean loss of a pixel."""
_QUIET_SHARE = 0.15
"""Of patches with little noise or none: where there is none, a network shall change nothing."""

STEPS: Final = {"cnn": 600, "vae": 600}


@dataclass(frozen=True)
class Pair:
    """A slice with simulated noise, the same without, and the level that was estimated.

    Attributes:
        noisy: Shape (rows, columns).
        clean: Ditto.
        level: Of the noise, in their unit, as ``noise_level`` estimates it in ``noisy``.
        clean_level: As it does in ``clean``.
        patient: Whose.
        condition: Dose and kernel, or level, in words.
    """

    noisy: torch.Tensor
    clean: torch.Tensor
    level: float
    clean_level: float
    patient: str = ""
    condition: str = ""


def train(  # noqa: PLR0913 - two sets of data and how to go on
    name: str,
    learn: Sequence[Pair],
    tune: Sequence[Pair],
    *,
    steps: int | None = None,
    seed: int = 1,
    checkpoints: Path | None = None,
    logs: Path | None = None,
    quiet: bool = False,
) -> tuple[torch.nn.Module, Fitted]:
    """Train a network; of all its states along the way, return the best on ``tune``.

    Args:
        name: Of the network: ``cnn`` or ``vae``.
        learn: To learn from.
        tune: To choose the state by, of the same patients or others, but none to test on.
        steps: Of the optimiser; None: as those shipped were.
        seed: Of first weights and batches.
        checkpoints: Where to keep the last state, to go on from.
        logs: For TensorBoard.
        quiet: Show no progress.
    """
    torch.manual_seed(seed)
    network = NETWORKS[name]()
    fitted = fit(
        network,
        draw=lambda _, generator: _batch(learn, generator),
        loss=_loss,
        plan=Plan(steps=steps or STEPS[name], seed=seed, learning_rate=2e-3, weight_decay=1e-4),
        score=lambda fitted: mean_gain_db(fitted, tune),
        checkpoints=checkpoints,
        identity=f"{name} {len(learn)} {sum(pair.level for pair in learn):.6g}",
        logs=logs,
        quiet=quiet,
    )
    return network, fitted


def mean_gain_db(network: torch.nn.Module, pairs: Sequence[Pair]) -> float:
    """Return by how much the network raises the signal-to-noise ratio, over pairs, in dB."""
    gains = []
    for pair in pairs:
        error = remove(network, pair.noisy, pair.level) - pair.clean
        before = (pair.noisy - pair.clean).square().mean()
        gains.append(10.0 * torch.log10(before / error.square().mean()))
    return float(torch.stack(gains).mean())


def remove(network: torch.nn.Module, noisy: torch.Tensor, level: float) -> torch.Tensor:
    """Return a slice, shape (rows, columns), without its noise."""
    with torch.no_grad():
        noise: torch.Tensor = network((noisy / level)[None, None])[0, 0]
    return noisy - level * noise


def _batch(pairs: Sequence[Pair], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noisy patches and the noise in them, both in units of its estimated level."""
    noisy, noise = [], []
    for _ in range(BATCH):
        chosen, turns, flip, mirror = (
            int(torch.randint(n, (), generator=generator)) for n in (len(pairs), 4, 2, 2)
        )
        pair = pairs[chosen]
        share = float(torch.rand((), generator=generator))
        quiet = float(torch.rand((), generator=generator)) < _QUIET_SHARE
        # The noise of a lower dose is that of a higher one, times a factor.
        factor = 0.3 * share if quiet else 0.6 + 0.6 * share
        clean = _patch(torch.stack((pair.clean, pair.noisy)), generator)
        own = factor * (clean[1] - clean[0])
        added = max(pair.level**2 - pair.clean_level**2, 0.0)
        level = max((pair.clean_level**2 + factor**2 * added) ** 0.5, 1e-6)
        both = torch.rot90(torch.stack((clean[0] + own, own)) / level, turns, (1, 2))
        both = both.flip(1) if flip else both
        both = both.flip(2) if mirror else both
        noisy.append(both[:1])
        noise.append(both[1:])
    return torch.stack(noisy), torch.stack(noise)


def _patch(slices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return a square of each slice at one random place, where it holds more than background."""
    rows, columns = slices.shape[1:]
    if min(rows, columns) < PATCH_PX:
        missing = (max(PATCH_PX - columns, 0), max(PATCH_PX - rows, 0))
        padding = (0, missing[0], 0, missing[1])
        slices = functional.pad(slices[None], padding, mode="reflect")[0]
        rows, columns = slices.shape[1:]
    place = slices
    for _ in range(8):
        top, left = (
            int(torch.randint(n - PATCH_PX + 1, (), generator=generator)) for n in (rows, columns)
        )
        place = slices[:, top : top + PATCH_PX, left : left + PATCH_PX]
        if float(place[0].std()) > 0.1 * float(slices[0].std()):
            break
    return place


def _loss(network: torch.nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    image, noise = batch
    if not isinstance(network, Vae):
        return functional.smooth_l1_loss(network(image), noise, beta=0.5)
    mean, log_variance = network.encode(image)
    drawn = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(1).mean()
    rebuilt = functional.smooth_l1_loss(network.decode(drawn, image), noise, beta=0.5)
    return rebuilt + KL_WEIGHT * divergence
