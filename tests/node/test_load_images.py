"""Radiographs, ultrasound images and clips: made ones with known truth, then real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    JPEGLosslessSV1,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    XRayAngiographicImageStorage,
)

from node.load.images import load_images
from node.load.source import load
from pipelines.contract import CouldNotLook, Images
from tests.peers.made_images import item, made_image

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
RANDOM = np.random.default_rng(11)
GREY = RANDOM.integers(0, 1024, (7, 5)).astype(np.uint16)
CLIP = RANDOM.integers(0, 256, (4, 6, 8)).astype(np.uint8)
CM = 3
TISSUE = {"RegionSpatialFormat": 1, "RegionDataType": 1}


def radiograph(**changes):
    return made_image(
        GREY, DigitalXRayImageStorageForPresentation, BitsStored=10, HighBit=9, **changes
    )


def clip(**changes):
    return made_image(CLIP, UltrasoundMultiFrameImageStorage, **changes)


def region(down, right, **changes):
    stated = {
        **TISSUE,
        "RegionLocationMinX0": 0,
        "RegionLocationMinY0": 0,
        "RegionLocationMaxX1": 7,
        "RegionLocationMaxY1": 5,
        "PhysicalUnitsXDirection": CM,
        "PhysicalUnitsYDirection": CM,
        "PhysicalDeltaX": right,
        "PhysicalDeltaY": down,
        **changes,
    }
    return item(**stated)[0]


def images(dataset) -> Images:
    study = load_images(dataset).study
    assert isinstance(study, Images)
    return study


@pytest.mark.parametrize(
    "sop_class",
    [
        ComputedRadiographyImageStorage,
        DigitalXRayImageStorageForPresentation,
        DigitalXRayImageStorageForProcessing,
        UltrasoundImageStorage,
    ],
)
def test_one_image_is_one_frame_of_its_values(tmp_path, sop_class):
    path = tmp_path / "image.dcm"
    made_image(GREY, sop_class).save_as(path, enforce_file_format=True)
    source = load([path])
    assert np.array_equal(source.study.frames, GREY[np.newaxis])
    assert source.study.frames.dtype == np.float32
    assert source.frame_numbers == ()
    assert source.on_images(source.study.frames) is source.study.frames
    (instance,) = source.instances
    assert instance.SOPClassUID == sop_class
    assert "PixelData" not in instance


@pytest.mark.parametrize(
    "sop_class", [UltrasoundMultiFrameImageStorage, XRayAngiographicImageStorage]
)
def test_a_clip_is_its_frames_numbered_from_one(sop_class):
    source = load_images(made_image(CLIP, sop_class))
    assert np.array_equal(source.study.frames, CLIP)
    assert source.frame_numbers == (1, 2, 3, 4)


def test_values_are_rescaled():
    frames = images(radiograph(RescaleSlope="0.5", RescaleIntercept="-10")).frames
    assert np.array_equal(frames[0], 0.5 * GREY - 10)


def test_values_go_through_the_modality_s_table():
    table = Dataset()
    table.LUTDescriptor = [1024, 0, 16]
    table["LUTDescriptor"].VR = "US"
    table.LUTData = (4095 - 3 * np.arange(1024)).astype("<u2").tobytes()
    table["LUTData"].VR = "OW"
    looked_up = 4095.0 - 3.0 * GREY
    assert np.array_equal(images(radiograph(ModalityLUTSequence=[table])).frames[0], looked_up)
    inverse = radiograph(ModalityLUTSequence=[table], PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(images(inverse).frames[0], 65535.0 - looked_up)


@pytest.mark.parametrize(("representation", "lowest"), [(0, 0), (1, -512)])
def test_what_is_stored_dark_on_bright_comes_bright_on_dark(representation, lowest):
    stored = GREY.astype(np.int16) + lowest
    dataset = radiograph(PhotometricInterpretation="MONOCHROME1")
    dataset.PixelRepresentation = representation
    dataset.PixelData = (stored & 0x3FF).astype("<u2").tobytes()
    dataset.RescaleSlope, dataset.RescaleIntercept = "2", "5"
    frames = images(dataset).frames[0]
    assert np.array_equal(frames, 2 * (1023 + 2 * lowest - stored) + 5)


def test_padding_is_as_dark_as_the_darkest_value():
    pixels = np.maximum(GREY, 7)
    pixels[0] = 0
    frames = images(radiograph(PixelData=pixels.tobytes(), PixelPaddingValue=0)).frames
    assert (frames[0, 0] == pixels[1:].min()).all()
    assert np.array_equal(frames[0, 1:], pixels[1:])


def test_colours_come_as_red_green_and_blue():
    pixels = RANDOM.integers(0, 256, (2, 6, 8, 3)).astype(np.uint8)
    frames = images(made_image(pixels, UltrasoundMultiFrameImageStorage)).frames
    assert frames.dtype == np.uint8
    assert np.array_equal(frames, pixels)


@pytest.mark.parametrize(
    ("stated", "spacing_mm"),
    [
        ({}, None),
        ({"PixelSpacing": ["0.2", "0.3"], "ImagerPixelSpacing": ["0.4", "0.4"]}, (0.2, 0.3)),
        ({"ImagerPixelSpacing": ["0.15", "0.14"]}, (0.15, 0.14)),
        ({"PixelSpacing": ["0", "0"]}, None),
        ({"PixelSpacing": ["0.2"]}, None),
        ({"SequenceOfUltrasoundRegions": [region(0.02, -0.03)]}, (0.2, 0.3)),
        ({"SequenceOfUltrasoundRegions": [region(0.02, 0.02), region(0.02, 0.02)]}, (0.2, 0.2)),
        ({"SequenceOfUltrasoundRegions": [region(0.02, 0.02), region(0.03, 0.03)]}, None),
        ({"SequenceOfUltrasoundRegions": [region(0.02, 0.03, PhysicalUnitsXDirection=4)]}, None),
        ({"SequenceOfUltrasoundRegions": [region(0.02, 0.03, RegionLocationMaxX1=600)]}, None),
        (
            {
                "SequenceOfUltrasoundRegions": [
                    region(1, 2, RegionSpatialFormat=3),
                    region(0.1, 0.1),
                ]
            },
            (1.0, 1.0),
        ),
    ],
)
def test_the_spacing_is_what_the_object_states_of_the_patient(stated, spacing_mm):
    assert images(clip(**stated)).spacing_mm == (spacing_mm and pytest.approx(spacing_mm))


@pytest.mark.parametrize(
    ("stated", "times_s"),
    [
        ({}, ()),
        ({"FrameTime": "40"}, (0.0, 0.04, 0.08, 0.12)),
        ({"FrameTimeVector": ["0", "10", "20", "30"]}, (0.0, 0.01, 0.03, 0.06)),
        ({"FrameTimeVector": ["10", "20"]}, ()),
        ({"CineRate": "50"}, (0.0, 0.02, 0.04, 0.06)),
        ({"FrameTime": "-1"}, ()),
    ],
)
def test_the_times_count_from_the_first_frame(stated, times_s):
    assert images(clip(**stated)).times_s == pytest.approx(times_s)


def no_pixels(dataset):
    del dataset.PixelData


def shortened(dataset):
    dataset.PixelData = dataset.PixelData[:-2]


def no_decoder(dataset):
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1


def unknown_colour(dataset):
    dataset.PhotometricInterpretation = "CMYK"


def only_padding(dataset):
    dataset.PixelPaddingValue, dataset.PixelPaddingRangeLimit = 0, 1023


def half_a_rescale(dataset):
    dataset.RescaleSlope, dataset.RescaleIntercept = "2", None


def no_palette(dataset):
    dataset.PhotometricInterpretation = "PALETTE COLOR"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (no_pixels, "An image holds no pixel data."),
        (shortened, "The pixel data of an image are too short or damaged"),
        (no_decoder, "The images are compressed as JPEG Lossless"),
        (unknown_colour, "The pixel data mean CMYK, which is not read here."),
        (only_padding, "The image holds nothing but padding"),
        (half_a_rescale, "The rescale or the Modality LUT of an image is damaged."),
        (no_palette, "The colour palette of an image is damaged."),
    ],
)
def test_an_image_that_cannot_be_read_says_why(change, reason):
    dataset = radiograph()
    change(dataset)
    with pytest.raises(CouldNotLook) as refused:
        load_images(dataset)
    assert refused.value.reason.startswith(reason)


def test_a_secondary_capture_is_no_image_of_the_patient(tmp_path):
    path = tmp_path / "screenshot.dcm"
    made_image(GREY, SecondaryCaptureImageStorage).save_as(path, enforce_file_format=True)
    with pytest.raises(CouldNotLook, match="holds Secondary Capture Image Storage; a volume is"):
        load([path])


def test_two_views_at_once_are_refused(tmp_path):
    path = tmp_path / "view.dcm"
    radiograph().save_as(path, enforce_file_format=True)
    with pytest.raises(CouldNotLook, match="holds 2 objects where one image or clip was expected"):
        load([path, path])


def example(name):
    return Path(str(get_testdata_file(name)))


def shared(name):
    if not (SHARED / name).exists():
        pytest.skip(f"needs the public test data {name}")
    return SHARED / name


def test_a_real_echo_in_jpeg_has_thirty_frames_at_thirty_a_second():
    """Its frames were scaled after its region was written, so that its spacing is not believed."""
    source = load([example("examples_ybr_color.dcm")])
    study = source.study
    assert study.shape == (30, 240, 320)
    assert study.frames.shape == (30, 240, 320, 3)
    assert study.times_s[-1] == pytest.approx(29 / 30, abs=1e-3)
    assert study.spacing_mm is None
    assert source.frame_numbers == tuple(range(1, 31))
    black_to_white = study.frames.astype(int).max(axis=3)
    assert np.ptp(study.frames.astype(int), axis=3)[black_to_white > 128].mean() < 20  # mostly grey


@pytest.mark.parametrize(
    "name",
    ["examples_palette.dcm", "examples_rgb_color.dcm", "examples_jpeg2k.dcm", "ExplVR_BigEnd.dcm"],
)
def test_real_ultrasound_in_every_kind_of_colour_is_read_as_pydicom_reads_it(name):
    from pydicom.pixels import apply_color_lut, pixel_array

    path = example(name)
    dataset = dcmread(path)
    pixels = pixel_array(dataset)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, dataset) >> 8
    assert np.array_equal(load([path]).study.frames[0], pixels)


def test_a_real_chest_radiograph_has_dark_lungs_and_a_bright_heart():
    """Stored as MONOCHROME1; it states no spacing."""
    study = load([shared("xr/gdcm-CR-MONO1-10-chest.dcm")]).study
    (frame,) = study.frames
    right_lung, heart = frame[150:250, 100:160], frame[280:330, 220:270]
    assert right_lung.mean() + 100 < heart.mean()
    assert study.spacing_mm is None
    assert study.attributes["ViewPosition"] == "PA"


def test_a_real_doppler_clip_has_its_uneven_times_and_the_spacing_of_its_tissue_region():
    study = load([shared("us/IM00001.implicit_little_endian.dcm")]).study
    assert study.shape == (8, 240, 320)
    assert study.times_s[:4] == pytest.approx((0.0, 0.05, 0.083333, 0.133333))
    assert study.spacing_mm == pytest.approx((2.29375, 2.29375))
