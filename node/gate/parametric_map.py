"""A parametric map: a finite number for each voxel of the images, and what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from node.gate.frames import frames_of, macro
from node.gate.grid import grid_problems

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydicom import Dataset

_TYPES = {"FloatPixelData": "<f4", "DoubleFloatPixelData": "<f8"}


def map_problems(a_map: Dataset, sources: Sequence[Dataset]) -> Iterator[str]:
    """Yield what is wrong with a parametric map of floating point values, as predicates of it.

    Args:
        a_map: With pixel data.
        sources: Headers of the images analysed: single-frame ones, or one multi-frame.
    """
    frames = frames_of(a_map)
    yield from grid_problems(a_map, frames, sources)
    yield from _value_problems(a_map, len(frames) * a_map.Rows * a_map.Columns)
    shared = a_map.get("SharedFunctionalGroupsSequence")
    mapping = macro(shared, "RealWorldValueMappingSequence")
    if mapping is None or not mapping.get("MeasurementUnitsCodeSequence"):
        yield "does not say in which unit its numbers are"
    if mapping is None or not mapping.get("QuantityDefinitionSequence"):
        yield "does not say what its numbers are"


def _value_problems(a_map: Dataset, expected: int) -> Iterator[str]:
    stored = [keyword for keyword in _TYPES if keyword in a_map]
    if len(stored) != 1:
        yield "has no pixel data in floating point"
        return
    content, dtype = a_map[stored[0]].value, np.dtype(_TYPES[stored[0]])
    if len(content) != expected * dtype.itemsize:
        yield "has pixel data that are not as long as its frames need"
        return
    values = np.frombuffer(content, dtype).reshape(-1, a_map.Rows * a_map.Columns)
    if not all(np.isfinite(frame).all() for frame in values):
        yield "has values that are not finite numbers"
