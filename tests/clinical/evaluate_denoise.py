"""Measure ct-denoise or mr-denoise against tuned classical filters: the card's figures.

    python -m tests.clinical.evaluate_denoise ct --data DIR [--write]

DIR holds the public data that ``patients`` names. Settings of non-local means and total variation
are chosen on the patients that the networks learned from; all is then measured on the others.
"""

from __future__ import annotations

import argparse
import importlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch
from skimage.metrics import structural_similarity
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from pipelines.ct_denoise import training as ct
from pipelines.denoise.recipe import Pair, remove
from pipelines.denoise.scans import read_scans
from pipelines.denoise.simulation import rician
from pipelines.denoise.train import pairs_to_tune
from pipelines.denoise.weights import load_network
from pipelines.evaluation.estimate import mean_by_patient
from pipelines.evaluation.report import write_card
from pipelines.mr_denoise import training as mr
from tests.clinical.patients import HELD_OUT, LEARNED, lay_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy.typing as npt

    from pipelines.denoise.scans import Scan

    Filter = Callable[[Pair], npt.NDArray[np.float32]]

PIPELINES = Path(__file__).parents[2] / "pipelines"
MOST_SLICES = 8
"""Of each scan, evenly spread."""
CT_CONDITIONS = [(photons, kernel) for photons in (3e4, 1e5, 3e5) for kernel in ("ramp", "hann")]
MR_CONDITIONS = [(0.03, 1.0), (0.06, 1.0), (0.1, 1.0), (0.06, 0.5)]
RANGE = {"ct": 2000.0, "mr": 1000.0}
"""Of values, for PSNR and SSIM: -1000 to 1000 HU; bright tissue (99th percentile) of MR."""
NLM_STRENGTHS = (0.4, 0.6, 0.8, 1.0)
TV_WEIGHTS = (0.5, 1.0, 1.5, 2.5)
TUNED_ON = 10
DISC_DIAMETERS_PX = (4, 8, 16)
DISC_CONTRASTS = (10.0, 20.0, 40.0)
DRAWS = 6


@dataclass(frozen=True)
class Measured:
    """One slice in one condition by one method."""

    patient: str
    condition: str
    method: str
    psnr_db: float
    ssim: float


def nlm(strength: float) -> Filter:
    """Non-local means with ``strength`` times the estimated noise."""

    def apply(pair: Pair) -> npt.NDArray[np.float32]:
        image = pair.noisy.numpy() / pair.level
        options = {"patch_size": 5, "patch_distance": 6, "fast_mode": True}
        return np.asarray(denoise_nl_means(image, h=strength, sigma=1.0, **options) * pair.level)

    return apply


def tv(weight: float) -> Filter:
    """Total variation (Chambolle), the image in units of its estimated noise."""
    return lambda pair: np.asarray(
        denoise_tv_chambolle(pair.noisy.numpy() / pair.level, weight=weight) * pair.level
    )


def network(modality: str, name: str) -> Filter:
    """Return a network as shipped."""
    pipelines = importlib.import_module(f"pipelines.{modality}_denoise.pipeline")
    kinds = [getattr(pipelines, f"{modality.title()}Denoise{kind}") for kind in ("", "Vae")]
    (kind,) = [one for one in kinds if one.network == name]
    path = Path(f"pipelines/{modality}_denoise").joinpath(f"{name}.safetensors")
    loaded = load_network(path, name, kind.model.weights_sha256)
    return lambda pair: remove(loaded, pair.noisy, pair.level).numpy()


def best(modality: str, choices: Sequence[tuple[float, Filter]], pairs: Sequence[Pair]) -> float:
    """Return the setting with the highest mean PSNR."""

    def score(one: Filter) -> float:
        return float(np.mean([psnr_db(modality, one(pair), pair) for pair in pairs]))

    return max(choices, key=lambda choice: score(choice[1]))[0]


def psnr_db(modality: str, image: npt.NDArray[np.float32], pair: Pair) -> float:
    """Return the peak signal-to-noise ratio against the slice without noise."""
    error = float(
        np.square(clipped(modality, image) - clipped(modality, pair.clean.numpy())).mean()
    )
    return 10.0 * float(np.log10(RANGE[modality] ** 2 / error))


