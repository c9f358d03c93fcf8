"""A network slides over what is larger than its patch; where windows overlap, they are blended.

Source: nnU-Net (Isensee et al. 2021, Nat Methods 18:203-211): windows spread evenly, each
weighted by a Gaussian whose deviation is an eighth of the patch, as the edge sees least.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from pipelines.runtimes.network import NetworkFault, finite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from pipelines.runtimes.network import Network

    Floats = npt.NDArray[np.float32]

_DEVIATION = 0.125
_LEAST_WEIGHT = 1e-3
"""Of the middle's: a corner that only one window covers keeps a finite sum."""


@dataclass(frozen=True)
class Windows:
    """Where a network looks, and what its answer counts there.

    Attributes:
        places: Of each window along the spatial axes; the first axis never runs back.
        weight: float32, positive, shape of a window.
    """

    places: tuple[tuple[slice, ...], ...]
    weight: Floats


@runtime_checkable
class SlidesItself(Protocol):
    """A network that gathers and blends windows where it is, such as on a graphics card."""

    def blend(self, array: Floats, to: Windows, batch: int, *, fill: bool) -> Floats:
        """Return the weighted mean of its answers, as ``predict_dense``."""


def windows(
    shape: Sequence[int], patch: Sequence[int], overlap: float
) -> Iterator[tuple[slice, ...]]:
    """Yield the windows that cover an array, spread evenly."""
    starts = []
    for size, width in zip(shape, patch, strict=True):
        steps = int(np.ceil(max(size - width, 0) / max(width * (1.0 - overlap), 1.0))) + 1
        starts.append(np.unique(np.linspace(0, max(size - width, 0), steps).round().astype(int)))
    for corner in product(*starts):
        yield tuple(
            slice(int(first), int(first) + width)
            for first, width in zip(corner, patch, strict=True)
        )


def predict_dense(  # noqa: PLR0913 - what a manifest says of it, a name each
    network: Network,
    array: Floats,
    patch: Sequence[int],
    overlap: float,
    batch: int,
    *,
    fill: bool = False,
) -> Floats:
    """Return a network's numbers for every voxel.

    Args:
        network: Gives numbers of the shape of what it is given.
        array: Shape (channels, *spatial).
        patch: Spatial; empty: all at once.
        overlap: Of neighbouring windows, 0 to 0.9.
        batch: Windows that the network gets at once.
        fill: On a graphics card as many as fit, where that does not change the answers.

    Returns:
        Shape (classes, *spatial).

    Raises:
        NetworkFault: The numbers are not of that shape, or none.
    """
    shape = array.shape[1:]
    patch = tuple(patch) or shape
    weight = _gaussian(patch)
    where = list(windows(shape, patch, overlap))
    if isinstance(network, SlidesItself):
        return network.blend(array, Windows(tuple(where), weight), batch, fill=fill)
    total: Floats | None = None
    weights = np.zeros(shape, np.float32)
    for first in range(0, len(where), batch):
        group = where[first : first + batch]
        given = np.stack([array[(slice(None), *window)] for window in group])
        answers = _dense(network, given)
        if total is None:
            total = np.zeros((answers.shape[1], *shape), np.float32)
        for window, answer in zip(group, answers, strict=True):
            total[(slice(None), *window)] += answer * weight
            weights[window] += weight
    if total is None:
        raise NetworkFault("There is nothing to look at.")
    total /= weights
    return total


def _dense(network: Network, given: Floats) -> Floats:
    answer = finite(network.predict(np.ascontiguousarray(given))[0], "a segmentation")
    expected = (given.shape[0], *given.shape[2:])
    if answer.ndim != given.ndim or (answer.shape[0], *answer.shape[2:]) != expected:
        raise NetworkFault(
            f"The network answered an array of {given.shape} with one of {answer.shape}; "
            "a segmentation has (batch, labels) and the same further axes."
        )
    return answer


def _gaussian(patch: Sequence[int]) -> Floats:
    weight = np.ones((), np.float64)
    for width in patch:
        places = (np.arange(width) - (width - 1) / 2.0) / max(width * _DEVIATION, 1e-6)
        weight = weight[..., np.newaxis] * np.exp(-0.5 * places**2)
    return np.asarray(np.maximum(weight, _LEAST_WEIGHT * weight.max()), np.float32)
