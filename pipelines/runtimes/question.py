"""The network that a site added for a clinical question whose reading ships with the node.

``xray-fracture``, ``echo-lv`` and others read what a network says; the network is the site's.
"""

from __future__ import annotations

from pipelines import models
from pipelines.runtimes.manifest import FILE, read
from pipelines.runtimes.network import WeightsRefused
from pipelines.runtimes.site_network import SiteNetwork


class QuestionUnanswered(LookupError):
    """No model, or more than one, was added for a clinical question."""


def network_for(question: str) -> SiteNetwork | None:
    """Return the network whose ``pipeline.toml`` says ``question = "..."``, or None.

    Example::

        network = network_for("echo-lv")
        if network is None:
            raise CouldNotLook("No model of the left ventricle was added to this node.")
        ventricle = network.probabilities(clip)["left ventricle"]  # shape of clip.frames

    It answers in the pixels of the study it is given, whatever orientation, spacing, patch and
    intensities its manifest asks for:

    * ``probabilities(study)``: label -> float32 of ``study.shape`` (segmentation);
      ``masks(study)``: label -> bool, after threshold and pieces as its manifest says.
    * ``boxes(study)``: ``Box`` of label, probability and two corners (image, row, column), in
      the coordinates of ``Region`` (detection).
    * ``scores(study)``: ``Score`` of label, probability and image (classification).
    * ``numbers(study)``: the raw outputs (regression).

    Several series are given in the order of the manifest's ``[input.series]``. ``labels``,
    ``model``, ``parameters`` and ``manifest.task`` tell what it is: hand ``model`` and
    ``parameters`` on as your pipeline's own, so that a new network means new results. Loading it
    is left to ``warm_up`` or the first question; each call raises ``CouldNotLook`` for a study
    that the network does not take.

    Raises:
        QuestionUnanswered: Several models answer it: which to take is the site's decision.
        ManifestError: A model's ``pipeline.toml`` cannot be used as it is.
        WeightsRefused: Its ``pipeline.toml`` is not the one that was added.
    """
    answering = []
    for added in models.added():
        if FILE not in added.files and not (added.folder / FILE).is_file():
            continue
        manifest = read(added.folder)
        if manifest.question == question:
            answering.append((added, manifest))
    if len(answering) > 1:
        names = ", ".join(added.name for added, _ in answering)
        raise QuestionUnanswered(
            f"Several models answer {question}: {names}. Remove all but one with "
            "'radnode models remove NAME'."
        )
    if not answering:
        return None
    added, manifest = answering[0]
    if FILE in added.files:
        try:
            added.read(FILE)
        except models.ModelChanged as error:
            raise WeightsRefused(str(error)) from None
    return SiteNetwork(added.folder, manifest)
