"""Recipes that tell what is in an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch.nn import functional

from pipelines import codes
from pipelines.contract import Grid, Images, Study, Volume
from pipelines.evaluation.classification import Answer, roc, sensitivity, specificity
from pipelines.evaluation.estimate import by_patient
from pipelines.runtimes.prepare import prepare
from pipelines.runtimes.sections import Input
from pipelines.runtimes.site_network import SiteNetwork
from pipelines.training.augmentation import Augmentation, augmented
from pipelines.training.data import digest_of
from pipelines.training.loop import fit
from pipelines.training.networks import TumourClassifier
from pipelines.training.product import code_of, plan_of, write_network, write_record
from pipelines.training.recipes import Kind, Order, Unsuitable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.evaluation.estimate import Estimate
    from pipelines.training.data import Example

NONE = "none"
"""Name of the class that shows nothing of the others."""
BATCH = 16
_SIDED = ("left", "right")


class TumourClassifierRecipe:
    """Three convolution-pooling stages, a dense layer, a sigmoid a class: the smallest example."""

    title: ClassVar[str] = "tells classes of images apart (small CNN, 150 x 150)"
    kind: ClassVar[Kind] = "images"
    steps: ClassVar[int] = 1500

    def train(self, order: Order, /) -> None:
        """Train on images with a class each, and fill ``order.out``.

        A class called ``none`` is that of images without any of the others; each other one gets an
        output of its own. Images are mirrored only where no class names a side.

        Raises:
            Unsuitable: There is only one class, or an image is part of a volume.
        """
        labels = labels_of(order.examples)
        seen = order.split.of(order.examples, "train")
        first = seen[0].read().study
        match = dict(order.match) or _match(first)
        view = _view(first, match)
        to = Input(
            match=match,
            view=view,
            orientation="as-acquired",
            spacing_mm="as-acquired",
            size=TumourClassifier.SIZE,
            normalisation="percentiles",
            batch=BATCH,
        )
        images, truth = _arrays(seen, labels, to)
        judged_by = _arrays(order.split.of(order.examples, "validation"), labels, to)
        sided = any(side in label.lower() for label in labels for side in _SIDED)
        amount = Augmentation(flips=() if sided else (1,))
        groups = [torch.nonzero(one)[:, 0] for one in _groups(truth)]

        def draw(_step: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
            """Every class is met equally often, however rare it is."""
            of = torch.randint(len(groups), (BATCH,), generator=generator)
            at = torch.stack(
                [
                    groups[int(k)][torch.randint(len(groups[int(k)]), (), generator=generator)]
                    for k in of
                ]
            )
            changed, _ = augmented(images[at], generator, amount)
            return changed, truth[at]

        torch.manual_seed(order.seed)
        network = TumourClassifier(len(labels))
        plan = plan_of(order, steps=self.steps, score_every=50)
        fitted = fit(
            network,
            draw,
            lambda one, batch: functional.binary_cross_entropy_with_logits(one(batch[0]), batch[1]),
            plan=plan,
            score=lambda one: -_loss(one, *judged_by),
            checkpoints=order.out / "checkpoints",
            identity=digest_of(order.examples),
            logs=order.out / "tensorboard",
            quiet=order.quiet,
        )
        write_network(
            order,
            network,
            {
                "title": order.name,
                "task": "classification",
                "input": to.model_dump(mode="json", exclude_defaults=True),
                "output": {"activation": "sigmoid"},
                "labels": [
                    {
                        "index": index,
                        "label": label,
                        "category": codes.MORPHOLOGICALLY_ABNORMAL,
                        "property": code_of(label, order.codes),
                    }
                    for index, label in enumerate(labels)
                ],
            },
        )
        figures = measure(order, order.split.of(order.examples, "test"))
        write_record(order, plan, fitted, figures)


def labels_of(examples: Sequence[Example]) -> tuple[str, ...]:
    """Return what the examples tell apart, ``none`` left out.

    Raises:
        Unsuitable: Nothing is told apart.
    """
    stated = {label for example in examples for label in example.labels}
    labels = tuple(sorted(stated - {NONE}))
    if not labels or len(set(map(_key, examples))) < 2:
        raise Unsuitable("All examples are of one class: there is nothing to tell apart.")
    return labels


def measure(order: Order, tested: Sequence[Example]) -> list[tuple[str, str, Estimate]]:
    """Return the figures of the model that was written, on the test patients."""
    network = SiteNetwork(order.out)
    answers: dict[str, list[Answer]] = {label.label: [] for label in network.labels}
    for example in tested:
        study = shown(example.read().study, network.manifest.input.view)
        for score in network.scores(study):
            name = score.label.label
            probability = score.probability
            answers[name].append(
                Answer(
                    example.patient,
                    example.labels.get(name, False),
                    probability >= network.manifest.output.threshold,
                    probability,
                )
            )
    figures = []
    for name, given in answers.items():
        figures += [
            (name, "sensitivity", sensitivity(given)),
            (name, "specificity", specificity(given)),
            (name, "accuracy", _accuracy(given)),
            (name, "area below the ROC curve", roc(given).area),
        ]
    return figures


def _accuracy(answers: Sequence[Answer]) -> Estimate:
    right = np.array([one.said is one.truth for one in answers], dtype=np.float64)
    return by_patient([one.patient for one in answers], lambda drawn: float(right[drawn].mean()))


def _key(example: Example) -> tuple[str, ...]:
    return tuple(sorted(label for label, there in example.labels.items() if there))


def _match(study: Study) -> dict[str, str]:
    modality = study.attributes.get("Modality", "")
    if not modality:
        raise Unsuitable(
            "Pictures do not say of which modality they are: state it with --match Modality=MR."
        )
    return {"Modality": modality}


def _view(study: Study, match: dict[str, str]) -> str:
    """Return how the node will give such images: CT, MR and PET as slices of a volume."""
    sliced = isinstance(study, Volume) or match.get("Modality") in ("CT", "MR", "PT")
    return "slices" if sliced else "images"


def _arrays(
    examples: Sequence[Example], labels: tuple[str, ...], to: Input
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images, (n, 1, rows, columns), and their labels, (n, labels).

    Raises:
        Unsuitable: An example is a whole volume: not every slice of it shows its class.
    """
    images, truth = [], []
    for example in examples:
        study = example.read().study
        if isinstance(study, Volume) and study.shape[0] > 1:
            raise Unsuitable(
                "A volume as a whole has a class, which not each of its slices shows. Outline "
                "what is in it and train a segmentation, or sort single slices into classes."
            )
        prepared = prepare((shown(study, to.view),), to).array[0]
        images += list(prepared)
        truth += [[float(example.labels.get(label, False)) for label in labels]] * len(prepared)
    return torch.from_numpy(np.stack(images))[:, None], torch.tensor(truth)


def shown(study: Study, view: str) -> Study:
    """Return a study as the node will give it: a picture of a slice as a volume of one slice."""
    if view != "slices" or not isinstance(study, Images):
        return study
    count, rows, columns = study.shape
    row_mm, column_mm = study.spacing_mm or (1.0, 1.0)
    axes = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    grid = Grid((count, rows, columns), (0.0, 0.0, 0.0), axes, (1.0, row_mm, column_mm))
    frames = np.asarray(study.frames, np.float32)
    return Volume(frames.mean(axis=-1) if frames.ndim == 4 else frames, grid, study.attributes)


def _groups(truth: torch.Tensor) -> list[torch.Tensor]:
    """Return which images have each combination of labels."""
    return [(truth == kind).all(dim=1) for kind in torch.unique(truth, dim=0)]


def _loss(network: torch.nn.Module, images: torch.Tensor, truth: torch.Tensor) -> float:
    place = next(network.parameters()).device
    parts = zip(images.split(BATCH), truth.split(BATCH), strict=True)
    total = sum(
        float(
            functional.binary_cross_entropy_with_logits(
                network(part.to(place)), there.to(place), reduction="sum"
            )
        )
        for part, there in parts
    )
    return total / truth.numel()
