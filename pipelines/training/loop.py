"""One training loop for every recipe: reproducible, resumable, and it keeps the best weights.

    fitted = fit(
        network,
        draw=lambda step, generator: (images[...], truth[...]),
        loss=lambda network, batch: functional.cross_entropy(network(batch[0]), batch[1]),
        plan=Plan(steps=2000, seed=1),
        score=lambda network: dice_of_the_validation_patients(network),
        checkpoints=out / "checkpoints",
    )

A batch depends on the seed and on the number of its step alone, never on the batches before it.
So a run that was killed and goes on from its last checkpoint ends with the same weights as one
that was not.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

from pipelines.training.checkpoint import Checkpoints, State, copy_of
from pipelines.training.progress import watching
from pipelines.training.recipes import CannotGoOn

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.training.progress import Watcher

Batch = TypeVar("Batch")
"""Whatever ``draw`` returns and ``loss`` takes: a tensor, or a tuple, list or mapping of them."""

Draw = Callable[[int, torch.Generator], Batch]
"""The batch of a step, from 0. All chance comes from the generator, which lives on the CPU."""
Loss = Callable[[torch.nn.Module, Batch], torch.Tensor]
"""What is to become small: a scalar tensor of the network, in training mode, and a batch."""
Score = Callable[[torch.nn.Module], float]
"""How good the network is, in evaluation mode, on patients it does not learn from: more is
better. Called without gradients."""


class Diverged(CannotGoOn):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class Plan:
    """How long, how fast, from which seed. At least one of ``steps`` and ``seconds`` is stated.

    Attributes:
        steps: Optimiser steps after which training ends.
        seconds: Seconds after which it ends, those before an interruption counted. How far the
            network comes then depends on the machine; only ``steps`` alone is reproducible.
        seed: Of the batches and of dropout. The caller seeds the network's first weights.
        learning_rate: Highest rate of AdamW; it rises over the first ``warm_up`` of the run and
            falls to zero along a cosine (Loshchilov and Hutter 2017, arXiv:1608.03983).
        weight_decay: Of AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101).
        warm_up: Share of the run, 0..1.
        clip: Largest norm of the gradient.
        score_every: Steps between two looks at the validation score, and between checkpoints.
    """

    steps: int | None = None
    seconds: float | None = None
    seed: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    warm_up: float = 0.03
    clip: float = 1.0
    score_every: int = 100

    def __post_init__(self) -> None:
        """Refuse a run without an end.

        Raises:
            ValueError: Neither steps nor seconds.
        """
        if self.steps is None and self.seconds is None:
            raise ValueError("A training plan states its steps, its seconds, or both.")

    def done(self, step: int, seconds: float) -> float:
        """Return which part of the run lies behind, 0..1."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = seconds / self.seconds if self.seconds else 0.0
        return min(1.0, max(by_steps, by_time))

    def rate(self, done: float) -> float:
        """Return the learning rate when ``done`` of the run lies behind."""
        if done < self.warm_up:
            return self.learning_rate * max(0.01, done / self.warm_up)
        falling = (done - self.warm_up) / max(1e-9, 1.0 - self.warm_up)
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * falling))


@dataclass(frozen=True)
class Point:
    """One row of the curves: mean training loss since the last one, and the score if there is."""

    step: int
    seconds: float
    loss: float
    score: float | None


@dataclass(frozen=True)
class Fitted:
    """What came out of a run. The network holds the weights of ``best_step``.

    Attributes:
        steps: Optimiser steps taken.
        seconds: Time they took.
        best_step: Step with the highest score; the last one where nothing was scored.
        best_score: That score, or None.
        curve: Loss and score over the run.
    """

    steps: int
    seconds: float
    best_step: int
    best_score: float | None
    curve: tuple[Point, ...] = field(repr=False)


