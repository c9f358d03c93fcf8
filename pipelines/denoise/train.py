"""Train the networks of ct-denoise or mr-denoise as those shipped were: one command.

    python -m pipelines.denoise.train ct cnn --data DIR --out cnn.safetensors

DIR holds a folder a patient, of DICOM, NIfTI or NRRD: for CT as shipped, ``chest_acrin_042``; for
MR ``head_t1_datalad`` and ``glioma_tcga_fg6692``. A run that was stopped goes on from its
checkpoints.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file

from pipelines.ct_denoise import training as ct
from pipelines.denoise.networks import NETWORKS
from pipelines.denoise.recipe import train
from pipelines.denoise.scans import read_scans
from pipelines.mr_denoise import training as mr
from pipelines.training.checkpoint import copy_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.denoise.recipe import Pair
    from pipelines.denoise.scans import Scan

_MANY = 100
"""Slices of a scan; of more, fewer are taken, so that one patient does not count for all."""


def pairs_to_learn(modality: str, scans: Sequence[Scan]) -> list[Pair]:
    """Return what is learned from."""
    if modality == "ct":
        return ct.random_pairs(scans, every=3, start=0, seed=1)
    large, small = _by_size(scans)
    return mr.random_pairs(large, 8, 0, seed=1) + mr.random_pairs(small, 2, 0, seed=2)


def pairs_to_tune(modality: str, scans: Sequence[Scan]) -> list[Pair]:
    """Return other slices of the same patients: what settings and weights are chosen by."""
    if modality == "ct":
        return ct.random_pairs(scans, every=12, start=1, seed=2)
    large, small = _by_size(scans)
    return mr.random_pairs(large, 32, 4, seed=3) + mr.random_pairs(small, 8, 1, seed=4)


def _by_size(scans: Sequence[Scan]) -> tuple[list[Scan], list[Scan]]:
    large = [scan for scan in scans if len(scan.voxels) > _MANY]
    return large, [scan for scan in scans if len(scan.voxels) <= _MANY]


def main() -> None:
    """Read the command line, train, write the weights and print their digest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modality", choices=["ct", "mr"])
    parser.add_argument("network", choices=list(NETWORKS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--checkpoints", type=Path)
    asked = parser.parse_args()
    scans = read_scans(asked.data)
    network, fitted = train(
        asked.network,
        pairs_to_learn(asked.modality, scans),
        pairs_to_tune(asked.modality, scans)[::4],
        steps=asked.steps,
        checkpoints=asked.checkpoints,
    )
    save_file(copy_of(network), asked.out)
    digest = hashlib.sha256(asked.out.read_bytes()).hexdigest()
    gained = f"step {fitted.best_step}, {fitted.best_score:.2f} dB gained"
    sys.stdout.write(f"{digest}  {asked.out.name}  {gained}\n")


if __name__ == "__main__":
    main()
