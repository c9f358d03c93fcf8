"""Derived images lie on their source, keep its values, say what they are, and nothing finer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.pixels.processing import apply_modality_lut

from node.domain import Role
from node.encode.derived.pixels import FINEST, stored
from node.encode.objects import encode
from node.encode.write import write
from node.errors import GateClosed
from node.load.source import load
from node.publish_gate import verify
from pipelines.contract import Code, DerivedImages, Images, Result
from tests.node import shown
from tests.peers import sphere_phantom, validators
from tests.sr_templates import made

SMOOTHING = Code("113087", "DCM", "Smoothing")
KINDS = ("ct", "mr", "enhanced-ct", "enhanced-mr", "tilted")
ALONE = {"radiograph": shown.radiograph, "clip": shown.clip}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Real files of each kind, loaded by the node."""
    found = {}
    for number, kind in enumerate(KINDS):
        random = np.random.default_rng(number)
        own = "ct" if kind == "tilted" else kind
        scan = sphere_phantom.random_scan(random, own, tilted=kind == "tilted")
        paths = sphere_phantom.write_scan(scan, tmp_path_factory.mktemp(kind))
        found[kind] = (load(paths), paths)
    return found


def images_of(source, values=None) -> DerivedImages:
    if values is None:
        study = source.study
        values = study.frames if isinstance(study, Images) else study.voxels
        values = values.mean(axis=3, dtype=np.float32) if values.ndim == 4 else values
    return DerivedImages("Less noise", SMOOTHING, "Filtered in the test.", values)


def encoded(source, *series: DerivedImages, folder=None) -> dict[str, Dataset]:
    work = made.work(roles=frozenset({Role.SR, Role.IMAGES}))
    objects = encode(source, Result(images=series), work)
    if folder is None:
        return {one.role: one.dataset for one in objects}
    for one in objects:
        write(one.dataset, folder / f"{one.role}.dcm")
    return {one.role: dcmread(folder / f"{one.role}.dcm") for one in objects}


def derived(objects: dict[str, Dataset]) -> list[Dataset]:
    return [dataset for role, dataset in objects.items() if role.startswith("images")]


@pytest.mark.parametrize("kind", KINDS)
def test_unchanged_values_come_back_from_the_file_as_they_were(kind, sources, tmp_path):
    """Read by the node's own loader: same grid, same values, to a fraction of the source's step."""
    source, _ = sources[kind]
    encoded(source, images_of(source), folder=tmp_path)
    again = load(sorted(tmp_path.glob("images-*.dcm"))).study
    assert again.shape == source.study.shape
    assert np.allclose(again.grid.affine, source.study.grid.affine, atol=1e-6)
    tolerance = 1e-3
    if kind == "tilted":
        # Moved there and back between pixels: only straight ramps stay as they are.
        middle = (slice(None), slice(4, -4), slice(4, -4))
        error = np.abs(again.voxels - source.study.voxels)[middle]
        height = sphere_phantom.HEIGHT
        assert np.quantile(error, 0.9) < 0.02 * height
        assert error.mean() < 0.02 * height
    else:
        assert np.abs(again.voxels - source.study.voxels).max() <= tolerance


def test_the_images_of_a_tilted_gantry_are_not_half_a_pixel_beside_their_source(sources, tmp_path):
    source, paths = sources["tilted"]
    objects = encoded(source, images_of(source), folder=tmp_path)
    originals = {str(one.SOPInstanceUID): one for one in map(dcmread, paths)}
    offsets = []
    for image in derived(objects):
        original = originals[str(image.SourceImageSequence[0].ReferencedSOPInstanceUID)]
        theirs = apply_modality_lut(original.pixel_array, original).astype(float)
        own = apply_modality_lut(image.pixel_array, image).astype(float)
        assert image.ImagePositionPatient == original.ImagePositionPatient
        weight = theirs - theirs.min()
        if weight.sum() > 0:
            rows, columns = np.indices(weight.shape)
            mine = own - own.min()
            offsets += [
                (axis * mine).sum() / mine.sum() - (axis * weight).sum() / weight.sum()
                for axis in (rows, columns)
            ]
    assert len(offsets) > 10
    assert np.abs(offsets).max() < 0.05


@pytest.mark.parametrize("kind", ["ct", "mr"])
def test_each_image_stands_where_its_source_stands_and_says_how_it_was_made(kind, sources):
    source, _ = sources[kind]
    images = derived(encoded(source, images_of(source)))
    assert len(images) == len(source.instances)
    for image, header in zip(images, source.instances, strict=True):
        assert image.ImagePositionPatient == header.ImagePositionPatient
        assert image.FrameOfReferenceUID == header.FrameOfReferenceUID
        assert image.InstanceNumber == header.InstanceNumber
        assert image.ImageType[:2] == ["DERIVED", "SECONDARY"]
        assert image.DerivationDescription == "Filtered in the test."
        assert image.DerivationCodeSequence[0].CodeValue == SMOOTHING.value
        (reference,) = image.SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == header.SOPInstanceUID
        assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        assert image.Manufacturer == "radnode"
        assert [one.Manufacturer for one in image.ContributingEquipmentSequence] == [
            made.MODEL.maker,
            header.Manufacturer,
        ]
        assert image.SeriesDescription.startswith("Less noise (AI")
    assert len({one.SeriesInstanceUID for one in images}) == 1
    assert images[0].SeriesInstanceUID != source.instances[0].SeriesInstanceUID


