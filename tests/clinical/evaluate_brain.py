"""The measured part of brain-mr-volumetry's card.

    python -m tests.clinical.evaluate_brain --data DIR --weights DIR [--write]

DIR of ``--data`` holds ``mr/head_t1_datalad.tar.xz``; that of ``--weights`` the catalogue's files,
as ``radnode models add NAME --from DIR`` takes them. Each set of networks runs in a process of its
own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from node.load.source import load
from node.models.add import from_catalogue
from pipelines import catalogue, models
from pipelines.brain_mr_volumetry.pipeline import BrainMrVolumetry
from pipelines.evaluation.report import write_card

CARD = Path(__file__).parents[2] / "pipelines" / "brain_mr_volumetry" / "card.md"
SETS = ((), ("meshnet-tissues",), ("meshnet-tissues", "meshnet-structures"), ("hippodeep",))

Measured = tuple[dict[str, float], dict[str, np.ndarray], float, float]


def measure(archive: Path, weights: Path, names: tuple[str, ...]) -> Measured:
    """Return volumes in mL, packed masks, CPU seconds and peak memory in GB of one set."""
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in names:
            from_catalogue(folder / "models", catalogue.entries()[name], folder=weights)
        models.use(folder / "models")
        with tarfile.open(archive) as stored:
            stored.extractall(folder / "head", filter="data")
        head = load(list((folder / "head").glob("**/*.dcm"))).study
        pipeline = BrainMrVolumetry()
        pipeline.warm_up()
        began = time.process_time()
        result = pipeline.run(head)
        seconds = time.process_time() - began
    volumes = {f.segment: f.measurements[0].value for f in result.findings if f.segment}
    masks = {segment.label: np.packbits(segment.mask) for segment in result.segments}
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return volumes, masks, seconds, peak_gb


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Dice of two packed masks."""
    shared, first, second = (
        int(np.bitwise_count(part).sum(dtype=np.int64)) for part in (one & other, one, other)
    )
    return 2 * shared / (first + second)


def report(data: Path, weights: Path) -> str:
    """Return the block of the card."""
    archive = data / "mr" / "head_t1_datalad.tar.xz"
    context = multiprocessing.get_context("spawn")
    measured = {}
    for names in SETS:
        with context.Pool(1) as pool:
            measured[names] = pool.apply(measure, (archive, weights, names))
    lines = ["| networks | data | volumes in mL | CPU time, peak memory |", "|---|---|---|---|"]
    for names, (volumes, _, seconds, peak_gb) in measured.items():
        listed = ", ".join(f"{label} {value:.1f}" for label, value in volumes.items())
        used = " + ".join(("deepbet", *names))
        lines.append(f"| {used} | 1 head | {listed} | {seconds:.0f} s, {peak_gb:.1f} GB |")
    both = measured["meshnet-tissues", "meshnet-structures"][1]
    sides = measured["hippodeep",][1]
    overlap = dice(both["Hippocampi"], sides["Hippocampus, left"] | sides["Hippocampus, right"])
    lines += ["", "| question | data | result |", "|---|---|---|"]
    lines.append(
        "| MeshNet's hippocampi against hippodeep's | 1 head; two automatic outlines, no truth | "
        f"Dice {overlap:.3f} |"
    )
    return "\n".join(lines)


def main() -> None:
    """Print the block, and write it into the card if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--write", action="store_true", help="rewrite the block of the card")
    given = parser.parse_args()
    block = report(given.data, given.weights)
    print(block)
    if given.write:
        write_card(CARD, block)


if __name__ == "__main__":
    main()
