"""Which pipelines there are.

The entry points of the group ``radnode.pipelines``, and the added models whose folder has a
``pipeline.toml``.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from pipelines import models

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from typing_extensions import TypeIs

    from pipelines.contract import AnyPipeline, Patterns, StudyPipeline

GROUP = "radnode.pipelines"
DESCRIPTION = "pipeline.toml"
"""File of an added model that makes it a pipeline."""


SEEN_BY = "as seen by "
"""Before a pipeline's name: not an attribute of the series, but what the pipeline makes of it."""


class UnknownPipeline(LookupError):
    """Neither an installed package nor an added model offers a pipeline of this name."""


@cache
def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def is_installed(name: str) -> bool:
    """Whether a package offers a pipeline of this name, so that no added model can."""
    return name in _installed()


def names() -> tuple[str, ...]:
    """Return the names of all pipelines."""
    described = {one.name for one in models.added() if DESCRIPTION in one.files}
    return tuple(sorted(described.union(_installed())))


def get(name: str) -> AnyPipeline:
    """Return the pipeline called ``name``; its networks are not loaded yet.

    Raises:
        UnknownPipeline: Nothing offers it.
        ImportError: It is installed, but something it needs is not.
        ModelChanged: A file of the added model is not the one that was added.
        ManifestError: The ``pipeline.toml`` of the added model cannot be used.
    """
    if is_installed(name):
        return _of_package(name)
    model = models.find(name)
    if model is None or DESCRIPTION not in model.files:
        raise UnknownPipeline(name)
    model.read(DESCRIPTION)
    return _of_model(model.folder, model.sha256)


@cache
def _of_package(name: str) -> AnyPipeline:
    pipeline: AnyPipeline = _installed()[name].load()()
    return pipeline


@cache
def _of_model(folder: Path, _sha256: str) -> AnyPipeline:
    """Return the pipeline of a model's folder: another one when another model lies there."""
    from pipelines import runtimes  # noqa: PLC0415 - only where a model was added

    return runtimes.load(folder)


def is_study_pipeline(pipeline: AnyPipeline) -> TypeIs[StudyPipeline]:
    """Whether a pipeline judges several series of a study together."""
    return hasattr(pipeline, "inputs")


def inputs_of(pipeline: AnyPipeline) -> Mapping[str, Patterns]:
    """Return what each input of a pipeline must match, by its name; of one that has one, ``""``.

    Where a pipeline tells series apart itself (``input_of``), what it says is one more attribute.
    """
    if not is_study_pipeline(pipeline):
        return {"": pipeline.input}
    if not hasattr(pipeline, "input_of"):
        return pipeline.inputs
    seen = f"{SEEN_BY}{pipeline.name}"
    return {name: {**patterns, seen: name} for name, patterns in pipeline.inputs.items()}


def input_seen(keyword: str, attributes: Mapping[str, str]) -> str | None:
    """Return which of its inputs the pipeline named in ``SEEN_BY...`` takes a series for.

    Args:
        keyword: As ``inputs_of`` gives it.
        attributes: Of the series, as ``Volume.attributes``.
    """
    pipeline: Any = get(keyword.removeprefix(SEEN_BY))
    seen: str | None = pipeline.input_of(attributes)
    return seen
