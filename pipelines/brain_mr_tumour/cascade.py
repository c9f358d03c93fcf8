"""Whole tumour, then its core in the box around it, then what enhances in the box around that.

Each step has three networks, one for each plane, whose probabilities are averaged. The order of
steps, margins, sizes and rules for what is kept are those of the authors' own test program; where
this code differs it says so.

Source: Wang et al. 2017, arXiv:1709.00382, and the program published with it.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import SimpleITK
import torch

from pipelines.brain_mr_tumour.checkpoint import Checkpoint
from pipelines.brain_mr_tumour.network import DIVISOR, MARGIN_SLICES, TumourNetwork, read_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CHANNELS = ("flair", "t1", "t1c", "t2")
"""In the order in which the networks were trained."""

PLANES: dict[str, tuple[int, int, int]] = {"": (0, 1, 2), "sg": (2, 0, 1), "cr": (1, 0, 2)}
"""Ending of the file's name -> axes of the axial volume that its slices, rows, columns are."""

_STEPS = {
    "wt": {"": (180, 160), "sg": (160, 180), "cr": (160, 160)},
    "tc": dict.fromkeys(PLANES, (96, 96)),
    "en": dict.fromkeys(PLANES, (96, 96)),
}
"""Step -> plane -> least rows and columns that its network is given."""

_LONGEST_RUN = 55
"""Output slices at once: the authors' five patches of eleven. Their patches overlap, and the last
are filled up with noise; ours share their margins, and all runs of a volume are equally long."""
_MARGIN = 5
"""Voxels around brain, tumour and core."""
_SMALLEST_PIECE = 2000
"""Voxels (2 mL): where a tumour has several pieces, smaller ones are dropped."""
_SECOND_PIECE = 0.1
"""Of the size of the largest piece of the core, above which the second largest is kept, too."""
_FEWEST_ENHANCING = 30
"""Voxels; less is no enhancement."""
_SEED = 20170
"""Of the noise that stands for everything outside of the brain, as in training."""

Mask = npt.NDArray[np.bool_]
Voxels = npt.NDArray[np.float32]
Box = tuple[slice, slice, slice]


class Tumour(NamedTuple):
    """What the networks say, on the grid they were given; each mask lies inside the one before.

    Attributes:
        whole: Tumour with its oedema.
        core: Without it.
        enhancing: Of the core, what takes up contrast agent.
        disagreement: Standard deviation of the planes' probabilities of tumour, 0 to 0.5.
        agreement: Mean Dice overlap of the planes' own whole tumours, two by two, 0 to 1.
    """

    whole: Mask
    core: Mask
    enhancing: Mask
    disagreement: Voxels
    agreement: float


def file_names(step: str, plane: str) -> tuple[str, str]:
    """Return the names of the index and the data of a network, within the model's folder."""
    stem = f"model17/msnet_{step}32{plane}_20000.ckpt"
    return f"{stem}.index", f"{stem}.data-00000-of-00001"


def all_files() -> tuple[str, ...]:
    """Return the names of the files of all nine networks, in the order of their use."""
    return tuple(name for step in _STEPS for plane in PLANES for name in file_names(step, plane))


class Network(Protocol):
    """What finds one class on the slices of one plane; see ``TumourNetwork``."""

    def probability(self, slices: torch.Tensor) -> torch.Tensor:
        """Return the probability of its class."""


def load_networks(read: Callable[[str], bytes]) -> dict[tuple[str, str], Network]:
    """Return all nine networks by step and plane, on a GPU where there is one.

    Args:
        read: Name of a file -> its verified bytes.

    Raises:
        CorruptCheckpoint: A file is no checkpoint of such a network.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {
        (step, plane): TumourNetwork(
            read_weights(Checkpoint(*map(read, file_names(step, plane)))), device
        )
        for step in _STEPS
        for plane in PLANES
    }


class Cascade:
    """All nine networks, one after the other."""

    def __init__(self, networks: Mapping[tuple[str, str], Network]) -> None:
        """Take the networks by step and plane."""
        self._networks = networks

    def segment(self, images: Sequence[Voxels], brain: Mask) -> Tumour:
        """Return the tumour.

        Args:
            images: Of each of ``CHANNELS``, co-registered, 1 mm, axial (``AXIAL``).
            brain: Which voxels are brain; it is not empty.
        """
        random = np.random.default_rng(_SEED)
        box = _box(brain)
        inside = brain[box]
        head = np.stack([_standardised(image[box], inside, random) for image in images])
        planes = self._planes("wt", head, random)
        first = _found(planes, inside)
        tumour_box = _box(_pieces_over(_closed(first), _SMALLEST_PIECE) if first.any() else inside)
        second = self._within("tc", head, tumour_box, inside, random)
        core_box = _box(_largest_two(_closed(second))) if second.any() else tumour_box
        third = self._within("en", head, core_box, inside, random)
        whole, core, enhancing = (np.zeros_like(brain) for _ in range(3))
        whole[box], core[box], enhancing[box] = _reconciled(first, second, third)
        spread = np.zeros(brain.shape, np.float32)
        spread[box] = np.where(inside, planes.std(axis=0), 0.0)
        own = [(plane > 0.5) & inside for plane in planes]
        return Tumour(whole, core, enhancing, spread, _mean_overlap(own))

    def _within(
        self, step: str, head: Voxels, box: Box, inside: Mask, random: np.random.Generator
    ) -> Mask:
        """Return what a step finds in a box of the head."""
        found = np.zeros_like(inside)
        found[box] = _found(self._planes(step, head[:, *box], random), inside[box])
        return found

    def _planes(self, step: str, head: Voxels, random: np.random.Generator) -> Voxels:
        """Return the probability of each plane's network, shape (3, slices, rows, columns)."""
        probabilities = []
        for plane, axes in PLANES.items():
            slices = head.transpose(0, *(axis + 1 for axis in axes))
            padded, place = _padded(slices, _STEPS[step][plane], random)
            probability = _by_runs(self._networks[step, plane], padded)[place]
            probabilities.append(probability.transpose(np.argsort(axes)))
        return np.stack(probabilities)


