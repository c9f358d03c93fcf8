"""Choose: which series of a study a pipeline gets for each input that it names.

An examination often has several that fit: a thin three-dimensional one beside thick slices, or
one that was repeated because the patient moved. The same series are chosen in whatever order they
came, and the report says which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.domain import JobInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from node.route import Attributes

LOOKED_AT = frozenset({"SeriesNumber", "NumberOfFrames"})
"""Attributes that decide between series that fit alike."""


@dataclass(frozen=True)
class Candidate:
    """A series that may serve as an input.

    Attributes:
        images: How many it has.
        number: Series number, 0 where it has none.
    """

    series_uid: str
    images: int
    number: int


def candidate(series_uid: str, instances: int, attributes: Attributes) -> Candidate:
    """Return a series as a candidate.

    Args:
        series_uid: Of the series.
        instances: How many it has. Multi-frame ones count as if all had as many frames as the
            largest.
        attributes: Of the series, those of ``LOOKED_AT`` among them.
    """
    return Candidate(
        series_uid,
        instances * max(_number(attributes, "NumberOfFrames"), 1),
        _number(attributes, "SeriesNumber"),
    )


def _number(attributes: Attributes, keyword: str) -> int:
    return max((int(v) for v in attributes.get(keyword, ()) if v.isdecimal()), default=0)


def choose(fitting: Mapping[str, Sequence[Candidate]]) -> dict[str, JobInput]:
    """Return the series chosen for each input that any fits, each for one input only.

    Of several the one with most images: it is the finest. Of several as large the one with the
    highest series number: who repeats a series was not content with the first. An input with few
    candidates chooses before one with many, which can do without.

    Args:
        fitting: Name of each input, in the pipeline's order -> the series that fit it.
    """
    taken: set[str] = set()
    chosen: dict[str, JobInput] = {}
    for name in sorted(fitting, key=lambda name: len(fitting[name])):
        free = [one for one in fitting[name] if one.series_uid not in taken]
        if free:
            best = max(free, key=lambda one: (one.images, one.number, one.series_uid))
            taken.add(best.series_uid)
            chosen[name] = JobInput(name, best.series_uid, len(fitting[name]))
    return {name: chosen[name] for name in fitting if name in chosen}
