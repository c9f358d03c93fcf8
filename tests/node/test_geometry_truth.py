"""Bodies of known place and size come back as they are, out of any geometry, by other readers.

Two spheres at random places in the patient, or two discs in each frame, are written as DICOM
files, loaded, found by a threshold, led back to the images they lie on, encoded as a
segmentation and read again: straight volumes by dcmqi and SimpleITK, everything else by the
equation of PS3.3 C.7.6.2.1.1 alone. Whatever seed fails, ``journey`` repeats it.
"""

from __future__ import annotations

import os
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
from pydicom import Dataset, dcmread
from pydicom.pixels import pixel_array
from scipy import ndimage

from node.encode.segmentation import encode_segmentation
from node.encode.write import write
from node.load.source import Source, load
from pipelines import codes
from pipelines.contract import Images, Segment, Volume
from tests.peers.disc_phantom import Pictures, random_pictures, write_pictures
from tests.peers.sphere_phantom import Body, Scan, random_scan, write_scan
from tests.sr_templates import made

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FloatArray = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

GEOMETRIES = {
    "ct": 110,
    "mr": 60,
    "enhanced-ct": 60,
    "enhanced-mr": 60,
    "ct tilted": 90,
    "enhanced-ct tilted": 40,
    "radiograph": 50,
    "clip": 50,
}
"""How many of each kind; 520 in all."""

CENTROID_VOXELS = 0.5
"""Along each axis of the images. Voxelisation alone makes up to 0.25 of it for spheres, 0.35 for
discs. Masks go back to a tilted gantry's images by the nearest pixel, which may make all of it:
over 600 other geometries the worst was at 0.48."""

SIGMAS = 6.0
"""Of what chance alone does to the volume of a voxelised body (``voxelisation_sigma``): for the
smallest sphere, whose radius is 1.7 times the largest spacing, up to 45 % of it. Over 2400 other
geometries the worst was at 5.1."""


@dataclass(frozen=True)
class Errors:
    """The largest of all bodies of one geometry.

    Attributes:
        centroid_voxels: Between where a body was put and where it was read.
        volume_share: Of its true volume or area.
        volume_sigmas: The same in standard deviations of voxelisation.
        bodies: How many there were.
    """

    centroid_voxels: float
    volume_share: float
    volume_sigmas: float
    bodies: int = 1


@dataclass(frozen=True)
class Read:
    """What a reader says of one body: the centres of its voxels and the size of one of them."""

    points: FloatArray
    voxel: float


def voxelisation_sigma(radius: float, spacing: FloatArray) -> float:
    """Return the standard deviation of a voxelised ball's volume, or a disc's area.

    Let a lattice of cell volume v lie at random against a body of indicator function f. By
    Poisson summation the variance of v x (points inside) is the sum of |F(k)|^2 over all k but 0
    of the reciprocal lattice, however it is turned, F being the Fourier transform of f. For a
    ball of radius r in n dimensions F(k) = (r/|k|)^(n/2) J_n/2(2 pi r |k|), and the square of the
    Bessel function is 1 / (2 pi^2 r |k|) on average, so that

        variance = r^(n-1) / (2 pi^2) x sum of |k|^-(n+1).

    Source: Kendall 1948, Q J Math 19:1-26, for the plane.
    """
    count = len(spacing)
    index = np.stack(np.meshgrid(*[np.arange(-12, 13)] * count, indexing="ij"), axis=-1)
    lengths = np.linalg.norm(index.reshape(-1, count) / spacing, axis=1)
    reciprocal = (lengths[lengths > 0.0] ** -(count + 1.0)).sum()
    return float(np.sqrt(radius ** (count - 1) / (2.0 * np.pi**2) * reciprocal))


def errors_of(
    body: Body, read: Read, spacing: FloatArray, in_voxels: Callable[[FloatArray], FloatArray]
) -> Errors:
    """Hold what was read of a body against the truth."""
    count = len(spacing)
    true = body.radius**count * (4.0 / 3.0 * np.pi if count == 3 else np.pi)
    wrong = abs(len(read.points) * read.voxel - true)
    off = in_voxels(read.points.mean(axis=0) - body.centre)
    return Errors(
        float(np.abs(off).max()), wrong / true, wrong / voxelisation_sigma(body.radius, spacing)
    )


def worst(errors: Sequence[Errors]) -> Errors:
    return Errors(
        max(one.centroid_voxels for one in errors),
        max(one.volume_share for one in errors),
        max(one.volume_sigmas for one in errors),
        sum(one.bodies for one in errors),
    )


# --- what a node does ------------------------------------------------------------------------


