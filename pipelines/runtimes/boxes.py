"""Boxes: from a detector's tensors to places in the study's own pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipelines.runtimes.network import NetworkFault, finite
from pipelines.runtimes.window import windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from pipelines.runtimes.manifest import Manifest
    from pipelines.runtimes.network import Network
    from pipelines.runtimes.prepare import Prepared
    from pipelines.runtimes.sections import Detection, Label

    Floats = npt.NDArray[np.float64]


class Found(NamedTuple):
    """A detector's answer, in the network's array.

    Attributes:
        corners: Shape (n, 2, 3), in voxels from the outer edge of the first.
        scores: Shape (n,), 0 to 1.
        classes: Shape (n,).
    """

    corners: Floats
    scores: Floats
    classes: npt.NDArray[np.int64]


class Box(NamedTuple):
    """A box whose sides run along the source's axes.

    Attributes:
        label: What is in it.
        probability: That it is.
        low: (slice or frame, row, column) of its first corner; 0 is the outer edge of the first
            voxel, whose centre is at 0.5, as in ``Region``.
        high: Ditto of the opposite corner. A box of an image is one frame thick.
    """

    label: Label
    probability: float
    low: tuple[float, float, float]
    high: tuple[float, float, float]


def read_boxes(network: Network, prepared: Prepared, manifest: Manifest) -> tuple[Box, ...]:
    """Return the boxes that count, the most probable first.

    Raises:
        NetworkFault: The network's answer is no set of boxes, or names a class without a label.
    """
    to, how = manifest.input, manifest.detection
    if how is None:
        raise NetworkFault("[detection] is missing.")
    corners, scores, classes = [], [], []
    for array, corner in _looks(prepared.array, to.patch, to.overlap, to.dimensions):
        tensors = network.predict(np.ascontiguousarray(array[np.newaxis]))
        boxes, score, kind = _tensors(tensors, how, to.dimensions)
        places = _corners(boxes, how, array.shape[1:])
        corners.append(_in_volume(places, corner))
        scores.append(score)
        classes.append(kind)
    found = Found(np.concatenate(corners), np.concatenate(scores), np.concatenate(classes))
    return place_boxes(
        found,
        prepared.source_index,
        prepared.source.shape,
        prepared.reorder.axes[0] if to.dimensions == 2 else None,
        manifest,
    )


def place_boxes(
    found: Found,
    to_source: Callable[[Floats], Floats],
    shape: tuple[int, int, int],
    image_axis: int | None,
    manifest: Manifest,
) -> tuple[Box, ...]:
    """Return the boxes that count, in the source's pixels, the most probable first.

    Args:
        found: What the network says.
        to_source: From centres of the network's voxels to (slice, row, column) of the source's.
        shape: Of the source.
        image_axis: Axis of the source that counts the network's images; None for volumes.
        manifest: Which labels and thresholds there are.

    Raises:
        NetworkFault: A class has no label.
    """
    places, scores, classes = found
    labels = {label.index: label for label in manifest.labels}
    how = manifest.detection
    overlap, smallest = (how.overlap, how.smallest_px) if how else (0.3, 0.0)
    moving = slice(0 if image_axis is None else 1, 3)
    kept = []
    for kind in np.unique(classes):
        if int(kind) not in labels:
            raise NetworkFault(f"The network found class {int(kind)}, which has no label.")
        label = labels[int(kind)]
        least = manifest.output.threshold if label.threshold is None else label.threshold
        if label.indeterminate:
            least = min(least, label.indeterminate[0])
        sizes = (places[:, 1] - places[:, 0])[:, moving].min(axis=1, initial=np.inf)
        mine = np.flatnonzero((classes == kind) & (scores >= least) & (sizes > smallest))
        kept += [(label, int(one)) for one in _without_doubles(places, scores, mine, overlap)]
    boxes = (
        _in_source(places[at], float(scores[at]), label, to_source, shape, image_axis)
        for label, at in kept
    )
    inside = (box for box in boxes if all(a < b for a, b in zip(box.low, box.high, strict=True)))
    return tuple(sorted(inside, key=lambda box: (-box.probability, box.low)))


def _looks(
    array: npt.NDArray[np.float32], patch: Sequence[int], overlap: float, dimensions: int
) -> Iterator[tuple[npt.NDArray[np.float32], tuple[int, ...]]]:
    """Yield what the network is given, and the (slice, row, column) of its first voxel."""
    planes = (
        [(array, ())]
        if dimensions == 3
        else [(array[:, at], (at,)) for at in range(array.shape[1])]
    )
    for plane, at in planes:
        for window in windows(plane.shape[1:], tuple(patch) or plane.shape[1:], overlap):
            yield plane[(slice(None), *window)], (*at, *(one.start for one in window))


def _tensors(
    tensors: Sequence[npt.NDArray[np.float32]], how: Detection, dimensions: int
) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Return boxes (n, 2 * dimensions), scores (n,) and classes (n,)."""
    width = 2 * dimensions
    arrays = [finite(one, "boxes").astype(np.float64) for one in tensors]
    if how.rows:
        rows = arrays[0].reshape(-1, arrays[0].shape[-1]) if arrays[0].ndim else arrays[0]
        if rows.ndim != 2 or rows.shape[1] not in (width + 1, width + 2):
            raise NetworkFault(
                f"The network answered with an array of {arrays[0].shape}; rows of "
                f"{width} coordinates, score and class are needed."
            )
        kinds = rows[:, width + 1] if rows.shape[1] == width + 2 else np.zeros(len(rows))
        boxes, scores = rows[:, :width], rows[:, width]
    else:
        if len(arrays) < 2:
            raise NetworkFault("The network gave one tensor; boxes and scores are needed.")
        boxes = arrays[0].reshape(-1, width) if arrays[0].size % width == 0 else arrays[0]
        scores = arrays[1].reshape(len(boxes), -1) if len(boxes) else np.zeros((0, 1))
        if len(arrays) > 2:
            kinds, scores = arrays[2].reshape(-1), scores.reshape(-1)
        else:
            kinds = scores.argmax(axis=1) if scores.size else np.zeros(0)
            scores = scores.max(axis=1, initial=0.0)
    if boxes.ndim != 2 or not len(boxes) == len(scores) == len(kinds):
        raise NetworkFault("The network gave different numbers of boxes, scores and classes.")
    if len(scores) and (scores.min() < 0.0 or scores.max() > 1.0):
        raise NetworkFault("The network's scores are not between 0 and 1.")
    return boxes, scores, kinds.round().astype(np.int64)