def clipped(modality: str, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return CT values within the range that counts; MR as it is."""
    return np.clip(image, -1000.0, 1000.0) if modality == "ct" else image


def ssim(modality: str, image: npt.NDArray[np.float32], pair: Pair) -> float:
    """Return the structural similarity (Wang et al. 2004, IEEE Trans Image Process 13:600-612)."""
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    own, truth = clipped(modality, image), clipped(modality, pair.clean.numpy())
    return float(structural_similarity(truth, own, data_range=RANGE[modality], **options))


def test_pairs(modality: str, scans: Iterable[Scan]) -> Iterator[Pair]:
    """Yield a pair for each slice measured and each condition."""
    generator = torch.Generator().manual_seed(100)
    for scan in scans:
        every = max(1, len(scan.voxels) // MOST_SLICES)
        if modality == "ct":
            for plane, spacing_mm in ct.slices_of(scan, every, every // 2):
                yield from ct.pairs_of(plane, spacing_mm, CT_CONDITIONS, generator, scan.patient)
        else:
            for plane in mr.slices_of(scan, every, every // 2):
                yield from mr.pairs_of(plane, MR_CONDITIONS, generator, scan.patient)


def measure(modality: str, methods: dict[str, Filter], pairs: Iterable[Pair]) -> Iterator[Measured]:
    """Yield every pair by every method, the noisy slice itself first."""
    for pair in pairs:
        made = {"noisy": pair.noisy.numpy(), **{name: f(pair) for name, f in methods.items()}}
        for name, image in made.items():
            figures = psnr_db(modality, image, pair), ssim(modality, image, pair)
            yield Measured(pair.patient, pair.condition, name, *figures)


def table(measured: Sequence[Measured], methods: Sequence[str]) -> Iterator[str]:
    """Yield lines of the card: means over all, and paired differences from the first network."""
    patients = [one.patient for one in measured if one.method == "noisy"]
    of = {name: [one for one in measured if one.method == name] for name in ("noisy", *methods)}
    yield "| | PSNR, dB | SSIM | CNN minus it: PSNR, dB | CNN better on |"
    yield "|---|---|---|---|---|"
    cnn = np.array([one.psnr_db for one in of["cnn"]])
    for name, rows in of.items():
        psnr, structure = (
            mean_by_patient(patients, values)
            for values in ([one.psnr_db for one in rows], [one.ssim for one in rows])
        )
        ahead = cnn - np.array([one.psnr_db for one in rows])
        difference = mean_by_patient(patients, ahead.tolist())
        beside = f"{difference} | {int((ahead > 0).sum())} of {len(rows)}"
        yield f"| {name} | {psnr} | {structure} | {'| ' if name == 'cnn' else beside} |"
    yield ""
    yield "| condition | " + " | ".join(of) + " |"
    yield "|---|" + len(of) * "---|"
    for condition in dict.fromkeys(one.condition for one in measured):
        means = [
            np.mean([one.psnr_db for one in rows if one.condition == condition])
            for rows in of.values()
        ]
        yield f"| {condition} | " + " | ".join(f"{mean:.2f}" for mean in means) + " |"
    yield ""
    yield f"{len(patients)} slices and conditions of {len(set(patients))} patients."


def discs(modality: str, methods: dict[str, Filter]) -> Iterator[str]:
    """Yield how much of the contrast of faint discs in an even body is left, a line each."""
    yield "| disc, pixels across | contrast | " + " | ".join(methods) + " |"
    yield "|---|---|" + len(methods) * "---|"
    down, right = np.indices((256, 256)) - 127.5
    body = np.hypot(down, right) < 100.0
    for diameter in DISC_DIAMETERS_PX:
        disc = np.hypot(down - 20.5, right + 13.5) < diameter / 2.0
        around = (np.hypot(down - 20.5, right + 13.5) < diameter / 2.0 + 8.0) & ~(
            np.hypot(down - 20.5, right + 13.5) < diameter / 2.0 + 3.0
        )
        for contrast in DISC_CONTRASTS:
            kept: dict[str, list[float]] = {name: [] for name in methods}
            for pair in _phantoms(modality, body, disc, contrast):
                truth = pair.clean.numpy()
                own = float(truth[disc].mean() - truth[around].mean())
                for name, one in methods.items():
                    left = one(pair) - pair.noisy.numpy() + truth
                    # The noise's own mean in so few pixels is not what a filter changes.
                    kept[name].append(float(left[disc].mean() - left[around].mean()) / own)
            shares = " | ".join(f"{np.mean(values):.0%}" for values in kept.values())
            yield f"| {diameter} | {contrast:g} | {shares} |"


def _phantoms(
    modality: str, body: npt.NDArray[np.bool_], disc: npt.NDArray[np.bool_], contrast: float
) -> Iterator[Pair]:
    generator = torch.Generator().manual_seed(7)
    if modality == "ct":
        image = np.where(body, 40.0, -1000.0) + contrast * disc
        plane = torch.from_numpy(image.astype(np.float32))
        for _ in range(DRAWS):
            yield from ct.pairs_of(plane, 1.2, [(1e5, "hann")], generator, "phantom")
    else:
        image = np.where(body, 600.0, 0.0) + 2.0 * contrast * disc
        plane = torch.from_numpy(image.astype(np.float32))
        for _ in range(DRAWS):
            (noisy,) = rician(plane[None], [40.0], generator)
            yield Pair(noisy, plane, 40.0, 1.0)


def main() -> None:
    """Tune, measure, print, and rewrite the card where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modality", choices=["ct", "mr"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    modality: str = asked.modality
    with TemporaryDirectory() as folder:
        learned = lay_out(asked.data, LEARNED[modality], Path(folder) / "learned")
        held_out = lay_out(asked.data, HELD_OUT[modality], Path(folder) / "held out")
        tune = pairs_to_tune(modality, read_scans(learned))
        pairs = test_pairs(modality, read_scans(held_out))
    tune = tune[:: max(1, len(tune) // TUNED_ON)]
    strength = best(modality, [(h, nlm(h)) for h in NLM_STRENGTHS], tune)
    weight = best(modality, [(w, tv(w)) for w in TV_WEIGHTS], tune)
    methods = {
        "NLM": nlm(strength),
        "TV": tv(weight),
        "cnn": network(modality, "cnn"),
        "vae": network(modality, "vae"),
    }
    measured = list(measure(modality, methods, pairs))
    lines = [
        f"NLM with h = {strength:g} and TV with weight {weight:g} times the estimated noise,",
        f"chosen on {len(tune)} slices of the training patients.",
        "",
        *table(measured, list(methods)),
        "",
        "Contrast of a faint disc that is left, mean of repeated noise:",
        "",
        *discs(modality, methods),
    ]
    text = "\n".join(lines)
    print(text)
    if asked.write:
        write_card(PIPELINES / f"{modality}_denoise" / "card.md", text)


if __name__ == "__main__":
    main()
