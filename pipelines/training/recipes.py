"""Which recipes there are: the entry points of the group ``radnode.recipes``.

A recipe turns examples into a folder that ``radnode models add`` brings in. What reads files for
it is the node's; what computes is behind ``Recipe.train``, so that listing them loads nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipelines.contract import Code
    from pipelines.training.data import Example, Split

GROUP = "radnode.recipes"

Kind = Literal["images", "volumes", "recordings"]
"""Images with a class each, volumes with outlines, or waveforms with a rhythm each."""


class UnknownRecipe(LookupError):
    """No installed package offers a recipe of this name."""


class Unsuitable(ValueError):
    """The examples are not such as the recipe learns from; the message says what it needs."""


class CannotGoOn(RuntimeError):
    """Training cannot go on: the checkpoint is another run's, or the loss is no number."""


@dataclass(frozen=True)
class Order:
    """What is to be trained, on what, for how long.

    Attributes:
        name: Of the pipeline that comes out.
        examples: All of them.
        split: Which patients are for what.
        out: Folder of the result; holds the checkpoints meanwhile.
        steps: Optimiser steps; None: as long as ``seconds``, or as the recipe does by itself.
        seconds: Seconds.
        seed: Of weights, batches and dropout.
        match: DICOM keyword -> pattern of the series that the model is for; empty: those it
            learned from.
        codes: Label -> code. A label without one gets a private code that is its name.
        licence: Under which the site may use the result.
        quiet: Show no progress.
    """

    name: str
    examples: tuple[Example, ...]
    split: Split
    out: Path
    steps: int | None = None
    seconds: float | None = None
    seed: int = 0
    match: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, Code] = field(default_factory=dict)
    licence: str = "not stated"
    quiet: bool = False


class Recipe(Protocol):
    """How one kind of network is trained."""

    @property
    def title(self) -> str:
        """What it makes, in a line."""

    @property
    def kind(self) -> Kind:
        """What it learns from."""

    def train(self, order: Order, /) -> None:
        """Train, measure on the test patients, and fill ``order.out``.

        Raises:
            Unsuitable: The examples are not such as it learns from.
        """


def names() -> tuple[str, ...]:
    """Return the names of all installed recipes."""
    return tuple(sorted({entry.name for entry in entry_points(group=GROUP)}))


def get(name: str) -> Recipe:
    """Return the recipe called ``name``.

    Raises:
        UnknownRecipe: No installed package offers it.
        ImportError: It is installed, but something it needs is not.
    """
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            recipe: Recipe = entry.load()()
            return recipe
    raise UnknownRecipe(name)
