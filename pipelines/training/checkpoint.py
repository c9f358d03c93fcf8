"""Where a training run stands, on disk: whole or not at all, and nothing that unpickles code."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

from pipelines.training.recipes import CannotGoOn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch.optim import Optimizer

    Weights = Mapping[str, torch.Tensor]

_NAME = re.compile(r"step-(\d+)")


class OtherRun(CannotGoOn):
    """The checkpoint in this folder belongs to a run with another plan or other data."""


@dataclass(frozen=True)
class State:
    """How far a run has come.

    Attributes:
        step: Optimiser steps taken.
        seconds: Time they took, all sittings together.
        best_step: Step of the best weights.
        best_score: Their score, or None where nothing is scored.
        curve: Rows of step, seconds, mean loss, score.
    """

    step: int = 0
    seconds: float = 0.0
    best_step: int = 0
    best_score: float | None = None
    curve: tuple[tuple[int, float, float, float | None], ...] = ()


def copy_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights and buffers on the CPU, as a copy that training does not change."""
    return {
        name: value.detach().cpu().clone().contiguous()
        for name, value in network.state_dict().items()
    }


@dataclass(frozen=True)
class Checkpoints:
    """The folder in which one run keeps its last checkpoint.

    Attributes:
        folder: Where.
        run: All that makes two runs the same, as text: plan, seed, data.
    """

    folder: Path
    run: str

    def save(
        self, state: State, best: Weights, network: torch.nn.Module, optimiser: Optimizer
    ) -> None:
        """Write a checkpoint beside the last one, then remove that.

        It gets its name when it is complete, so a run killed while writing goes on from the one
        before.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        save_file(copy_of(network), partial / "weights.safetensors")
        save_file(dict(best), partial / "best.safetensors")
        torch.save(
            {"run": self.run, "state": asdict(state), "optimiser": optimiser.state_dict()},
            partial / "optimiser.pt",
        )
        for path in partial.iterdir():
            with path.open("rb") as written:
                os.fsync(written.fileno())
        earlier = _complete(self.folder)
        partial.rename(self.folder / f"step-{state.step:08d}")
        for old in earlier:
            shutil.rmtree(old)

    def latest(
        self, network: torch.nn.Module, optimiser: Optimizer
    ) -> tuple[State, dict[str, torch.Tensor]] | None:
        """Bring network and optimiser to the last checkpoint; return its state and best weights.

        None where the folder has none.

        Raises:
            OtherRun: It is not a checkpoint of ``run``.
        """
        found = _complete(self.folder)
        if not found:
            return None
        kept = torch.load(found[-1] / "optimiser.pt", map_location="cpu", weights_only=True)
        if kept["run"] != self.run:
            raise OtherRun(
                f"{found[-1]} is a checkpoint of another run: its plan, seed or data differ. "
                "Train into a new folder, or remove this one."
            )
        network.load_state_dict(load_file(found[-1] / "weights.safetensors"))
        optimiser.load_state_dict(kept["optimiser"])
        stated = kept["state"]
        state = State(**{**stated, "curve": tuple(tuple(row) for row in stated["curve"])})
        return state, load_file(found[-1] / "best.safetensors")


def _complete(folder: Path) -> list[Path]:
    """Return the checkpoints with a name of their own, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
