"""What a model says of each voxel, and the masks that follow from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import SimpleITK

from pipelines.runtimes.network import NetworkFault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from pipelines.runtimes.sections import Label, Output

    Floats = npt.NDArray[np.float32]
    Mask = npt.NDArray[np.bool_]


class Prediction(NamedTuple):
    """What a model says, on the grid of its source.

    Attributes:
        channels: How many there are.
        probability: Returns that of one channel, float32, shape of the source. None where the
            model only names the label of each voxel.
        labels: The label of each voxel, shape of the source, for a model that says one of each;
            None where labels may overlap.
    """

    channels: int
    probability: Callable[[int], Floats] | None
    labels: npt.NDArray[np.int32] | None


def exclusive(channels: int, probability: Callable[[int], Floats]) -> Prediction:
    """Return a prediction of which each voxel gets the most probable label.

    One channel is held at a time: a hundred labels of a large CT would not fit into memory.
    """
    best = probability(0)
    labels = np.zeros(best.shape, np.int32)
    for index in range(1, channels):
        now = probability(index)
        better = now > best
        labels[better] = index
        np.maximum(best, now, out=best)
    return Prediction(channels, probability, labels)


def activated(values: Floats, activation: str | None, axis: int) -> Floats:
    """Return a network's numbers as probabilities.

    Raises:
        NetworkFault: Softmax over a single label: it is always there.
    """
    if activation == "sigmoid":
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(values, -80.0, 80.0))), np.float32)
    if activation == "softmax":
        if values.shape[axis] < 2:
            raise NetworkFault(
                'The network has one channel, of which softmax makes 1 everywhere: "sigmoid" it is.'
            )
        shifted = np.exp(values - values.max(axis=axis, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=axis, keepdims=True), np.float32)
    return values


def masks(
    prediction: Prediction, labels: Sequence[Label], output: Output, voxel_ml: float | None
) -> dict[str, Mask]:
    """Return the mask of each label, by its name.

    Args:
        prediction: What the model says.
        labels: Which masks.
        output: What makes a mask of it.
        voxel_ml: Volume of a voxel; None where the images make no volume: each is then judged
            for itself, and no piece is too small.

    Raises:
        NetworkFault: The network has no such label.
    """
    found = {}
    for label in labels:
        if label.index >= prediction.channels:
            raise NetworkFault(
                f"The network has {prediction.channels} channels, none of index {label.index} "
                f"({label.label}): the labels in pipeline.toml are another network's."
            )
        if prediction.labels is not None and label.threshold is None:
            mask = prediction.labels == label.index
        elif prediction.probability is not None:
            threshold = output.threshold if label.threshold is None else label.threshold
            mask = prediction.probability(label.index) >= threshold
        else:
            raise NetworkFault(f"{label.label}: this model has no probabilities for a threshold.")
        largest = output.keep_largest if label.keep_largest is None else label.keep_largest
        least_ml = output.minimum_ml if label.minimum_ml is None else label.minimum_ml
        if voxel_ml is not None:
            mask = _pieces(mask, largest=largest, least_voxels=least_ml / voxel_ml)
        elif largest:
            mask = np.stack([_pieces(image, largest=True, least_voxels=0.0) for image in mask])
        found[label.label] = mask
    return found


def _pieces(mask: Mask, *, largest: bool, least_voxels: float) -> Mask:
    """Return the connected pieces that count; voxels that touch at a corner are connected."""
    if not mask.any() or (not largest and least_voxels <= 1.0):
        return mask
    image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
    numbered = SimpleITK.ConnectedComponent(image, True)
    ordered = SimpleITK.RelabelComponent(numbered, int(np.ceil(least_voxels)))
    pieces = SimpleITK.GetArrayFromImage(ordered)
    return pieces == 1 if largest else pieces > 0
