"""Noise goes, means stay, and what cannot be judged is refused. Phantoms of known truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom.uid import CTImageStorage

from node.analyse import analyse
from node.domain import Outcome, Role
from node.load.source import load
from node.route import conditions, read_attributes
from pipelines.contract import CouldNotLook, Grid, Images, Volume
from pipelines.ct_denoise import pipeline
from pipelines.ct_denoise.pipeline import LEAST_HU, CtDenoise
from pipelines.ct_denoise.tissue import level_hu
from pipelines.denoise.denoiser import denoised
from pipelines.denoise.networks import LATENT, NEIGHBOURHOOD_PX, ResidualCnn, Vae
from pipelines.denoise.noise import noise_levels
from pipelines.denoise.simulation import low_dose, project, reconstruct, rician
from pipelines.denoise.weights import load_network
from pipelines.mr_denoise.pipeline import MrDenoise
from tests.peers.made_images import ds, made_image, save
from tests.sr_templates import made

SIZE = 160
SPACING_MM = 1.9
PHOTONS = 4e4
WEIGHTS = Path(pipeline.__file__).with_name("cnn.safetensors")
ORIGINAL = {"Modality": "CT", "ImageType": "ORIGINAL\\PRIMARY\\AXIAL"}


def water(size=SIZE) -> tuple[np.ndarray, np.ndarray]:
    """A cylinder of 40 HU with a rod of bone and one of fat; and where it is even."""
    down, right = np.indices((size, size)) - (size - 1) / 2.0
    image = np.where(np.hypot(down, right) < 0.4 * size, 40.0, -1000.0)
    rods = [(0.2, 0.1, 0.05, 800.0), (-0.1, -0.2, 0.06, -90.0)]
    even = np.hypot(down, right) < 0.4 * size - NEIGHBOURHOOD_PX // 2
    for y, x, radius, hu in rods:
        away = np.hypot(down - y * size, right - x * size)
        image[away < radius * size] = hu
        even &= away > radius * size + NEIGHBOURHOOD_PX // 2
    return image.astype(np.float32), even


@pytest.fixture(scope="module")
def scanned():
    """(noisy, clean) slices of the phantom, with the low dose and the noise-free sinogram."""
    plane = torch.from_numpy(water()[0])
    generator = torch.Generator().manual_seed(3)
    sinogram = project(plane[None], SPACING_MM)
    measured = torch.cat([low_dose(sinogram, PHOTONS, generator) for _ in range(3)] + [sinogram])
    images = reconstruct(measured, SPACING_MM, "hann").numpy()
    return images[:3], images[3]


def volume(voxels, **attributes) -> Volume:
    axes = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    grid = Grid(voxels.shape, (0.0, 0.0, 0.0), axes, (3.0, SPACING_MM, SPACING_MM))
    return Volume(voxels.astype(np.float32), grid, ORIGINAL | attributes)


@pytest.mark.parametrize("level", [5.0, 20.0, 60.0])
def test_the_noise_level_is_that_of_white_noise_whatever_else_is_in_the_image(level):
    random = np.random.default_rng(2)
    image = water()[0] + random.normal(0.0, level, (SIZE, SIZE)).astype(np.float32)
    assert level_hu(image) == pytest.approx(level, rel=0.12)


def test_a_slice_without_tissue_has_the_noise_of_its_neighbours():
    random = np.random.default_rng(2)
    noisy = water()[0] + random.normal(0.0, 20.0, (5, SIZE, SIZE)).astype(np.float32)
    noisy[2] = -1000.0
    assert noise_levels(noisy, level_hu) == pytest.approx(20.0, rel=0.15)
    assert not noise_levels(np.full_like(noisy, -1000.0), level_hu).any()


def test_reconstruction_gives_back_what_was_projected(scanned):
    _, clean = scanned
    image, even = water()
    assert np.abs(clean - image)[even].mean() < 5.0


def test_fewer_photons_mean_more_noise_by_the_square_root():
    sinogram = torch.full((1, 100, 100), 2.0)
    generator = torch.Generator().manual_seed(3)
    few, many = (low_dose(sinogram, photons, generator).std() for photons in (1e4, 4e4))
    assert float(few / many) == pytest.approx(2.0, rel=0.05)
    assert float(many) == pytest.approx((np.exp(2.0) / 4e4) ** 0.5, rel=0.05)


def test_rician_noise_raises_dark_background_and_not_bright_tissue():
    """Mean sigma times the square root of pi/2 without signal (Gudbjartsson and Patz 1995)."""
    images = torch.zeros(1, 200, 200)
    images[0, :, 100:] = 1000.0
    (noisy,) = rician(images, [20.0], torch.Generator().manual_seed(1))
    assert float(noisy[:, :100].mean()) == pytest.approx(20.0 * (np.pi / 2) ** 0.5, rel=0.02)
    assert float(noisy[:, 100:].mean()) == pytest.approx(1000.0, abs=1.0)


@pytest.mark.parametrize("network", [ResidualCnn, Vae])
@pytest.mark.parametrize("shape", [(64, 64), (65, 83), (33, 120)])
def test_no_network_can_change_the_mean_of_a_neighbourhood(network, shape):
    """By construction: also with random weights, whatever the size."""
    torch.manual_seed(0)
    image = 30.0 * torch.randn(1, 1, *shape)
    with torch.no_grad():
        noise = network().eval()(image)[0, 0]
    assert noise.shape == shape
    assert float(noise.std()) > 0.0
    assert abs(float(noise.mean())) < 0.1 * float(noise.std())


def test_the_vae_draws_from_a_distribution_and_answers_with_its_mean():
    torch.manual_seed(0)
    network, image = Vae().eval(), torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        mean, log_variance = network.encode(image)
        drawn = [
            network.decode(mean + torch.randn_like(mean) * (0.5 * log_variance).exp(), image)
            for _ in range(2)
        ]
        assert mean.shape == log_variance.shape == (1, LATENT, 16, 16)
        assert not torch.equal(*drawn)
        assert torch.equal(network(image), network.decode(mean, image))


def test_the_noise_of_a_low_dose_goes_and_the_hounsfield_units_stay(scanned):
    noisy, clean = scanned
    result = CtDenoise().run(volume(noisy))
    (images,) = result.images
    even = water()[1]
    before, after = (
        np.square(one - clean)[:, water()[0] > -500].mean() for one in (noisy, images.values)
    )
    assert after < 0.5 * before  # of the power; trained on a patient, not on water
    change = images.values[:, even].mean(axis=1) - noisy[:, even].mean(axis=1)
    assert np.abs(change).max() < 0.5
    (finding,) = result.findings
    was, is_ = (one.value for one in finding.measurements)
    assert was == pytest.approx(float(np.median(noise_levels(noisy, level_hu))))
    assert is_ < 0.6 * was
    assert finding.normal


def test_a_slice_without_noise_is_left_as_it_is(scanned):
    _, clean = scanned
    network = load_network(WEIGHTS, "cnn", CtDenoise.model.weights_sha256)
    left = denoised(clean[None], np.array([0.0]), network, 1.0, level_hu)
    assert np.array_equal(left.voxels[0], clean)


def test_little_noise_makes_no_series_and_the_report_says_so():
    random = np.random.default_rng(2)
    quiet = water()[0] + random.normal(0.0, 0.5 * LEAST_HU, (3, SIZE, SIZE))
    result = CtDenoise().run(volume(quiet))
    assert not result.images
    assert "No derived series" in result.notes[0]
    assert result.findings[0].measurements[0].value < LEAST_HU


@pytest.mark.parametrize(
    ("study", "said"),
    [
        (volume(np.zeros((2, 64, 64)), ImageType="DERIVED\\SECONDARY\\AXIAL"), "derived"),
        (volume(np.zeros((2, 64, 64)), ImageType="ORIGINAL\\PRIMARY\\LOCALIZER"), "localizer"),
        (volume(np.zeros((2, 64, 64)), Modality="MR"), "volume of CT"),
        (volume(np.full((2, 64, 64), -1000.0)), "too little soft tissue"),
        (Images(np.zeros((1, 64, 64), np.float32)), "volume of CT"),
        (made.ecg().study, "volume of CT"),
    ],
)
def test_what_is_no_original_ct_of_a_body_is_refused(study, said):
    with pytest.raises(CouldNotLook, match=said):
        CtDenoise().run(study)


@pytest.mark.parametrize(
    ("study", "said"),
    [
        (volume(np.ones((2, 64, 64))), "volume of MR"),
        (volume(np.ones((2, 64, 64)), Modality="MR", ImageType="DERIVED\\PRIMARY\\ADC"), "derived"),
        (volume(np.zeros((2, 64, 64)), Modality="MR"), "too little signal"),
        (Images(np.zeros((1, 64, 64), np.float32)), "volume of MR"),
    ],
)
def test_what_is_no_original_mr_is_refused(study, said):
    with pytest.raises(CouldNotLook, match=said):
        MrDenoise().run(study)


def test_other_weights_than_those_measured_are_not_loaded(tmp_path):
    (tmp_path / "cnn.safetensors").write_bytes(b"other")
    with pytest.raises(RuntimeError, match="SHA-256 differs"):
        load_network(tmp_path / "cnn.safetensors", "cnn", "0" * 64)
    with pytest.raises(RuntimeError, match="not installed"):
        load_network(tmp_path / "vae.safetensors", "vae", "0" * 64)


def test_a_ct_series_comes_out_as_a_series_that_is_not_taken_in_again(scanned, tmp_path):
    noisy, _ = scanned
    paths = [
        save(
            made_image(
                np.clip(plane + 1024.0, 0, 4095).astype(np.uint16),
                CTImageStorage,
                str(number),
                ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
                InstanceNumber=number,
                ImagePositionPatient=ds(0, 0, 3 * number),
                ImageOrientationPatient=ds(1, 0, 0, 0, 1, 0),
                PixelSpacing=ds(SPACING_MM, SPACING_MM),
                SliceThickness=3,
                RescaleSlope=1,
                RescaleIntercept=-1024,
            ),
            tmp_path,
        )
        for number, plane in enumerate(noisy, start=1)
    ]
    work = replace(made.work(), roles=frozenset({Role.SR, Role.IMAGES}))
    analysis = analyse(CtDenoise(), {"": paths}, work, tmp_path / "out")
    assert analysis.outcome is Outcome.PROCESSED
    derived = [path for role, path in analysis.files.items() if role.startswith("images")]
    assert len(derived) == len(paths)
    again = load(derived).study
    assert noise_levels(again.voxels, level_hu).max() < 0.6 * noise_levels(noisy, level_hu).min()
    taken = conditions(CtDenoise.input, read_attributes(derived, CtDenoise.input))
    assert not all(one.holds for one in taken)