def threshold(values: npt.NDArray[np.float32 | np.uint8], half: float) -> tuple[Mask, Mask]:
    """Find the larger and the smaller body, as a pipeline would."""
    labels, count = ndimage.label(values > half)
    assert count == 2, f"{count} bodies where there are 2"
    larger = 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return labels == larger, labels == 3 - larger


def found_in(source: Source, half: float) -> tuple[Mask, Mask]:
    study = source.study
    if isinstance(study, Volume):
        return threshold(study.voxels, half)
    assert isinstance(study, Images)
    grey = study.frames if study.frames.ndim == 3 else study.frames[..., 1]
    frames = [threshold(frame, half) for frame in grey]
    return np.stack([one for one, _ in frames]), np.stack([other for _, other in frames])


def segmented(source: Source, masks: tuple[Mask, Mask], folder: Path) -> Path:
    """Write the segmentation of both bodies."""
    segments = tuple(
        Segment(label, codes.ANATOMICAL_STRUCTURE, codes.BRAIN, source.on_images(mask))
        for label, mask in zip(("larger", "smaller"), masks, strict=True)
    )
    path = folder / "seg.dcm"
    write(encode_segmentation(source, segments, made.work()), path)
    return path


# --- readers that are not ours ---------------------------------------------------------------


def dcmqi() -> Path:
    """Return the reader itself: the command of that name takes longer to start Python than it."""
    spec = find_spec("dcmqi")
    if spec is None or spec.origin is None:
        pytest.skip("not installed: pip install dcmqi")
    return Path(spec.origin).parent / "bin" / "segimage2itkimage"


