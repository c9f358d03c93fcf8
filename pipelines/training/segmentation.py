"""The recipe that outlines: a small U-Net from volumes and the segmentations drawn on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from pipelines.contract import Volume
from pipelines.evaluation.estimate import Estimate, mean_by_patient
from pipelines.evaluation.segmentation import dice
from pipelines.geometry import reorder_towards
from pipelines.runtimes.prepare import Prepared, prepare, resample
from pipelines.runtimes.sections import Input
from pipelines.runtimes.site_network import SiteNetwork
from pipelines.runtimes.window import predict_dense
from pipelines.training.augmentation import Augmentation, augmented
from pipelines.training.data import digest_of
from pipelines.training.loop import fit
from pipelines.training.networks import UNet
from pipelines.training.product import plan_of, write_network, write_record
from pipelines.training.recipes import Kind, Order, Unsuitable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.training.data import Example, Outline, Seen

AXES = "SPL"
_TOWARDS = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
_LEAST_SLICES = 16
_MOST_OBLONG = 3.0
"""Slices that are fewer, or thicker than that many pixels, are looked at one by one."""
_PATCH = {2: 192, 3: 64}
_BATCH = {2: 8, 3: 2}
_COLOURS = ((230, 70, 60), (60, 140, 230), (90, 190, 90), (240, 190, 60), (170, 100, 210))
_OUTLINED = 2 / 3
"""Share of patches whose middle is inside an outline: most of a body is not."""


@dataclass(frozen=True)
class _Case:
    """One volume as the network gets it: float32 and bool, (1 or labels, slices, rows, columns)."""

    image: npt.NDArray[np.float32]
    truth: npt.NDArray[np.bool_]
    inside: npt.NDArray[np.int64]


class SegmentationRecipe:
    """A U-Net of three levels, in three dimensions, or slice by slice where slices are thick."""

    title: ClassVar[str] = "outlines what segmentations (SEG) outline (small U-Net)"
    kind: ClassVar[Kind] = "volumes"
    steps: ClassVar[int] = 3000

    def train(self, order: Order, /) -> None:
        """Train on volumes with outlines, and fill ``order.out``.

        Spacing, window and whether to look slice by slice come from the training volumes. Nothing
        is mirrored: a body has sides.

        Raises:
            Unsuitable: An example is no volume, or nothing is outlined.
        """
        read = [example.read() for example in order.split.of(order.examples, "train")]
        outlines = outlines_of(read)
        to = input_of(order, [_volume(one) for one in read])
        cases = [_case(one, outlines, to) for one in read]
        judged_by = [
            _case(example.read(), outlines, to)
            for example in order.split.of(order.examples, "validation")
        ]
        dimensions = to.dimensions
        amount = Augmentation(turn=10.0 if dimensions == 2 else 5.0)

        def draw(_step: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
            chance = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
            pairs = [_patch(cases, to, chance) for _ in range(_BATCH[dimensions])]
            images = torch.from_numpy(np.stack([image for image, _ in pairs]))
            masks = torch.from_numpy(np.stack([mask for _, mask in pairs]))
            changed, moved = augmented(images, generator, amount, masks)
            assert moved is not None  # noqa: S101 - masks go in, masks come out
            return changed, moved.float()

        torch.manual_seed(order.seed)
        network = UNet(dimensions, len(outlines))
        plan = plan_of(order, steps=self.steps, learning_rate=2e-3, score_every=100)
        fitted = fit(
            network,
            draw,
            lambda one, batch: loss(one(batch[0]), batch[1]),
            plan=plan,
            score=lambda one: _score(one, judged_by, to),
            checkpoints=order.out / "checkpoints",
            identity=digest_of(order.examples),
            logs=order.out / "tensorboard",
            quiet=order.quiet,
        )
        write_network(order, network, _stated(order, to, outlines))
        figures = measure(order, order.split.of(order.examples, "test"))
        write_record(order, plan, fitted, figures)


def outlines_of(read: Sequence[Seen]) -> list[Outline]:
    """Return one outline of each kind that is drawn in the examples, by label.

    Raises:
        Unsuitable: None is.
    """
    found = {outline.label: outline for one in read for outline in one.outlines}
    if not found:
        raise Unsuitable("No study has a segmentation (SEG) of its images.")
    return [found[label] for label in sorted(found)]


def input_of(order: Order, volumes: Sequence[Volume]) -> Input:
    """Return how volumes are prepared: the median spacing, a window for CT, z-scores else."""
    turned = [reorder_towards(one.grid, _TOWARDS).regrid(one.grid) for one in volumes]
    spacing = np.median([grid.spacing_mm for grid in turned], axis=0)
    sizes = np.array([np.array(grid.shape) * grid.spacing_mm / spacing for grid in turned])
    slices, *plane = np.median(sizes, axis=0)
    flat = slices < _LEAST_SLICES or spacing[0] > _MOST_OBLONG * spacing[1:].max()
    modality = volumes[0].attributes.get("Modality", "")
    stated: dict[str, Any] = {"normalisation": "z-score"}
    if modality == "CT":
        some = np.concatenate([one.voxels.ravel()[::97] for one in volumes])
        stated = {"window": tuple(float(round(v)) for v in np.percentile(some, (0.5, 99.5)))}
    sides = plane if flat else (slices, *plane)
    dimensions = len(sides)
    patch = [int(min(_PATCH[dimensions], _up(side))) for side in sides]
    return Input(
        match=dict(order.match) or {"Modality": modality, "ImageType": "!LOCALIZER"},
        view="slices" if flat else "volume",
        orientation=AXES,
        spacing_mm=tuple(float(round(v, 3)) for v in (spacing[1:] if flat else spacing)),
        patch=tuple(patch),
        batch=_BATCH[dimensions],
        **stated,
    )


def loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return cross-entropy plus one minus the soft Dice of the batch (Isensee et al. 2021)."""
    axes = [0, *range(2, logits.ndim)]
    likely = torch.sigmoid(logits.float())
    shared = (likely * truth).sum(dim=axes)
    overlap = (2 * shared + 1.0) / (likely.sum(dim=axes) + truth.sum(dim=axes) + 1.0)
    entropy = functional.binary_cross_entropy_with_logits(logits.float(), truth)
    return entropy + 1.0 - overlap.mean()


