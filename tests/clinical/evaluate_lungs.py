"""Figures of the lung pipeline: phantoms of known volume and density, and a real chest CT.

``python -m tests.clinical.evaluate_lungs --data FOLDER [--card]``: the folder of the CT's
instances (TCIA ACRIN-NSCLC-FDG-PET-042, CC BY 3.0). ``--card`` writes them into the model card.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

from node.load.source import load
from pipelines.codes import ATTENUATION_COEFFICIENT, VOLUME
from pipelines.evaluation.report import write_card
from pipelines.lung_ct_quantification import pipeline
from pipelines.lung_ct_quantification.codes import LAA_950, TOTAL_VOLUME, TRACHEA_AIR
from pipelines.lung_ct_quantification.pipeline import LungCtQuantification
from tests.peers.body_phantom import Pose, axial_grid
from tests.peers.lung_phantom import TOUCHING, Chest, chest_phantom, true_lungs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipelines.contract import Result

PHANTOMS = (
    ("axial, 2.0 x 2.0 x 2.0 mm", ((120, 130, 160), (2.0, 2.0, 2.0)), Chest(), Pose()),
    (
        "turned by 6, 5 and 7 degrees, 3.0 x 2.5 x 2.5 mm",
        ((100, 120, 170), (3.0, 2.5, 2.5)),
        Chest(),
        Pose((6.0, -5.0, 7.0), (4.0, -3.0, 2.0)),
    ),
    ("lungs that touch, 2.0 mm", ((120, 130, 160), (2.0, 2.0, 2.0)), TOUCHING, Pose()),
)
CARD = Path(pipeline.__file__).with_name("card.md")


def phantom_rows() -> Iterator[str]:
    """Yield a table row for each lung of each phantom."""
    for title, (shape, spacing_mm), chest, pose in PHANTOMS:
        result = LungCtQuantification().run(
            chest_phantom(axial_grid(shape, spacing_mm), chest, pose)
        )
        for index, side in ((1, "right"), (2, "left")):
            found, truth = _values(result, index), true_lungs(chest)[side]
            volume = 100.0 * (found[VOLUME] / truth["volume_ml"] - 1.0)
            mean = found[ATTENUATION_COEFFICIENT] - truth["mean_hu"]
            share = (
                f"{found[LAA_950]:.2f} ({truth['laa_950']:.2f})"
                if LAA_950 in found
                else "not reported"
            )
            yield (
                f"| {title} | {side} | {found[VOLUME]:.0f} ({truth['volume_ml']:.0f}) "
                f"| {volume:+.2f} % | {mean:+.1f} HU | {share} |"
            )


def real_lines(data: Path) -> Iterator[str]:
    """Yield what the pipeline says of the real CT, how long it took and how much memory."""
    volume = load(sorted(data.glob("*.dcm"))).study
    before = time.process_time(), time.monotonic()
    result = LungCtQuantification().run(volume)
    cpu_s, wall_s = time.process_time() - before[0], time.monotonic() - before[1]
    memory_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    total, right, left, airways = (_values(result, index) for index in range(4))
    yield (
        "Real chest CT (ACRIN-NSCLC-FDG-PET-042, 1 patient with lung cancer, 512 x 512 x 135, "
        f"3.27 mm): right {right[VOLUME]:.0f} mL, left {left[VOLUME]:.0f} mL, together "
        f"{total[TOTAL_VOLUME]:.0f} mL; mean density {right[ATTENUATION_COEFFICIENT]:.0f} and "
        f"{left[ATTENUATION_COEFFICIENT]:.0f} HU; trachea and bronchi {airways[VOLUME]:.0f} mL, "
        f"their air {airways[TRACHEA_AIR]:.0f} HU. No truth exists; the outlines were looked at."
    )
    yield ""
    yield (
        f"That CT: {cpu_s:.0f} s of processor time ({wall_s:.0f} s on 2 cores), peak memory "
        f"{memory_gb:.1f} GB of the whole process."
    )


def _values(result: Result, index: int) -> dict[object, float]:
    return {one.name: one.value for one in result.findings[index].measurements}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of the chest CT")
    parser.add_argument("--card", action="store_true", help="write the figures into the card")
    arguments = parser.parse_args()
    real = list(real_lines(arguments.data))
    head = (
        "| phantom | lung | mL (truth) | error | mean density | LAA-950 % (truth) |",
        "|---" * 6 + "|",
    )
    text = "\n".join((*head, *phantom_rows(), "", *real))
    print(text)
    if arguments.card:
        write_card(CARD, text)


if __name__ == "__main__":
    main()
