"""How the detector of our own was trained: one lung of one patient, with simulated nodules in it.

Candidates within a simulated nodule are positive, all others negative. The other lung is never
seen: it is kept for the evaluation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from pipelines.contract import Volume
from pipelines.lung_nodule_ct.candidates import find_candidates, search_grid
from pipelines.lung_nodule_ct.network import Judge, cubes_at
from pipelines.lung_nodule_ct.simulation import draw_nodule, insert

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from pipelines.lung_nodule_ct.candidates import Candidate, SearchGrid
    from pipelines.lung_nodule_ct.simulation import SimulatedNodule
    from pipelines.lungs.morphology import Mask
    from pipelines.lungs.segmentation import Lungs

BATCH = 32
LEARNING_RATE = 2e-3
APART_MM = 28.0
"""Between the centres of nodules simulated at once."""


class Scene(NamedTuple):
    """A CT with simulated nodules in it, and what is found there.

    Attributes:
        search: The grid on which candidates lie.
        candidates: On it.
        nodules: Simulated ones.
        hits: Of each candidate, the index of the nodule in which it lies, or -1.
    """

    search: SearchGrid
    candidates: list[Candidate]
    nodules: list[SimulatedNodule]
    hits: npt.NDArray[np.int64]


def simulate(
    volume: Volume, lungs: Lungs, lung: Mask, random: np.random.Generator, count: int
) -> Scene:
    """Return the CT with ``count`` nodules in one lung; the outline of the lungs stays as it is.

    Args:
        volume: Axial, slices upwards, rows to the back, columns to the left.
        lungs: Of it.
        lung: That in which nodules are put.
        random: Where and which.
        count: How many.
    """
    spacing = volume.spacing_mm
    slice_mm = max(spacing[0], float(volume.attributes.get("SliceThickness", "0")))
    nodules: list[SimulatedNodule] = []
    places = np.argwhere(lung)
    while len(nodules) < count:
        place = places[random.integers(len(places))] * np.array(spacing)
        if all(np.linalg.norm(place - other.centre_mm) > APART_MM for other in nodules):
            nodules.append(draw_nodule(random, (float(place[0]), float(place[1]), float(place[2]))))
    voxels = volume.voxels.copy()
    for nodule in nodules:
        insert(voxels, spacing, nodule, slice_mm)
    search = search_grid(Volume(voxels, volume.grid, volume.attributes), lungs)
    candidates = find_candidates(search)
    return Scene(search, candidates, nodules, hits(volume, search, candidates, nodules))


def hits(
    volume: Volume,
    search: SearchGrid,
    candidates: list[Candidate],
    nodules: list[SimulatedNodule],
) -> npt.NDArray[np.int64]:
    """Return in which nodule each candidate lies: within its radius, or 3 mm; -1 for none."""
    found = np.full(len(candidates), -1)
    if not candidates or not nodules:
        return found
    at = np.array([(*one.centre, 1.0) for one in candidates]) @ search.to_patient.T
    index = [np.array(one.centre_mm) / volume.spacing_mm for one in nodules]
    centres = np.array([(*one, 1.0) for one in index]) @ volume.grid.affine.T
    apart_mm = np.linalg.norm(at[:, None, :3] - centres[None, :, :3], axis=-1)
    reach_mm = np.maximum([one.diameter_mm / 2.0 for one in nodules], 3.0)
    nearest = apart_mm.argmin(axis=1)
    inside = apart_mm[np.arange(len(found)), nearest] <= reach_mm[nearest]
    found[inside] = nearest[inside]
    return found


def samples(
    scene: Scene, left_out_mm: tuple[tuple[float, float, float], ...] = ()
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the network sees of the candidates, and what they are.

    Args:
        scene: Simulated.
        left_out_mm: Places (x, y, z) in the patient that may be real nodules: what lies within
            15 mm of them and in no simulated nodule teaches nothing.
    """
    at = np.array([(*one.centre, 1.0) for one in scene.candidates]) @ scene.search.to_patient.T
    doubtful = np.zeros(len(at), np.bool_)
    for place in left_out_mm:
        doubtful |= np.linalg.norm(at[:, :3] - np.array(place), axis=1) < 15.0
    near = np.flatnonzero(~doubtful | (scene.hits >= 0))
    cubes = cubes_at(scene.search, [scene.candidates[n] for n in near])
    return cubes, torch.from_numpy((scene.hits[near] >= 0).astype(np.float32))


def train(
    cubes: torch.Tensor, truths: torch.Tensor, steps: int, seed: int = 0
) -> Iterator[tuple[int, float, Judge]]:
    """Train a network; yield step, mean loss and the network as it is every 50 steps.

    Half of each batch is nodules. Cubes are mirrored, their rows and columns exchanged, moved by
    up to a voxel, brightened and given noise at random.
    """
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    judge = Judge()
    optimizer = torch.optim.AdamW(judge.parameters(), LEARNING_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    of = [torch.nonzero(truths == kind)[:, 0] for kind in (0, 1)]
    losses = []
    for step in range(1, steps + 1):
        picked = torch.cat(
            [one[torch.randint(len(one), (BATCH // 2,), generator=random)] for one in of]
        )
        logits = judge(_varied(cubes[picked], random))
        target = truths[picked] * 0.95 + 0.025
        loss = functional.binary_cross_entropy_with_logits(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if step % 50 == 0 or step == steps:
            yield step, float(np.mean(losses[-50:])), judge


def _varied(cubes: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    for axis in (2, 3, 4):
        if torch.rand(1, generator=random) < 0.5:
            cubes = cubes.flip(axis)
    if torch.rand(1, generator=random) < 0.5:
        cubes = cubes.transpose(3, 4)
    shifts = [int(n) for n in torch.randint(-1, 2, (3,), generator=random)]
    cubes = cubes.roll(shifts, (2, 3, 4))
    scale = 1.0 + 0.05 * torch.randn(len(cubes), 1, 1, 1, 1, generator=random)
    noise = 0.03 * torch.rand(len(cubes), 1, 1, 1, 1, generator=random)
    return cubes * scale + noise * torch.randn(cubes.shape, generator=random)
