"""A study cut into patches, and the study with one of them hidden."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipelines.contract import Images, Volume, Waveform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipelines.contract import MultiplexGroup, Study

Numbers = npt.NDArray[np.int16]

SHORTEST_S = 0.5
"""Of a stretch of a waveform that is hidden: about a beat."""


@dataclass(frozen=True)
class Patches:
    """Which patch each place of a pipeline's inputs lies in; -1: in none.

    Attributes:
        count: How many there are.
        numbers: Name of the input -> shape of its volume or images; of a waveform one array for
            each group, shape (samples,).
    """

    count: int
    numbers: Mapping[str, tuple[Numbers, ...]]

    def without(self, studies: Mapping[str, Study], number: int) -> dict[str, Study]:
        """Return the inputs with one patch hidden: what is around it, or a straight line."""
        return {
            name: _without(study, [one == number for one in self.numbers[name]])
            for name, study in studies.items()
        }


def patches(studies: Mapping[str, Study], most: int) -> Patches:
    """Cut studies into at most so many patches, about as long as they are wide.

    The first study is cut. Of the other volumes what lies in the same place belongs to the same
    patch; other studies stay whole. All frames of a clip are cut alike.
    """
    first_name, first = next(iter(studies.items()))
    if isinstance(first, Waveform):
        longest_s = max((one.duration_s for one in first.groups), default=0.0)
        count = int(np.clip(longest_s / SHORTEST_S, 1, most))
        numbers = {first_name: tuple(_of_time(g, longest_s, count) for g in first.groups)}
    elif isinstance(first, Volume):
        counts = divisions(first.shape, first.spacing_mm, most)
        numbers = {first_name: (_of_grid(first.shape, counts),)}
        count = int(np.prod(counts))
    else:
        rows, columns = divisions(first.shape[1:], first.spacing_mm or (1.0, 1.0), most)
        numbers = {first_name: (_of_grid(first.shape, (1, rows, columns)),)}
        count = rows * columns
    for name, study in studies.items():
        if name != first_name:
            numbers[name] = _of_other(study, first, numbers[first_name][0])
    return Patches(count, numbers)


def divisions(shape: Sequence[int], spacing: Sequence[float], most: int) -> tuple[int, ...]:
    """Return into how many parts each axis is cut, at most so many patches in all."""
    counts = [1] * len(shape)
    while True:
        lengths = [
            size * step / count if count < size else 0.0
            for size, step, count in zip(shape, spacing, counts, strict=True)
        ]
        longest = int(np.argmax(lengths))
        more = [count + (axis == longest) for axis, count in enumerate(counts)]
        if not lengths[longest] or int(np.prod(more)) > most:
            return tuple(counts)
        counts = more


def _of_grid(shape: Sequence[int], counts: Sequence[int]) -> Numbers:
    number: Any = np.zeros((1,) * len(shape), np.int16)
    for axis, (size, count) in enumerate(zip(shape, counts, strict=True)):
        along = [1] * len(shape)
        along[axis] = size
        number = number * count + (np.arange(size) * count // size).reshape(along)
    return np.ascontiguousarray(np.broadcast_to(number, tuple(shape)), np.int16)


def _of_time(group: MultiplexGroup, longest_s: float, count: int) -> Numbers:
    """Return the stretch of each sample; a median beat has a clock of its own, and stays."""
    samples = group.samples.shape[1]
    if not group.original:
        return np.full(samples, -1, np.int16)
    times_s = np.arange(samples) / group.sampling_hz
    return np.minimum(times_s * count / longest_s, count - 1).astype(np.int16)


def _of_other(study: Study, first: Study, numbers: Numbers) -> tuple[Numbers, ...]:
    if isinstance(study, Waveform):
        return tuple(np.full(one.samples.shape[1], -1, np.int16) for one in study.groups)
    if not (isinstance(study, Volume) and isinstance(first, Volume)):
        return (np.full(study.shape, -1, np.int16),)
    to_first = np.linalg.inv(first.grid.affine) @ study.grid.affine
    found = np.full(study.shape, -1, np.int16)
    rows, columns = np.indices(study.shape[1:]).reshape(2, -1)
    for index in range(study.shape[0]):  # a slice at a time: indices take more than the voxels
        places = np.stack([np.full_like(rows, index), rows, columns, np.ones_like(rows)])
        nearest = np.rint((to_first @ places)[:3]).astype(np.int64)
        inside = ((nearest >= 0) & (nearest < np.array(first.shape)[:, np.newaxis])).all(axis=0)
        flat = found[index].reshape(-1)
        flat[inside] = numbers[tuple(nearest[:, inside])]
    return (found,)


def _without(study: Study, hidden: Sequence[npt.NDArray[np.bool_]]) -> Study:
    if isinstance(study, Volume):
        return replace(study, voxels=_filled(study.voxels, hidden[0]))
    if isinstance(study, Images):
        return replace(study, frames=_filled(study.frames, hidden[0]))
    groups = tuple(_straightened(one, at) for one, at in zip(study.groups, hidden, strict=True))
    return replace(study, groups=groups)


def _filled(values: npt.NDArray[Any], hidden: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """Return values with the median of what is around the hidden ones in their place."""
    filled = values.copy()
    if not hidden.any():
        return filled
    box = []
    for axis in range(hidden.ndim):
        others = tuple(other for other in range(hidden.ndim) if other != axis)
        at = np.flatnonzero(hidden.any(axis=others))
        margin = (at[-1] + 1 - at[0] + 1) // 2
        box.append(slice(max(0, at[0] - margin), at[-1] + 1 + margin))
    around = values[tuple(box)][~hidden[tuple(box)]]
    neutral = np.median(around if len(around) else values[hidden], axis=0)
    filled[hidden] = neutral.astype(values.dtype)
    return filled


def _straightened(group: MultiplexGroup, hidden: npt.NDArray[np.bool_]) -> MultiplexGroup:
    at = np.flatnonzero(hidden)
    if not len(at):
        return group
    samples = group.samples.copy()
    first, last = at[0], at[-1]
    line = np.linspace(samples[:, first], samples[:, last], last + 1 - first, axis=1)
    missing = np.isnan(samples[:, first : last + 1])
    samples[:, first : last + 1] = np.where(missing, np.nan, line)
    return replace(group, samples=samples)
