"""A folder with a ``pipeline.toml`` as a pipeline, like any that was written in Python."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from pipelines.runtimes import results, waveforms
from pipelines.runtimes.manifest import read
from pipelines.runtimes.model_sections import Container
from pipelines.runtimes.site_network import SiteNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from pipelines.contract import AnyPipeline, Model, Patterns, Result, Study
    from pipelines.explain.question import Question
    from pipelines.runtimes.manifest import Manifest

_TASKS: dict[str, Callable[[SiteNetwork, Sequence[Study]], Result]] = {
    "segmentation": results.segmentation,
    "detection": results.detection,
    "classification": results.classification,
    "regression": results.regression,
    "waveform": waveforms.waveform,
}
VERSION = "1.0.0"
"""Of how this package prepares images and reads numbers; a new one means new results."""


class _Described:
    """What a manifest says of a pipeline."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.network = SiteNetwork(folder, manifest)

    @property
    def name(self) -> str:
        """As in routes and on the command line."""
        return self.network.manifest.name

    @property
    def version(self) -> str:
        """Of the model, and of what runs it."""
        return f"{self.network.manifest.version}+runtimes.{VERSION}"

    @property
    def title(self) -> str:
        """What the reader sees."""
        return self.network.manifest.title

    @property
    def report(self) -> str:
        """Name of the report in ``sr_templates``."""
        return self.network.manifest.report_name

    @property
    def model(self) -> Model:
        """The algorithm."""
        return self.network.model

    @property
    def parameters(self) -> Mapping[str, str]:
        """Everything stated that changes the result."""
        return self.network.parameters

    @property
    def deadline_s(self) -> float:
        """After this long the inference process is killed."""
        return self.network.manifest.deadline_s

    @property
    def gpu_memory_bytes(self) -> int | None:
        """What a run takes of a graphics card; None: it has the card for itself."""
        model = self.network.manifest.model
        if model.device == "cpu" or (isinstance(model, Container) and not model.gpu):
            return 0
        return None if model.gpu_memory_gb is None else int(model.gpu_memory_gb * 1e9)

    def warm_up(self) -> None:
        """Load the network, verified by digest.

        Raises:
            WeightsRefused: A file is not the one that the manifest names, or not safe to load.
            RuntimeMissing: What runs it is not installed.
        """
        self.network.warm_up()

    def _judge(self, series: Sequence[Study]) -> Result:
        return _TASKS[self.network.manifest.task](self.network, series)


class FolderPipeline(_Described):
    """A model that looks at one series."""

    @property
    def input(self) -> Patterns:
        """What the series must match."""
        return self.network.manifest.input.match

    def run(self, study: Study, /) -> Result:
        """Judge one series.

        Raises:
            CouldNotLook: It is not one that the model can judge.
        """
        return self._judge((study,))

    def attribution(
        self, study: Study, _result: Result, about: Question, /
    ) -> npt.NDArray[np.float32] | None:
        """Return what each voxel adds to a classifier's answer; None where no gradients are."""
        if self.network.manifest.task != "classification":
            return None
        # A host without torch lists and plans this pipeline, too: imported where it is asked.
        gradients = import_module("pipelines.runtimes.gradients")
        found: npt.NDArray[np.float32] | None = gradients.attribution(
            self.network, study, about.finding
        )
        return found


class FolderStudyPipeline(_Described):
    """A model that looks at several series, one for each of its channels."""

    @property
    def inputs(self) -> Mapping[str, Patterns]:
        """Name -> what the series must match. The result lies on the first."""
        return self.network.manifest.input.series

    def run(self, **series: Study) -> Result:
        """Judge the series, given by name.

        Raises:
            CouldNotLook: They are not those that the model can judge.
        """
        return self._judge([series[name] for name in self.inputs])


def load(folder: Path) -> AnyPipeline:
    """Return the pipeline of a model's folder; its network loads in ``warm_up``.

    Raises:
        ManifestError: Its ``pipeline.toml`` cannot be used as it is.
    """
    manifest = read(folder)
    kind = FolderStudyPipeline if manifest.input.series else FolderPipeline
    return kind(folder, manifest)
