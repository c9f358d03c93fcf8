"""The mode of a pipeline: what a person decided, else what it says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.domain import Mode
from node.errors import ConfigError
from node.route import pipeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def mode_of(name: str, decided: Mapping[str, Mode]) -> Mode:
    """Return how far a pipeline goes.

    Args:
        name: Of the pipeline.
        decided: What persons decided (``store.modes.decided``).
    """
    if name in decided:
        return decided[name]
    try:
        one = pipeline(name)
    except ConfigError:
        return Mode.ENABLED  # whoever runs it is told what it lacks
    return Mode.ENABLED if getattr(one, "enabled", True) else Mode.DISABLED


def disabled(names: Iterable[str], decided: Mapping[str, Mode]) -> frozenset[str]:
    """Return which of some pipelines are not to be planned."""
    return frozenset(name for name in names if mode_of(name, decided) is Mode.DISABLED)


def in_words(name: str, mode: Mode) -> str:
    """Return the sentence that tells a person how far a pipeline goes, and what to do."""
    return {
        Mode.ENABLED: f"{name} is enabled.",
        Mode.SHADOW: f"{name} runs in shadow: nothing of it is sent. "
        f"'radnode models enable {name}' changes that.",
        Mode.DISABLED: f"{name} is disabled: it is not planned. "
        f"'radnode models enable {name}' changes that.",
    }[mode]
