"""What an answer rests on: one patch after the other is hidden, and the pipeline asked again.

Zeiler and Fergus 2014, arXiv:1311.2901. It needs nothing of a pipeline but that it runs. What it
shows is coarse, and says on which part of the images the answer depends, not why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipelines.contract import CouldNotLook
from pipelines.explain.patches import patches

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipelines.contract import Result, Study

MOST_RUNS = 64
"""How often a pipeline is run for one explanation: four patches along each axis of a volume."""


@dataclass(frozen=True)
class Importance:
    """What each place adds to a score.

    Attributes:
        values: Of the first input: float32, shape of its volume or images; of a waveform one
            array for each group, shape (samples,). The part of the score that is lost where the
            place is hidden; below 0: it grows.
        runs: How many patches were hidden.
        not_judged: Of how many of them the pipeline could not look: their importance is 0.
    """

    values: tuple[npt.NDArray[np.float32], ...]
    runs: int
    not_judged: int


def occlusion(
    look: Callable[[Mapping[str, Study]], Result],
    studies: Mapping[str, Study],
    score: Callable[[Result], float],
    *,
    most_runs: int = MOST_RUNS,
) -> Importance:
    """Return which places a score rests on. The same inputs give the same.

    Args:
        look: The pipeline; gets its inputs by name.
        studies: Its inputs by name; the result lies on the first.
        score: What is explained, as a number above 0 where nothing is hidden.
        most_runs: How often ``look`` is asked with something hidden, at most.
    """
    whole = score(look(studies))
    cut = patches(studies, most_runs)
    lost = np.zeros(cut.count + 1, np.float32)  # the last is of what is in no patch
    not_judged = 0
    for number in range(cut.count):
        try:
            left = score(look(cut.without(studies, number)))
        except CouldNotLook:
            not_judged += 1
        else:
            lost[number] = (whole - left) / whole if whole > 0 else 0.0
    first = next(iter(studies))
    return Importance(tuple(lost[one] for one in cut.numbers[first]), cut.count, not_judged)
