"""A model of a site, answering in the pixels of the study it was given.

Everything between a study and a network's numbers is here, so that a clinical pipeline that reads
them (``network_for``) and the plain pipeline of a folder (``load``) get the same answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipelines.contract import CouldNotLook, Study, Volume
from pipelines.runtimes.boxes import Box, read_boxes
from pipelines.runtimes.manifest import Manifest, read
from pipelines.runtimes.network import NetworkFault, SeriesModel, finite, open_network
from pipelines.runtimes.prediction import Prediction, activated, exclusive, masks
from pipelines.runtimes.prepare import Prepared, prepare
from pipelines.runtimes.window import predict_dense

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from pipelines.contract import Model
    from pipelines.runtimes.network import Network
    from pipelines.runtimes.sections import Label

    Floats = npt.NDArray[np.float32]


class Score(NamedTuple):
    """What a classifier says of one label: its probability, and on which image it was highest."""

    label: Label
    probability: float
    image: int


class SiteNetwork:
    """The model of one folder. Nothing is loaded before ``warm_up`` or the first question.

    Attributes:
        manifest: What its folder says of it.
    """

    def __init__(self, folder: Path, manifest: Manifest | None = None) -> None:
        self.manifest = manifest or read(folder)
        self._folder = folder
        self._opened: Network | SeriesModel | None = None

    @property
    def model(self) -> Model:
        """The algorithm, as result objects name it."""
        return self.manifest.described()

    @property
    def labels(self) -> tuple[Label, ...]:
        """What it tells apart."""
        return self.manifest.labels

    @property
    def parameters(self) -> Mapping[str, str]:
        """Everything stated that changes its answers."""
        return self.manifest.parameters()

    def warm_up(self) -> None:
        """Load it, verified by digest.

        Raises:
            WeightsRefused: A file is not the one that the manifest names, or not safe to load.
            RuntimeMissing: What runs it is not installed.
        """
        self._network()

    # --- what it says, on the study's own grid -----------------------------------------------

    def prediction(self, *series: Study) -> Prediction:
        """Return what a segmentation model says of each voxel of the (first) study.

        Raises:
            CouldNotLook: The study is not one that the network takes.
            NetworkFault: The network's answer cannot be one.
        """
        opened = self._network()
        if isinstance(opened, SeriesModel):
            return opened.read(tuple(_volume(one) for one in series))
        prepared = prepare(series, self.manifest.input)
        values = self._activated(self._dense(opened, prepared))
        if self.manifest.output.activation == "softmax":
            return exclusive(len(values), lambda index: prepared.to_source(values[index]))
        return Prediction(len(values), lambda index: prepared.to_source(values[index]), None)

    def masks(self, *series: Study) -> dict[str, npt.NDArray[np.bool_]]:
        """Return the mask of each label by its name, bool, shape of the (first) study.

        Raises:
            CouldNotLook: As of ``prediction``.
            NetworkFault: Ditto.
        """
        first = series[0]
        voxel_ml = first.grid.voxel_volume_ml if isinstance(first, Volume) else None
        predicted = self.prediction(*series)
        return masks(predicted, self.labels, self.manifest.output, voxel_ml)

    def probabilities(self, *series: Study) -> dict[str, Floats]:
        """Return the probability of each label by its name, float32, shape of the study.

        Raises:
            CouldNotLook: As of ``prediction``.
            NetworkFault: Ditto; or the model names labels only.
        """
        predicted = self.prediction(*series)
        if predicted.probability is None:
            raise NetworkFault(f"{self.manifest.name} gives labels without probabilities.")
        return {label.label: predicted.probability(label.index) for label in self.labels}

    def boxes(self, *series: Study) -> tuple[Box, ...]:
        """Return what a detector found, in pixels of the (first) study, most probable first.

        Raises:
            CouldNotLook: As of ``prediction``.
            NetworkFault: Ditto.
        """
        opened = self._network()
        if hasattr(opened, "boxes"):
            found: tuple[Box, ...] = opened.boxes(tuple(_volume(one) for one in series))
            return found
        prepared = prepare(series, self.manifest.input)
        return read_boxes(_network(opened), prepared, self.manifest)

    def scores(self, *series: Study) -> tuple[Score, ...]:
        """Return what a classifier says of each label, in the manifest's order.

        Raises:
            CouldNotLook: As of ``prediction``.
            NetworkFault: Ditto.
        """
        values = self._activated(self._vectors(*series))
        pooled = values.max(axis=0) if self.manifest.output.pool == "max" else values.mean(axis=0)
        self._require_channels(len(pooled))
        if pooled.min() < 0.0 or pooled.max() > 1.0:
            raise NetworkFault("The network's probabilities are not between 0 and 1.")
        return tuple(
            Score(label, float(pooled[label.index]), int(values[:, label.index].argmax()))
            for label in self.labels
        )

    def numbers(self, *series: Study) -> Floats:
        """Return what a regression network says, shape (outputs,): the mean of slices or frames.

        Raises:
            CouldNotLook: As of ``prediction``.
            NetworkFault: Ditto.
        """
        return np.asarray(self._vectors(*series).mean(axis=0), np.float32)

    def network(self) -> Network:
        """Return the network itself, for arrays that the caller prepared.

        Raises:
            NetworkFault: The runtime prepares images itself and takes no arrays.
        """
        return _network(self._network())

    # --- how ---------------------------------------------------------------------------------

    def _network(self) -> Network | SeriesModel:
        if self._opened is None:
            self._opened = open_network(self.manifest, self._folder)
        return self._opened

    def _dense(self, network: Network, prepared: Prepared) -> Floats:
        to = self.manifest.input
        fill = "batch" not in to.model_fields_set

        def dense(array: Floats) -> Floats:
            return predict_dense(network, array, to.patch, to.overlap, to.batch, fill=fill)

        if to.view == "volume":
            return dense(prepared.array)
        images = (prepared.array[:, at] for at in range(prepared.array.shape[1]))
        return np.stack([dense(one) for one in images], axis=1)

    def _vectors(self, *series: Study) -> Floats:
        """Return one row of numbers for each volume, slice or frame."""
        to = self.manifest.input
        prepared = prepare(series, to)
        volume = to.view == "volume"
        array = prepared.array[np.newaxis] if volume else np.moveaxis(prepared.array, 1, 0)
        network = _network(self._network())
        rows = []
        for first in range(0, len(array), to.batch):
            given = np.ascontiguousarray(array[first : first + to.batch])
            answer = finite(network.predict(given)[0], "scores")
            rows.append(answer.reshape(len(given), -1) if len(answer) == len(given) else answer)
        answers = np.concatenate(rows)
        if answers.ndim != 2 or len(answers) != len(array):
            raise NetworkFault(
                f"The network answered {len(array)} images with an array of {answers.shape}; "
                "one row of numbers for each is needed."
            )
        return answers

    def _activated(self, values: Floats) -> Floats:
        """Return probabilities; labels are the first axis of a segmentation, else the last."""
        axis = 0 if self.manifest.task == "segmentation" else -1
        return activated(values, self.manifest.output.activation, axis)

    def _require_channels(self, channels: int) -> None:
        for label in self.labels:
            if label.index >= channels:
                raise NetworkFault(
                    f"The network has {channels} outputs, none of index {label.index} "
                    f"({label.label}): the labels in pipeline.toml are another network's."
                )


def _network(opened: Network | SeriesModel) -> Network:
    if not isinstance(opened, SeriesModel):
        return opened
    raise NetworkFault("This runtime segments; it does not do what its task says.")


def _volume(study: Study) -> Volume:
    if not isinstance(study, Volume):
        raise CouldNotLook("This model looks at a volume of slices, and this is none.")
    return study