def _by_runs(network: Network, slices: Voxels) -> Voxels:
    """Judge slices (4, n + 8, rows, columns) run by run; shape (n, rows, columns)."""
    count = slices.shape[1] - 2 * MARGIN_SLICES
    runs = np.array_split(np.arange(count), -(-count // _LONGEST_RUN))
    return np.concatenate(
        [
            network.probability(
                torch.from_numpy(
                    slices[:, run[0] : run[-1] + 1 + 2 * MARGIN_SLICES].swapaxes(0, 1).copy()
                )
            ).numpy()
            for run in runs
        ]
    )


def _padded(
    slices: Voxels, least: tuple[int, int], random: np.random.Generator
) -> tuple[Voxels, tuple[slice, slice, slice]]:
    """Return slices amid noise, and where they are, without the margin, in what comes out."""
    channels, count, *shape = slices.shape
    rows, columns = (
        max(-(-size // DIVISOR) * DIVISOR, smallest)
        for size, smallest in zip(shape, least, strict=True)
    )
    padded = random.standard_normal(
        (channels, count + 2 * MARGIN_SLICES, rows, columns), dtype=np.float32
    )
    first = [(new - old) // 2 for new, old in zip((rows, columns), shape, strict=True)]
    place = (slice(first[0], first[0] + shape[0]), slice(first[1], first[1] + shape[1]))
    padded[:, MARGIN_SLICES:-MARGIN_SLICES, *place] = slices
    return padded, (slice(None), *place)


def _standardised(image: Voxels, brain: Mask, random: np.random.Generator) -> Voxels:
    """Return grey values less their mean in the brain, by their deviation; noise outside."""
    values = image[brain]
    noise = random.standard_normal(image.shape, dtype=np.float32)
    deviation = float(values.std()) or 1.0
    return np.where(brain, (image - values.mean()) / deviation, noise).astype(np.float32)


def _found(planes: Voxels, inside: Mask) -> Mask:
    found: Mask = (planes.mean(axis=0) > 0.5) & inside
    return found


def _reconciled(first: Mask, second: Mask, third: Mask) -> tuple[Mask, Mask, Mask]:
    """Return whole tumour, core and enhancing tumour that contradict each other no more."""
    region = _pieces_over(_closed(first | second | third), _SMALLEST_PIECE)
    whole = first & region
    core = _overlapping(_closed((second | third) & region), whole)
    if core.any():
        core = _largest_two(core)
    enhancing = core & third
    if np.count_nonzero(enhancing) < _FEWEST_ENHANCING:
        enhancing = np.zeros_like(core)
    return whole | core, core, enhancing


def _mean_overlap(masks: Sequence[Mask]) -> float:
    """Return the mean Dice overlap of masks, two by two; 1 where all are empty."""
    overlaps = [
        2.0 * float((one & other).sum()) / (float(one.sum() + other.sum()) or 1.0)
        if one.any() or other.any()
        else 1.0
        for one, other in combinations(masks, 2)
    ]
    return float(np.mean(overlaps))


def _box(mask: Mask) -> Box:
    """Return the box around a mask with its margin, within the array."""
    bounds = []
    for axis, size in enumerate(mask.shape):
        across = tuple(other for other in range(3) if other != axis)
        planes = np.flatnonzero(mask.any(axis=across))
        bounds.append(slice(max(0, planes[0] - _MARGIN), min(size, planes[-1] + 1 + _MARGIN)))
    return bounds[0], bounds[1], bounds[2]


def _closed(mask: Mask) -> Mask:
    """Close gaps of a voxel."""
    image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
    closed = SimpleITK.BinaryMorphologicalClosing(image, [1, 1, 1], SimpleITK.sitkBall, 1.0, True)
    return SimpleITK.GetArrayFromImage(closed).astype(np.bool_)


def _pieces(mask: Mask) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.intp]]:
    """Return numbers of connected pieces from 1, and how many voxels each has, 0 for none.

    The authors' pieces do not connect across corners of voxels; these do.
    """
    image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
    numbers = SimpleITK.GetArrayFromImage(SimpleITK.ConnectedComponent(image, True))
    sizes = np.bincount(numbers.ravel())
    sizes[0] = 0
    return numbers, sizes


def _pieces_over(mask: Mask, voxels: int) -> Mask:
    """Keep pieces of more than so many voxels; a single piece is kept whatever its size."""
    numbers, sizes = _pieces(mask)
    kept = sizes > (voxels if len(sizes) > 2 else 0)
    # A tumour that falls into crumbs only would be lost; its largest piece is kept.
    if not kept.any():
        kept[sizes.argmax()] = sizes.any()
    return kept[numbers]


def _largest_two(mask: Mask) -> Mask:
    """Keep the largest piece, and the second if it is not far smaller."""
    numbers, sizes = _pieces(mask)
    second = np.sort(sizes)[-2] if len(sizes) > 2 else 1
    kept: Mask = (sizes >= second) & (sizes > _SECOND_PIECE * sizes.max())
    return kept[numbers]


def _overlapping(mask: Mask, other: Mask) -> Mask:
    """Keep pieces of which half and more lie in another mask."""
    numbers, sizes = _pieces(mask)
    shared = np.bincount(numbers[other], minlength=len(sizes))
    kept: Mask = ((2 * shared >= sizes) & (sizes > 0))[numbers]
    return kept