def _corners(boxes: Floats, how: Detection, shape: Sequence[int]) -> Floats:
    """Return boxes as (n, 2, dimensions): first and last corner, in the order of the axes."""
    pairs = boxes.reshape(len(boxes), 2, len(shape))
    if how.boxes == "centre":
        middle, size = pairs[:, 0], pairs[:, 1]
        pairs = np.stack((middle - size / 2.0, middle + size / 2.0), axis=1)
    if how.first == "columns-first":
        pairs = pairs[:, :, ::-1]
    if how.normalised:
        pairs = pairs * np.array(shape, np.float64)
    return np.sort(pairs, axis=1)


def _in_volume(places: Floats, corner: tuple[int, ...]) -> Floats:
    """Return places of a window as places in the whole array, shape (n, 2, 3)."""
    missing = len(corner) - places.shape[2]
    if missing:
        thick = np.array([[0.0], [1.0]])
        places = np.concatenate((np.broadcast_to(thick, (len(places), 2, 1)), places), axis=2)
    return np.asarray(places + np.array(corner, np.float64))


def _without_doubles(
    places: Floats, scores: Floats, mine: npt.NDArray[np.intp], overlap: float
) -> list[int]:
    """Return the most probable of boxes that overlap (non-maximum suppression)."""
    left = list(mine[np.argsort(-scores[mine], kind="stable")])
    kept = []
    while left:
        best, *rest = left
        kept.append(int(best))
        shared = _shared(places[best], places[rest]) if rest else np.zeros(0)
        left = [one for one, share in zip(rest, shared, strict=True) if share <= overlap]
    return kept


def _shared(box: Floats, others: Floats) -> Floats:
    low = np.maximum(box[0], others[:, 0])
    high = np.minimum(box[1], others[:, 1])
    both = np.clip(high - low, 0.0, None).prod(axis=1)
    sizes = (others[:, 1] - others[:, 0]).prod(axis=1)
    return np.asarray(both / np.maximum((box[1] - box[0]).prod() + sizes - both, 1e-12))


def _in_source(  # noqa: PLR0913, PLR0917 - one box and the way back
    place: Floats,
    score: float,
    label: Label,
    to_source: Callable[[Floats], Floats],
    shape: tuple[int, int, int],
    image_axis: int | None,
) -> Box:
    """Return a box in the source's pixels, cut to its field."""
    ends = np.sort(to_source(place - 0.5), axis=0) + 0.5
    ends = np.clip(ends, 0.0, np.array(shape, np.float64))
    if image_axis is not None:  # a whole number, whatever the arithmetic leaves
        ends[:, image_axis] = np.round(ends[:, image_axis])
    low, high = ends.tolist()
    return Box(label, score, (low[0], low[1], low[2]), (high[0], high[1], high[2]))
