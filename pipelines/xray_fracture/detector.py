"""What a site's detector says of one radiograph, below its threshold too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from pipelines.contract import CouldNotLook
from pipelines.runtimes.boxes import read_boxes
from pipelines.runtimes.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pipelines.contract import Images
    from pipelines.runtimes import Manifest, SiteNetwork
    from pipelines.runtimes.boxes import Box
    from pipelines.runtimes.sections import Label

FLOOR: Final = 0.01
"""Detectors give thousands of boxes of next to no probability, which tell nothing."""


def suspicions(network: SiteNetwork, radiograph: Images) -> tuple[Box, ...]:
    """Return all boxes from ``floor_of`` on, the most probable first, in the image's pixels.

    ``SiteNetwork.boxes`` leaves out those below the threshold, but how sure a detector is that
    there is no fracture can only be read from these.

    Raises:
        CouldNotLook: The site's model is no detector, or does not take this image.
        NetworkFault: The network's answer cannot be one.
    """
    manifest = network.manifest
    if manifest.task != "detection" or manifest.input.view != "images":
        raise CouldNotLook(
            "The fracture model of this node is no detector on single images, so it cannot answer."
        )
    labels = tuple(
        label.model_copy(update={"threshold": floor_of(label, manifest), "indeterminate": None})
        for label in manifest.labels
    )
    prepared = prepare((radiograph,), manifest.input)
    lowered = manifest.model_copy(update={"labels": labels})
    stated = {label.index: label for label in manifest.labels}
    boxes = read_boxes(network.network(), prepared, lowered)
    # The threshold that decides is the manifest's, not the lowered one.
    return tuple(box._replace(label=stated[box.label.index]) for box in boxes)


def floor_of(label: Label, manifest: Manifest) -> float:
    """Return from which probability on boxes of a label are looked at; below what counts."""
    counts = manifest.output.threshold if label.threshold is None else label.threshold
    if label.indeterminate:
        counts = min(counts, label.indeterminate[0])
    return min(FLOOR, counts / 2.0)


def box_density(boxes: Sequence[Box], shape: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """Return how strongly the detector suspects each pixel.

    Each box adds a Gaussian as wide as itself (two deviations to each side), as high as its
    probability; what overlaps is combined as independent opinions, so that it stays below 1.

    Args:
        boxes: On the one image.
        shape: Of the study: (1, rows, columns).
    """
    _, rows, columns = shape
    unsuspected = np.ones((rows, columns), np.float64)
    for box in boxes:
        along = [
            np.exp(-2.0 * ((np.arange(size) + 0.5 - (low + high) / 2.0) * 2.0 / (high - low)) ** 2)
            for size, low, high in zip((rows, columns), box.low[1:], box.high[1:], strict=True)
        ]
        unsuspected *= 1.0 - box.probability * np.outer(*along)
    return (1.0 - unsuspected).astype(np.float32)[np.newaxis]