def fit(  # noqa: PLR0913 - one name, one choice; most have their default
    network: torch.nn.Module,
    draw: Draw[Batch],
    loss: Loss[Batch],
    *,
    plan: Plan,
    score: Score | None = None,
    checkpoints: Path | None = None,
    identity: str = "",
    logs: Path | None = None,
    device: str = "",
    quiet: bool = False,
) -> Fitted:
    """Train the network and leave the best weights in it, on the CPU and in evaluation mode.

    On a GPU with bfloat16 the forward pass runs in mixed precision. Results are the same to the
    bit for the same seed, steps and number of threads on a CPU; a GPU may round differently.

    Args:
        network: Changed in place. Parameters without ``requires_grad`` stay as they are.
        draw: Batch of a step; its tensors are moved to the device.
        loss: Of the network and a batch.
        plan: Length, rate, seed.
        score: Chooses the best weights; without it the last ones are kept.
        checkpoints: Folder of checkpoints. Where it holds one of the same plan and identity,
            training goes on from there.
        identity: What else makes two runs the same, such as a digest of the data.
        logs: Folder for TensorBoard; nothing is written where tensorboard is not installed.
        device: ``cpu``, ``cuda``, ...; empty: a GPU if there is one.
        quiet: Show no progress.

    Raises:
        Diverged: The loss became infinite or not a number.
        pipelines.training.checkpoint.OtherRun: The checkpoint is of another plan or identity.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    network.to(place)
    optimiser = torch.optim.AdamW(
        [parameter for parameter in network.parameters() if parameter.requires_grad],
        lr=plan.learning_rate,
        weight_decay=plan.weight_decay,
    )
    kept_in = Checkpoints(checkpoints, f"{plan} {identity}") if checkpoints else None
    found = kept_in.latest(network, optimiser) if kept_in else None
    state, best = found or (State(), copy_of(network))
    learner = _Learner(network, optimiser, draw, loss, plan)
    with torch.random.fork_rng(), watching(logs, quiet=quiet) as watcher:
        while plan.done(state.step, state.seconds) < 1.0:
            state, better = _judge(network, score, learner.go_on(state, watcher))
            best = copy_of(network) if better else best
            watcher.point(Point(*state.curve[-1]), plan.done(state.step, state.seconds))
            if kept_in:
                kept_in.save(state, best, network, optimiser)
    network.load_state_dict(best)
    network.to("cpu").eval()
    return Fitted(
        steps=state.step,
        seconds=state.seconds,
        best_step=state.best_step,
        best_score=state.best_score,
        curve=tuple(Point(*row) for row in state.curve),
    )


@dataclass(frozen=True)
class _Learner(Generic[Batch]):
    """What learns, from what, how."""

    network: torch.nn.Module
    optimiser: torch.optim.Optimizer
    draw: Draw[Batch]
    loss: Loss[Batch]
    plan: Plan

    def go_on(self, state: State, watcher: Watcher) -> State:
        """Take the steps up to the next look at the score, or to the end of the run."""
        self.network.train()
        began_s = time.monotonic() - state.seconds
        step = state.step
        losses: list[float] = []
        done = self.plan.done(step, state.seconds)
        while done < 1.0 and len(losses) < self.plan.score_every:
            losses.append(self._learn(step, done))
            step += 1
            done = self.plan.done(step, time.monotonic() - began_s)
            watcher.step(done)
        row = (step, time.monotonic() - began_s, sum(losses) / len(losses), None)
        return replace(state, step=step, seconds=row[1], curve=(*state.curve, row))

    def _learn(self, step: int, done: float) -> float:
        """Take one step; return its loss."""
        place = next(self.network.parameters()).device
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate(done)
        torch.manual_seed(_seed(self.plan.seed, step, "network"))
        generator = torch.Generator().manual_seed(_seed(self.plan.seed, step, "batch"))
        batch = self.draw(step, generator)
        self.optimiser.zero_grad(set_to_none=True)
        with _precision(place):
            value = self.loss(self.network, _moved(batch, place))
        if not torch.isfinite(value):
            raise Diverged(f"The loss is {value:.3g} at step {step}. Lower the learning rate.")
        value.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.clip)
        self.optimiser.step()
        return float(value.detach())


def _judge(network: torch.nn.Module, score: Score | None, state: State) -> tuple[State, bool]:
    """Score the network; return the state with the score, and whether it is the best so far."""
    if score is None:
        return replace(state, best_step=state.step), True
    began_s = time.monotonic()
    network.eval()
    with torch.no_grad():
        value = float(score(network))
    seconds = state.seconds + time.monotonic() - began_s
    step, _, mean, _ = state.curve[-1]
    scored = replace(
        state, seconds=seconds, curve=(*state.curve[:-1], (step, seconds, mean, value))
    )
    if state.best_score is not None and not value > state.best_score:
        return scored, False
    return replace(scored, best_step=step, best_score=value), True


def _seed(seed: int, step: int, use: str) -> int:
    """Return a seed that shares nothing with those of other steps, seeds and uses."""
    digest = hashlib.blake2b(f"{seed} {step} {use}".encode(), digest_size=7).digest()
    return int.from_bytes(digest)


def _precision(place: torch.device) -> AbstractContextManager[object]:
    """Mixed precision where the GPU computes in bfloat16, whose range needs no loss scaling."""
    if place.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


def _moved(batch: Any, place: torch.device) -> Any:
    """Return the batch with its tensors on the device."""
    if isinstance(batch, torch.Tensor):
        return batch.to(place, non_blocking=True)
    if isinstance(batch, Mapping):
        return {name: _moved(part, place) for name, part in batch.items()}
    if isinstance(batch, tuple | list):
        return tuple(_moved(part, place) for part in batch)
    return batch
