"""What a pipeline says of itself whose network is the site's: the site's model, or none yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from pipelines import models
from pipelines.contract import CouldNotLook, Model
from pipelines.runtimes import ManifestError, QuestionUnanswered, WeightsRefused, network_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.runtimes import SiteNetwork

NO_MODEL: Final = Model(
    name="none",
    version="0",
    maker="none",
    weights_sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    trained_on="No model was added to this node",
)
"""The digest of no bytes at all."""


class SiteReading:
    """Base of pipelines that read what a site's network says.

    A model that is added, changed or removed while the node runs counts from the next job on.
    """

    name: ClassVar[str]
    """Also the question that the ``pipeline.toml`` of the site's model answers."""
    settings: ClassVar[Mapping[str, str]] = {}
    """What of the reading itself changes the result."""
    missing: ClassVar[str]
    """What is said where the site added no model."""

    def __init__(self) -> None:
        self._kept: SiteNetwork | None = None

    @property
    def model(self) -> Model:
        """The site's."""
        network = self._stated()
        return NO_MODEL if network is None else network.model

    @property
    def parameters(self) -> Mapping[str, str]:
        """As the site's model states them, and those of the reading."""
        network = self._stated()
        return {} if network is None else {**network.parameters, **self.settings}

    def warm_up(self) -> None:
        """Load the site's network, if there is one, verified by digest.

        Raises:
            QuestionUnanswered: Several models answer the question.
            ManifestError: The model's ``pipeline.toml`` cannot be used as it is.
            WeightsRefused: A file is not the one that was added.
        """
        network = self._current()
        if network is not None:
            network.warm_up()

    def network(self) -> SiteNetwork:
        """Return the site's network.

        Raises:
            CouldNotLook: None was added.
        """
        network = self._current()
        if network is None:
            raise CouldNotLook(self.missing)
        return network

    def _stated(self) -> SiteNetwork | None:
        """Return the site's network as far as it can be described; ``warm_up`` says what is wrong.

        Whoever lists or plans asks for it, and a damaged model must not stop other pipelines.
        """
        try:
            return self._current()
        except (QuestionUnanswered, ManifestError, WeightsRefused, models.ModelChanged):
            return None

    def _current(self) -> SiteNetwork | None:
        """Return the network with what it has loaded, or another one where the model changed."""
        found = network_for(self.name)
        if found is None or self._kept is None or found.manifest != self._kept.manifest:
            self._kept = found
        return self._kept
