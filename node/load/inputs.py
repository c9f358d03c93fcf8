"""From the files of each input of a pipeline to what it sees of them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from node.errors import UnreadableSeries
from node.load.source import load, readable_headers
from pipelines.contract import CouldNotLook
from pipelines.registry import is_study_pipeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pydicom import Dataset

    from node.load.source import Source
    from pipelines.contract import AnyPipeline, Result

    Inputs = Mapping[str, Sequence[Path]]


def load_inputs(pipeline: AnyPipeline, inputs: Inputs) -> dict[str, Source]:
    """Read the files of each input of ``pipeline``, in its order.

    Args:
        pipeline: What needs them.
        inputs: Name of the input -> files of its series; "" for a pipeline that has one.

    Raises:
        CouldNotLook: An input did not come, or makes no study; the reason names it.
    """
    if not is_study_pipeline(pipeline):
        return {"": load(inputs[""])}
    missing = [name for name in pipeline.inputs if name not in inputs]
    if missing:
        raise CouldNotLook(
            f"No {_listed(missing, 'or')} series came that suits this algorithm, which needs "
            f"{_listed(pipeline.inputs, 'and')}."
        )
    sources = {}
    for name in pipeline.inputs:
        try:
            sources[name] = load(inputs[name])
        except CouldNotLook as refusal:
            raise CouldNotLook(f"{spoken(name)}: {refusal.reason}") from refusal
    return sources


def run(pipeline: AnyPipeline, sources: Mapping[str, Source]) -> Result:
    """Have ``pipeline`` judge what ``load_inputs`` read for it.

    Raises:
        CouldNotLook: The pipeline says so.
    """
    if not is_study_pipeline(pipeline):
        return pipeline.run(sources[""].study)
    result = pipeline.run(**{name: source.study for name, source in sources.items()})
    used = "; ".join(map(_described, sources.items()))
    return replace(result, notes=(*result.notes, f"Series analysed: {used}."))


def _described(used: tuple[str, Source]) -> str:
    """Return which series an input is, as the reader finds it in the list of series."""
    name, source = used
    number = str(source.instances[0].get("SeriesNumber") or "")
    series = f"number {number}" if number.isdecimal() else "without a number"
    return f"{spoken(name)} {series}"


def source_of(sources: Mapping[str, Source]) -> Source:
    """Return the source that the result lies on: the first, with the others as evidence."""
    first, *others = sources.values()
    return replace(first, beside=tuple(one for other in others for one in other.instances))


def headers_of(inputs: Inputs) -> tuple[tuple[Dataset, ...], tuple[Dataset, ...]]:
    """Return headers of the first input that can be read, and of the others.

    Raises:
        UnreadableSeries: None can.
    """
    readable = []
    for paths in inputs.values():
        with suppress(UnreadableSeries):
            readable.append(readable_headers(paths))
    if not readable:
        readable_headers([path for paths in inputs.values() for path in paths])
    first, *others = readable
    return first, tuple(one for other in others for one in other)


def in_order(pipeline: AnyPipeline, inputs: Inputs) -> dict[str, Sequence[Path]]:
    """Return what there is of the inputs in the order in which the pipeline names them."""
    if not is_study_pipeline(pipeline):
        return dict(inputs)
    return {name: inputs[name] for name in pipeline.inputs if name in inputs}


def spoken(name: str) -> str:
    """Return the name of an input as people write it: T1C, FLAIR."""
    return name.replace("_", " ").upper()


def _listed(names: Iterable[str], conjunction: str) -> str:
    *most, last = map(spoken, names)
    return f"{', '.join(most)} {conjunction} {last}" if most else last
