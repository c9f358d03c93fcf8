"""Figures of the nodule detector on simulated nodules in the lung that it was not trained on.

``python -m tests.clinical.evaluate_nodules --data FOLDER [--card]``: the folder of the CT's
instances (TCIA ACRIN-NSCLC-FDG-PET-042, CC BY 3.0). ``--card`` writes them into the model card.
One patient: the intervals are over nodules, and say nothing of other patients.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.evaluation.estimate import wilson
from pipelines.evaluation.report import write_card
from pipelines.lung_nodule_ct import pipeline
from pipelines.lung_nodule_ct.network import probabilities, read_judge
from pipelines.lung_nodule_ct.training import simulate
from tests.clinical.train_nodules import NODULES, chest, one_lung

if TYPE_CHECKING:
    from collections.abc import Iterator

RATES = (1, 2, 4, 8)
"""False positives per lung at which sensitivity is given."""
CARD = Path(pipeline.__file__).with_name("card.md")


@dataclass(frozen=True)
class Simulated:
    """One nodule: what it was, and the highest probability of a candidate in it (0: none)."""

    diameter_mm: float
    kind: str
    probability: float


def run(data: Path, scenes: int) -> tuple[list[Simulated], list[float]]:
    """Return the nodules of all scenes, and the probabilities of all candidates in none."""
    volume, lungs = chest(data)
    judge = read_judge(pipeline.SimulatedLungNoduleCt.model.weights_sha256)
    random = np.random.default_rng(1000)
    nodules, false = [], []
    for _ in range(scenes):
        scene = simulate(volume, one_lung(lungs, "left"), lungs.left, random, NODULES)
        said = probabilities(judge, scene.search, scene.candidates)
        false += [float(p) for p, hit in zip(said, scene.hits, strict=True) if hit < 0]
        for number, nodule in enumerate(scene.nodules):
            best = float(said[scene.hits == number].max(initial=0.0))
            nodules.append(Simulated(nodule.diameter_mm, nodule.kind, best))
    return nodules, sorted(false, reverse=True)


def report(nodules: list[Simulated], false: list[float], scenes: int) -> Iterator[str]:
    """Yield the lines of the card."""
    yield (
        f"{len(nodules)} simulated nodules of 4 to 20 mm in {scenes} copies of the left lung of "
        "one patient, whose right lung was trained on; false positives are candidates outside "
        "of simulated nodules, the patient's own ones included. 95 % intervals are Wilson's, "
        "over nodules of this one lung."
    )
    yield ""
    yield "| false positives per lung | threshold | sensitivity | 95 % |"
    yield "|---|---|---|---|"
    for rate in RATES:
        threshold = false[rate * scenes] if len(false) > rate * scenes else 0.0
        yield f"| {rate} | {threshold:.3f} | {_share(nodules, threshold)} |"
    threshold = float(pipeline.SimulatedLungNoduleCt.parameters["threshold"])
    shipped = sum(one >= threshold for one in false) / scenes
    yield f"| {shipped:.1f} (as shipped) | {threshold:.3f} | {_share(nodules, threshold)} |"
    yield ""
    yield "| as shipped | sensitivity | 95 % |"
    yield "|---|---|---|"
    for low, high in ((4, 6), (6, 8), (8, 20)):
        of_size = [one for one in nodules if low <= one.diameter_mm < high]
        yield f"| {low} to {high} mm | {_share(of_size, threshold)} |"
    for kind in ("solid", "part-solid", "ground glass"):
        of_kind = [one for one in nodules if one.kind == kind]
        yield f"| {kind} | {_share(of_kind, threshold)} |"
    candidates = [one for one in nodules if one.probability > 0]
    yield ""
    yield f"{len(candidates)} of {len(nodules)} nodules were candidates at all."


def _share(nodules: list[Simulated], threshold: float) -> str:
    hits = sum(one.probability >= threshold and one.probability > 0 for one in nodules)
    if not nodules:
        return "none | "
    low, high = wilson(hits, len(nodules))
    return f"{hits}/{len(nodules)} = {hits / len(nodules):.2f} | {low:.2f} to {high:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of the chest CT")
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--card", action="store_true", help="write the figures into the card")
    arguments = parser.parse_args()
    text = "\n".join(report(*run(arguments.data, arguments.scenes), arguments.scenes))
    print(text)
    if arguments.card:
        write_card(CARD, text)


if __name__ == "__main__":
    main()