def test_the_window_of_the_source_is_kept_and_what_it_lacks_shows_all():
    source = shown.ct()
    values = np.random.default_rng(1).normal(40.0, 30.0, source.study.shape).astype(np.float32)
    image = derived(encoded(source, images_of(source, values)))[0]
    assert (image.WindowCenter, image.WindowWidth) == (40, 400)
    for header in source.instances:
        del header.WindowCenter, header.WindowWidth
    image = derived(encoded(source, images_of(source, values)))[0]
    assert image.WindowWidth == pytest.approx(np.ptp(np.percentile(values[0], (1, 99.5))), rel=1e-3)


@pytest.mark.parametrize(
    ("lowest", "highest", "step"), [(-1024.0, 3071.0, 1.0), (0.0, 60000.0, 1.0), (-3.0, 5.0, 0.01)]
)
def test_rounding_is_finer_than_the_source_or_as_fine(lowest, highest, step):
    values = np.linspace(lowest, highest, 10001, dtype=np.float32)
    how = stored(values, [step])
    read = how.pixels(values) * float(how.slope) + float(how.intercept)
    assert np.abs(read - values).max() <= 0.5 * step + 1e-3 * step + 1e-6 * abs(highest)
    if (highest - lowest) / step < 65535 / FINEST:
        assert float(how.slope) == pytest.approx(step / FINEST)


def test_two_series_have_their_own_uids_and_numbers(sources):
    source, _ = sources["ct"]
    first = images_of(source)
    objects = encoded(source, first, replace(first, label="Another"))
    one, other = objects["images-1-0001"], objects["images-2-0001"]
    assert one.SeriesInstanceUID != other.SeriesInstanceUID
    assert one.SOPInstanceUID != other.SOPInstanceUID
    assert other.SeriesNumber == one.SeriesNumber + 1


@pytest.mark.skipif(
    bool(validators.why_missing("dciodvfy")), reason=validators.why_missing("dciodvfy")
)
def test_dciodvfy_finds_no_error_in_the_images_of_any_source(sources, tmp_path):
    every = {**{kind: source for kind, (source, _) in sources.items()}, "mr": made.classic()}
    every |= {"windowed": shown.ct(), **{kind: made_() for kind, made_ in ALONE.items()}}
    for kind, source in every.items():
        for image in derived(encoded(source, images_of(source)))[:1]:
            write(image, tmp_path / f"{kind}.dcm")
    assert {
        p.name: said for p, said in validators.dciodvfy(tmp_path.iterdir()).items() if said
    } == {}


def _move(image):
    image.ImagePositionPatient = [0, 0, 7]


def _shorten(image):
    image.PixelData = image.PixelData[:-2]


def _call_original(image):
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]


def _forget_how(image):
    del image.DerivationCodeSequence


def _forget_source(image):
    del image.SourceImageSequence


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (_move, "another position"),
        (_shorten, "not as long"),
        (_call_original, "does not say that it is derived"),
        (_forget_how, "does not say how it was derived"),
        (_forget_source, "does not name the one image"),
    ],
)
def test_the_gate_closes_on_images_that_are_not_their_sources(tamper, said, sources, tmp_path):
    source, _ = sources["ct"]
    objects = encoded(source, images_of(source), folder=tmp_path)
    verify(list(objects.values()), source.instances)
    tamper(objects["images-1-0003"])
    with pytest.raises(GateClosed, match=said):
        verify(list(objects.values()), source.instances)


def test_the_gate_closes_on_a_series_that_lacks_an_image(sources, tmp_path):
    source, _ = sources["mr"]
    objects = encoded(source, images_of(source), folder=tmp_path)
    del objects["images-1-0002"]
    with pytest.raises(GateClosed, match="each image of its source once"):
        verify(list(objects.values()), source.instances)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": "a|b"}, "label of derived images"),
        ({"description": " "}, "do not say how"),
        ({"values": np.zeros((1, 2, 3), np.float32)}, "have shape"),
        ({"values": None}, "not finite"),
        ({"derivation": Code("113087", "DCM", "Sharpening")}, "Smoothing"),
    ],
)
def test_images_that_contradict_their_source_are_not_encoded(change, said, sources):
    source, _ = sources["ct"]
    images = images_of(source)
    if change.get("values", "") is None:
        change = {"values": np.full_like(images.values, np.nan)}
    with pytest.raises(GateClosed, match=said):
        encoded(source, replace(images, **change))