def measure(order: Order, tested: Sequence[Example]) -> list[tuple[str, str, Estimate]]:
    """Return the Dice of the model that was written, on the test patients' own grids."""
    network = SiteNetwork(order.out)
    found: dict[str, list[float]] = {label.label: [] for label in network.labels}
    for example in tested:
        seen = example.read()
        for label, mask in network.masks(seen.study).items():
            found[label].append(dice(mask, _mask(seen, label)))
    patients = [example.patient for example in tested]
    return [(label, "Dice", mean_by_patient(patients, values)) for label, values in found.items()]


def _stated(order: Order, to: Input, outlines: Sequence[Outline]) -> dict[str, Any]:
    labels = [
        {
            "index": index,
            "label": outline.label,
            "category": outline.category,
            "property": order.codes.get(outline.label, outline.property),
            "colour": _COLOURS[index % len(_COLOURS)],
        }
        for index, outline in enumerate(outlines)
    ]
    return {
        "title": order.name,
        "task": "segmentation",
        "input": to.model_dump(mode="json", exclude_defaults=True),
        "output": {"activation": "sigmoid"},
        "labels": labels,
    }


def _volume(seen: Seen) -> Volume:
    if not isinstance(seen.study, Volume):
        raise Unsuitable("A study is no volume of slices; segmentation learns from volumes.")
    return seen.study


def _mask(seen: Seen, label: str) -> npt.NDArray[np.bool_]:
    mask = np.zeros(_volume(seen).shape, np.bool_)
    for outline in seen.outlines:
        if outline.label == label:
            mask |= outline.mask
    return mask


def _case(seen: Seen, outlines: Sequence[Outline], to: Input) -> _Case:
    prepared = prepare((_volume(seen),), to)
    truth = np.stack([_as_prepared(_mask(seen, one.label), prepared) for one in outlines])
    return _Case(prepared.array, truth, np.argwhere(truth.any(axis=0)))


def _as_prepared(mask: npt.NDArray[np.bool_], prepared: Prepared) -> npt.NDArray[np.bool_]:
    """Return a mask as the image was turned, resampled and padded."""
    moved = resample(mask.astype(np.float32), prepared.source, prepared.grid) >= 0.5
    whole = np.zeros(prepared.array.shape[1:], np.bool_)
    inside = tuple(
        slice(first, first + size) for first, size in zip(prepared.before, moved.shape, strict=True)
    )
    whole[inside] = moved
    return whole


def _patch(
    cases: Sequence[_Case], to: Input, chance: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return image and truth of one patch of the size that the network will slide over."""
    case = cases[int(chance.integers(len(cases)))]
    shape = np.array(case.image.shape[1:])
    size = np.array(to.patch if to.dimensions == 3 else (1, *to.patch))
    if len(case.inside) and chance.random() < _OUTLINED:
        middle = case.inside[int(chance.integers(len(case.inside)))]
    else:
        middle = chance.integers(shape)
    first = np.clip(middle - size // 2, 0, np.maximum(shape - size, 0))
    part = tuple(slice(int(f), int(f + s)) for f, s in zip(first, size, strict=True))
    image, truth = case.image[(slice(None), *part)], case.truth[(slice(None), *part)]
    return (image, truth) if to.dimensions == 3 else (image[:, 0], truth[:, 0])


class _Numbers:
    """A torch network as ``predict_dense`` takes it."""

    def __init__(self, network: torch.nn.Module) -> None:
        self._network = network
        self._place = next(network.parameters()).device

    def predict(self, batch: npt.NDArray[np.float32], /) -> tuple[npt.NDArray[np.float32], ...]:
        """Return the logits."""
        logits: torch.Tensor = self._network(torch.from_numpy(batch).to(self._place))
        return (logits.float().cpu().numpy(),)


def _score(network: torch.nn.Module, cases: Sequence[_Case], to: Input) -> float:
    """Return the mean Dice of all labels over the validation volumes, as the network gets them."""
    numbers = _Numbers(network)
    values = []
    for case in cases:
        arrays = (
            [case.image]
            if to.dimensions == 3
            else [case.image[:, at] for at in range(case.image.shape[1])]
        )
        answers = [predict_dense(numbers, one, to.patch, 0.25, to.batch) for one in arrays]
        said = (answers[0] if to.dimensions == 3 else np.stack(answers, axis=1)) > 0.0
        values += [dice(one, truth) for one, truth in zip(said, case.truth, strict=True)]
    return float(np.mean(values))


def _up(size: float) -> int:
    """Return the next multiple of what the network halves."""
    halves: int = UNet.DIVISOR
    return max(1, math.ceil(size / halves - 1e-6)) * halves