def read_by_dcmqi(path: Path, folder: Path) -> Iterator[Read]:
    done = subprocess.run(
        [dcmqi(), "--inputDICOM", path, "--outputDirectory", folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for number in (1, 2):
        image = SimpleITK.ReadImage(str(folder / f"{number}.nrrd"))
        inside = np.argwhere(SimpleITK.GetArrayViewFromImage(image) > 0)[:, ::-1]  # x, y, z
        direction = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
        yield Read(inside @ direction.T + image.GetOrigin(), float(np.prod(image.GetSpacing())))


def frames_of(path: Path) -> Iterator[tuple[int, Dataset, npt.NDArray[np.intp]]]:
    """Yield of each frame its segment, its functional groups, and the pixels that are set."""
    dataset = dcmread(path)
    for groups, pixels in zip(
        dataset.PerFrameFunctionalGroupsSequence,
        pixel_array(dataset).reshape(-1, dataset.Rows, dataset.Columns),
        strict=True,
    ):
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        yield int(number), groups, np.argwhere(pixels)


def read_by_the_equation(path: Path) -> Iterator[Read]:
    """Each frame by its own position: PS3.3 equation C.7.6.2.1-1."""
    (shared,) = dcmread(path, stop_before_pixels=True).SharedFunctionalGroupsSequence
    measures = shared.PixelMeasuresSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    rows_mm, columns_mm = map(float, measures.PixelSpacing)
    steps = np.array([cosines[3:] * rows_mm, cosines[:3] * columns_mm])
    points: dict[int, list[FloatArray]] = {1: [], 2: []}
    for number, groups, inside in frames_of(path):
        place = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        points[number].append(place + inside @ steps)
    voxel = rows_mm * columns_mm * float(measures.SpacingBetweenSlices)
    for number in (1, 2):
        yield Read(np.concatenate(points[number]), voxel)


# --- there and back --------------------------------------------------------------------------


def there_and_back(scan: Scan, folder: Path, *, tilted: bool) -> Errors:
    source = load(write_scan(scan, folder))
    assert bool(source.shifts_px) is tilted
    path = segmented(source, found_in(source, scan.half), folder)
    read = read_by_the_equation(path) if tilted else read_by_dcmqi(path, folder)
    return worst(
        [
            errors_of(body, one, scan.spacing_mm, scan.in_voxels)
            for body, one in zip(scan.spheres, read, strict=True)
        ]
    )


def there_and_back_in_pixels(pictures: Pictures, folder: Path) -> Errors:
    source = load([write_pictures(pictures, folder)])
    study = source.study
    assert isinstance(study, Images)
    assert study.spacing_mm == (pictures.spacing_mm and pytest.approx(pictures.spacing_mm))
    path = segmented(source, found_in(source, pictures.half), folder)
    (shared,) = dcmread(path, stop_before_pixels=True).SharedFunctionalGroupsSequence
    if pictures.spacing_mm:
        assert shared.PixelMeasuresSequence[0].PixelSpacing == pytest.approx(pictures.spacing_mm)
    else:
        assert "PixelMeasuresSequence" not in shared
    errors, seen = [], []
    for number, groups, inside in frames_of(path):
        (image,) = groups.DerivationImageSequence[0].SourceImageSequence
        assert image.ReferencedSOPInstanceUID == source.instances[0].SOPInstanceUID
        frame = int(image.get("ReferencedFrameNumber", 1))
        seen.append((number, frame))
        body = pictures.discs[frame - 1][number - 1]
        read = Read(inside.astype(float), 1.0)
        errors.append(errors_of(body, read, np.ones(2), lambda pixels: pixels))
    frames = range(1, pictures.shape[0] + 1)
    assert sorted(seen) == [(number, frame) for number in (1, 2) for frame in frames]
    return worst(errors)


def journey(kind: str, seed: int) -> Errors:
    """Send one random geometry of a kind there and back."""
    random = np.random.default_rng([seed, *kind.encode()])
    sort, _, tilted = kind.partition(" ")
    with TemporaryDirectory() as name:
        folder = Path(name)
        if sort in ("radiograph", "clip"):
            return there_and_back_in_pixels(random_pictures(random, sort), folder)
        scan = random_scan(random, sort, tilted=bool(tilted))
        return there_and_back(scan, folder, tilted=bool(tilted))


def journeys(kind: str, seeds: Sequence[int]) -> list[tuple[int, Errors | str]]:
    """Return what came of each seed; of one that broke down, why."""
    outcomes: list[tuple[int, Errors | str]] = []
    for seed in seeds:
        try:
            outcomes.append((seed, journey(kind, seed)))
        except Exception as error:
            outcomes.append((seed, f"{type(error).__name__}: {error}"))
    return outcomes


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    dcmqi()
    # Spawned: the tests' own process may have threads by now.
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        yield pool


@pytest.mark.slow
@pytest.mark.parametrize("kind", GEOMETRIES)
def test_bodies_come_back_where_they_are_and_as_large(kind, processes, record_property, capsys):
    started = time.monotonic()
    batches = [range(first, GEOMETRIES[kind], 8) for first in range(8)]
    outcomes = [
        outcome for batch in processes.map(journeys, [kind] * 8, batches) for outcome in batch
    ]
    errors = [one for _, one in outcomes if isinstance(one, Errors)]
    most = worst(errors)
    summary = (
        f"{kind}: {len(errors)} geometries, {most.bodies} bodies, centroid off by at most "
        f"{most.centroid_voxels:.3f} voxel, volume by {100 * most.volume_share:.1f} % "
        f"({most.volume_sigmas:.1f} sigma), in {time.monotonic() - started:.1f} s"
    )
    record_property("geometry", summary)
    with capsys.disabled():
        print(f"\n{summary}")
    assert len(outcomes) == GEOMETRIES[kind]
    failed = {
        seed: outcome
        for seed, outcome in outcomes
        if isinstance(outcome, str)
        or outcome.centroid_voxels > CENTROID_VOXELS
        or outcome.volume_sigmas > SIGMAS
    }
    assert not failed, f"repeat with journey({kind!r}, SEED): {failed}"


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.7, 0.6, 0.9), (1.0, 1.0, 1.0)])
def test_chance_does_to_the_volume_of_a_body_what_the_bound_says(spacing):
    random = np.random.default_rng(3)
    count = int(3.5 * max(spacing) / min(spacing)) + 2
    lattice = np.stack(np.meshgrid(*[np.arange(-count, count + 1)] * len(spacing)), axis=-1)
    sigmas = []
    for _ in range(300):
        body = Body(random.random(len(spacing)) * spacing, random.uniform(2.5, 3.5) * max(spacing))
        points = (lattice * spacing).reshape(-1, len(spacing))
        inside = points[np.linalg.norm(points - body.centre, axis=1) < body.radius]
        read = Read(inside, float(np.prod(spacing)))
        sigmas.append(errors_of(body, read, np.array(spacing), lambda mm: mm).volume_sigmas)
    assert np.sqrt(np.mean(np.square(sigmas))) == pytest.approx(1.0, abs=0.1)


MISTAKES = {
    f"{what} along {axis}": (change, number)
    for number, axis in enumerate(("slices", "rows", "columns"))
    for what, change in (
        ("moved by one voxel", lambda mask, axis: np.roll(mask, 1, axis)),
        ("mirrored", np.flip),
    )
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mask_that_is_not_where_it_was_found_would_be_noticed(mistake, monkeypatch):
    change, axis = MISTAKES[mistake]
    monkeypatch.setattr(Source, "on_images", lambda _, mask: change(mask, axis))
    assert journey("ct", 1).centroid_voxels > CENTROID_VOXELS
