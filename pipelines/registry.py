"""Which pipelines there are: the entry points of the group ``radnode.pipelines``."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.contract import Pipeline

GROUP = "radnode.pipelines"


class UnknownPipeline(LookupError):
    """No installed package offers a pipeline of this name."""


@cache
def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def names() -> tuple[str, ...]:
    """Return the names of all installed pipelines."""
    return tuple(sorted(_installed()))


@cache
def get(name: str) -> Pipeline:
    """Return the pipeline called ``name``; its networks are not loaded yet.

    Raises:
        UnknownPipeline: No installed package offers it.
        ImportError: It is installed, but something it needs is not.
    """
    try:
        entry = _installed()[name]
    except KeyError:
        raise UnknownPipeline(name) from None
    pipeline: Pipeline = entry.load()()
    return pipeline
