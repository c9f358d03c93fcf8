"""Train the nodule detector on simulated nodules in the right lung of a public CT.

``python -m tests.clinical.train_nodules --data FOLDER``: the folder of the CT's instances
(TCIA ACRIN-NSCLC-FDG-PET-042, CC BY 3.0). Writes the weights beside the pipeline, and their
digest into it.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save

from node.load.source import load
from pipelines.lung_nodule_ct import pipeline
from pipelines.lung_nodule_ct.network import WEIGHTS
from pipelines.lung_nodule_ct.training import samples, simulate, train
from pipelines.lungs.segmentation import Lungs, find_lungs
from pipelines.lungs.suitability import require_chest_ct

if TYPE_CHECKING:
    from pipelines.contract import Volume

NODULES = 18
"""In each scene."""
PERHAPS_REAL_MM = ((-89.0, -52.9, -121.2), (-92.0, -45.4, -145.2))
"""Two places in the patient's right lung that look like nodules of the patient's own."""


def chest(folder: Path) -> tuple[Volume, Lungs]:
    """Return the CT and its lungs."""
    volume = require_chest_ct(load(sorted(folder.glob("*.dcm"))).study)
    return volume, find_lungs(volume.voxels, volume.grid)


def one_lung(lungs: Lungs, side: str) -> Lungs:
    """Return the lungs without the other one, so that nobody looks there."""
    none = np.zeros_like(lungs.left)
    return Lungs(
        lungs.right if side == "right" else none,
        lungs.left if side == "left" else none,
        lungs.airways,
        lungs.edges_cm2,
        lungs.threshold_hu,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of the chest CT")
    parser.add_argument("--scenes", type=int, default=10)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=120.0, help="of training, at most")
    arguments = parser.parse_args()
    volume, lungs = chest(arguments.data)
    right = one_lung(lungs, "right")
    random = np.random.default_rng(1)
    seen = []
    for number in range(arguments.scenes):
        scene = simulate(volume, right, lungs.right, random, NODULES)
        seen.append(samples(scene, PERHAPS_REAL_MM))
        print(f"scene {number + 1}: {len(seen[-1][1])} candidates, {int(seen[-1][1].sum())} hits")
    cubes, truths = (torch.cat(parts) for parts in zip(*seen, strict=True))
    start = time.monotonic()
    judge = None
    for step, loss, network in train(cubes, truths, arguments.steps):
        print(f"step {step}: loss {loss:.3f}", flush=True)
        judge = network
        if time.monotonic() - start > arguments.seconds:
            break
    assert judge is not None
    content = save(judge.state_dict())
    WEIGHTS.write_bytes(content)
    code = Path(pipeline.__file__)
    digest = hashlib.sha256(content).hexdigest()
    named = re.sub(
        r'(name="radnode nodule judge".*?weights_sha256=")[^"]*',
        rf"\g<1>{digest}",
        code.read_text("utf-8"),
        count=1,
        flags=re.DOTALL,
    )
    code.write_text(named, "utf-8")
    print(f"{WEIGHTS.name}: {len(content)} bytes, {digest}")


if __name__ == "__main__":
    main()
