"""From DICOM files to a volume: made series with known truth, then objects of real scanners."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from node.load.source import Source, load, read_headers
from node.load.volume import load_volume
from pipelines.contract import CouldNotLook, Grid, Volume, Waveform
from tests.peers.head_phantom import to_enhanced_mr, to_mr_series

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
SHAPE = (6, 40, 36)
GRID = Grid(
    shape=SHAPE,
    origin_mm=(-10.0, 5.0, 30.0),
    axes=((0.0, -0.6, 0.8), (0.0, 0.8, 0.6), (1.0, 0.0, 0.0)),
    spacing_mm=(2.0, 0.5, 0.75),
)
VOXELS = np.random.default_rng(7).integers(0, 4096, SHAPE).astype(np.uint16)


def series(**changes: object) -> list[Dataset]:
    """An oblique MR series of ``VOXELS``, each instance with the same ``changes``."""
    instances = to_mr_series(VOXELS, GRID)
    for instance in instances:
        for keyword, value in changes.items():
            setattr(instance, keyword, value)
    return instances


def refusal(datasets: Sequence[Dataset]) -> str:
    with pytest.raises(CouldNotLook) as refused:
        load_volume(datasets)
    return refused.value.reason


def volume(source: Source) -> Volume:
    assert isinstance(source.study, Volume)
    return source.study


def shared(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"needs the public test data {name}")
    return SHARED / name


@pytest.mark.parametrize("seed", range(5))
def test_slices_are_stacked_by_position_whatever_their_order_and_number(seed):
    instances = series()
    random.Random(seed).shuffle(instances)
    for number, instance in enumerate(instances):
        instance.InstanceNumber = number
    source = load_volume(instances)
    assert np.array_equal(volume(source).voxels, VOXELS)
    np.testing.assert_allclose(volume(source).grid.affine, GRID.affine, atol=1e-9)
    for number, instance in enumerate(source.instances):
        position = (GRID.affine @ (number, 0, 0, 1))[:3]
        np.testing.assert_allclose(instance.ImagePositionPatient, position, atol=1e-9)


@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal"])
def test_every_voxel_is_where_the_patient_has_it(plane):
    study = volume(load_volume(to_mr_series(VOXELS, GRID, plane)))
    into_truth = np.linalg.inv(GRID.affine) @ study.grid.affine
    for index in np.ndindex(study.grid.shape):
        there = tuple(np.rint(into_truth @ (*index, 1)).astype(int)[:3])
        assert study.voxels[index] == VOXELS[there]


def test_instances_keep_their_headers_and_lose_their_pixels():
    source = load_volume(series())
    assert all("PixelData" not in instance for instance in source.instances)
    assert source.instances[0].PatientID == "PHANTOM-HEAD"


def test_a_pipeline_learns_nothing_that_identifies_the_patient():
    attributes = volume(load_volume(series())).attributes
    assert attributes["ImageType"] == "ORIGINAL\\PRIMARY\\OTHER"
    assert float(attributes["InversionTime"]) == 900
    assert not {"PatientName", "PatientID", "PatientBirthDate", "StudyDate"} & set(attributes)


def test_each_slice_has_its_own_rescale():
    instances = series()
    for number, instance in enumerate(instances):
        instance.RescaleSlope, instance.RescaleIntercept = number + 0.5, -1024
    slopes = np.arange(SHAPE[0])[:, np.newaxis, np.newaxis] + 0.5
    assert np.array_equal(volume(load_volume(instances)).voxels, VOXELS * slopes - 1024)


def test_signed_values_stay_signed():
    signed = VOXELS.astype(np.int32) - 2048
    instances = series(PixelRepresentation=1)
    for instance, pixels in zip(instances, signed, strict=True):
        instance.PixelData = pixels.astype("<i2").tobytes()
    assert np.array_equal(volume(load_volume(instances)).voxels, signed)


@pytest.mark.parametrize("representation", [0, 1])
def test_an_overlay_in_the_unused_bits_is_not_part_of_the_values(representation):
    low, high = (-2048, 2048) if representation else (0, 4096)
    values = np.random.default_rng(1).integers(low, high, SHAPE)
    instances = series(PixelRepresentation=representation, BitsStored=12, HighBit=11)
    for instance, pixels in zip(instances, values, strict=True):
        instance.PixelData = ((pixels & 0x0FFF) | 0xA000).astype("<u2").tobytes()
    assert np.array_equal(volume(load_volume(instances)).voxels, values)


def test_padding_becomes_the_darkest_real_value():
    instances = series(PixelRepresentation=1, RescaleSlope=1, RescaleIntercept=-1024)
    truth = VOXELS.astype(np.float32) - 1024
    for number, instance in enumerate(instances):
        pixels = VOXELS[number].astype("<i2")
        pixels[0] = -2000
        instance.PixelData = pixels.tobytes()
        instance.PixelPaddingValue = -2000
    truth[:, 0] = truth[:, 1:].min()
    assert np.array_equal(volume(load_volume(instances)).voxels, truth)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_compressed_images_are_the_same_volume(syntax):
    instances = series()
    for instance in instances:
        instance.compress(syntax, generate_instance_uid=False)
    assert np.array_equal(volume(load_volume(instances)).voxels, VOXELS)


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless])
def test_frames_of_a_multi_frame_object_may_come_in_any_order(syntax):
    instance = to_enhanced_mr(VOXELS, GRID)
    order = random.Random(3).sample(range(SHAPE[0]), SHAPE[0])
    groups = instance.PerFrameFunctionalGroupsSequence
    instance.PerFrameFunctionalGroupsSequence = [groups[index] for index in order]
    instance.PixelData = VOXELS[order].astype("<u2").tobytes()
    if syntax:
        instance.compress(syntax, generate_instance_uid=False)
    source = load_volume([instance])
    assert np.array_equal(volume(source).voxels, VOXELS)
    np.testing.assert_allclose(volume(source).grid.affine, GRID.affine, atol=1e-9)
    assert [order[number - 1] for number in source.frame_numbers] == list(range(SHAPE[0]))
    assert len(source.instances) == 1
    assert "PixelData" not in source.instances[0]
    assert volume(source).attributes["EffectiveEchoTime"] == "2.98"


def test_a_frame_s_own_functional_group_comes_before_the_shared_one():
    instance = to_enhanced_mr(VOXELS, GRID)
    rescale = Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 2, 100, "US"
    own = instance.PerFrameFunctionalGroupsSequence[1]
    own.PixelValueTransformationSequence = [rescale]
    truth = VOXELS.astype(np.float32)
    truth[1] = 2 * truth[1] + 100
    assert np.array_equal(volume(load_volume([instance])).voxels, truth)


def second_stack(instance: Dataset) -> None:
    instance.PerFrameFunctionalGroupsSequence[-1].FrameContentSequence[0].StackID = "2"


def second_phase(instance: Dataset) -> None:
    for number, groups in enumerate(instance.PerFrameFunctionalGroupsSequence):
        groups.FrameContentSequence[0].TemporalPositionIndex = 1 + number % 2


def undescribed_frame(instance: Dataset) -> None:
    del instance.PerFrameFunctionalGroupsSequence[-1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (second_stack, "The multi-frame object holds 2 stacks; this model looks at one volume."),
        (
            second_phase,
            "The multi-frame object holds 2 temporal positions; this model looks at one volume.",
        ),
        (undescribed_frame, "The multi-frame object does not describe each of its frames."),
    ],
)
def test_a_multi_frame_object_that_is_not_one_volume_says_why(change, reason):
    instance = to_enhanced_mr(VOXELS, GRID)
    change(instance)
    assert refusal([instance]) == reason


def test_two_multi_frame_objects_are_not_one_volume():
    assert refusal([to_enhanced_mr(VOXELS, GRID)] * 2) == (
        "The series holds 2 multi-frame objects; which of them to look at is not clear."
    )


def missing_slice(instances: list[Dataset]) -> None:
    del instances[3]


def shortened(instances: list[Dataset]) -> None:
    instances[2].PixelData = instances[2].PixelData[:-2]


def no_pixels(instances: list[Dataset]) -> None:
    del instances[2].PixelData


def no_layout(instances: list[Dataset]) -> None:
    del instances[2].BitsStored


def in_colour(instances: list[Dataset]) -> None:
    for instance in instances:
        instance.PhotometricInterpretation, instance.SamplesPerPixel = "RGB", 3


def no_decoder(instances: list[Dataset]) -> None:
    for instance in instances:
        instance.file_meta.TransferSyntaxUID = JPEGLosslessSV1


def broken_codestream(instances: list[Dataset]) -> None:
    for instance in instances:
        instance.compress(JPEG2000Lossless, generate_instance_uid=False)
    instances[4].PixelData = instances[4].PixelData[:40] + bytes(len(instances[4].PixelData) - 40)


def other_series(instances: list[Dataset]) -> None:
    instances[1].SeriesInstanceUID = "1.2.3"


def other_frame_of_reference(instances: list[Dataset]) -> None:
    instances[1].FrameOfReferenceUID = "1.2.3"


def other_kind(instances: list[Dataset]) -> None:
    instances[1].SOPClassUID = SecondaryCaptureImageStorage


def no_position(instances: list[Dataset]) -> None:
    del instances[0].ImagePositionPatient


def half_a_position(instances: list[Dataset]) -> None:
    instances[0].ImagePositionPatient = [1, 2]


def larger_image(instances: list[Dataset]) -> None:
    instances[2].Rows *= 2
    instances[2].PixelData *= 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (missing_slice, "1 of 6 slices are missing, the first between 25.0 mm and 29.0 mm"),
        (shortened, "The pixel data of an image are too short or damaged and cannot be decoded."),
        (no_pixels, "An image holds no pixel data."),
        (no_layout, "The header of an image does not say how its pixel data are laid out."),
        (in_colour, "The images hold colours, not grey values (photometric interpretation RGB)."),
        (no_decoder, "The images are compressed as JPEG Lossless"),
        (broken_codestream, "The pixel data of an image are too short or damaged and cannot"),
        (other_series, "The images belong to different series."),
        (other_frame_of_reference, "The images have no common frame of reference, so that their"),
        (other_kind, "The series holds Secondary Capture Image Storage; a volume is made of CT"),
        (no_position, "The header of an image gives no usable value for Image Position (Patient)."),
        (half_a_position, "The header of an image gives no usable value for Image Position"),
        (larger_image, "The images differ in size: 40 x 36 and 80 x 36 pixels (rows x columns)."),
    ],
)
def test_a_series_that_is_no_volume_says_why(
    change: Callable[[list[Dataset]], None], reason: str
) -> None:
    instances = deepcopy(series())
    change(instances)
    assert refusal(instances).startswith(reason)


@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal"])
def test_the_made_series_are_proper_dicom(tmp_path, plane):
    """What these tests and the demo send passes ``dciodvfy`` without an error or a warning."""
    instances = [to_mr_series(VOXELS, GRID, plane)[0], to_enhanced_mr(VOXELS, GRID, plane)]
    for instance in instances:
        path = tmp_path / f"{instance.SOPInstanceUID}.dcm"
        instance.save_as(path, enforce_file_format=True)
        program = Path(sys.executable).with_name("dciodvfy")
        told = subprocess.run([program, path], capture_output=True, text=True, check=False)
        assert not re.search("Error|Warning", told.stdout + told.stderr)


def test_files_and_their_headers_are_read_without_bulk_data(tmp_path):
    paths = []
    for number, instance in enumerate(series()):
        paths.append(tmp_path / f"{number}.dcm")
        instance.save_as(paths[-1], enforce_file_format=True)
    assert np.array_equal(volume(load(paths)).voxels, VOXELS)
    headers = read_headers(paths)
    assert [header.InstanceNumber for header in headers] == [1, 2, 3, 4, 5, 6]
    assert all("PixelData" not in header for header in headers)


def test_a_file_that_is_not_dicom_is_a_reason_not_a_crash(tmp_path):
    path = tmp_path / "damaged.dcm"
    path.write_bytes(bytes(1000))
    with pytest.raises(CouldNotLook, match=r"^A file of the series is damaged"):
        load([path])


def test_a_waveform_object_becomes_a_waveform():
    path = Path(str(get_testdata_file("waveform_ecg.dcm")))
    assert isinstance(load([path]).study, Waveform)
    assert "WaveformSequence" not in read_headers([path])[0]


def test_two_recordings_in_a_series_are_refused():
    path = Path(str(get_testdata_file("waveform_ecg.dcm")))
    with pytest.raises(CouldNotLook, match="holds 2 objects where one waveform recording"):
        load([path, path])


def test_a_single_ct_image_is_no_volume():
    assert refusal([dcmread(str(get_testdata_file("CT_small.dcm")))]).startswith(
        "The series holds a single image"
    )


def test_a_real_chest_ct_in_jpeg_ls_has_the_grid_its_headers_say():
    folder = shared("ct/chest_acrin_042")
    study = volume(load_volume([dcmread(path) for path in folder.glob("*.dcm")]))
    assert study.grid.shape == (135, 512, 512)
    assert study.grid.spacing_mm == pytest.approx((3.27, 0.976562, 0.976562))
    assert study.grid.axes[0] == (0.0, 0.0, 1.0)


def test_a_real_enhanced_ct_is_stacked_along_its_normal_not_in_frame_order():
    """Its columns run to the right, so that the normal points to the feet."""
    source = load_volume([dcmread(shared("objects/eCT_Supplemental.dcm"))])
    grid = volume(source).grid
    assert source.frame_numbers == (2, 1)
    assert grid.axes == ((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0))
    assert grid.origin_mm == (99.5, -301.5, -149.0)
    assert volume(source).voxels.min() == -1024


def test_a_real_enhanced_mr_without_functional_groups_is_refused():
    reason = refusal([dcmread(shared("objects/emri_small.dcm"))])
    assert reason == "The multi-frame object does not describe each of its frames."
