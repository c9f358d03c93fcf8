"""Masks of any width come back as they are: as bits, or as bytes where viewers scramble bits."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import highdicom as hd
import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread

from node.domain import Role
from node.encode.multiframe import bits
from node.encode.segmentation import encode_segmentation
from node.encode.write import write
from node.gate.segmentation import outlines_of, segmentation_problems
from node.load.prior import read_lesions
from pipelines import codes
from pipelines.contract import CouldNotLook, Images, Segment, Volume
from tests.node import shown
from tests.peers import validators
from tests.sr_templates import made

SIZES = [(125, 123), *((5, columns) for columns in range(1, 17))]
"""(rows, columns): odd both, and every remainder of a byte."""


def sized(source, rows, columns):
    """The same images with other rows and columns."""
    study = source.study
    if isinstance(study, Volume):
        grid = replace(study.grid, shape=(study.grid.shape[0], rows, columns))
        study = Volume(np.zeros(grid.shape, np.float32), grid)
    else:
        assert isinstance(study, Images)
        study = replace(study, frames=study.frames[:, :rows, :columns])
    for header in source.instances:
        header.Rows, header.Columns = rows, columns
    return replace(source, study=study)


def segments(source, count=2) -> tuple[Segment, ...]:
    masks = np.random.default_rng(0).random((count, *source.study.shape)) > 0.5
    masks[0, 3:4] = False
    return tuple(
        Segment(f"Part {number}", codes.MORPHOLOGICALLY_ABNORMAL, codes.NODULE, mask)
        for number, mask in enumerate(masks, start=1)
    )


def written(source, some, folder):
    write(encode_segmentation(source, some, made.work()), folder / "seg.dcm")
    return dcmread(folder / "seg.dcm")


@pytest.mark.parametrize("size", SIZES)
def test_highdicom_pydicom_and_the_gate_read_every_mask(size, tmp_path):
    source = sized(made.classic(), *size)
    some = segments(source)
    dataset = written(source, some, tmp_path)
    masks = np.stack([one.mask for one in some])
    uids = [instance.SOPInstanceUID for instance in source.instances]
    read = hd.seg.segread(tmp_path / "seg.dcm").get_pixels_by_source_instance(uids)
    assert (np.moveaxis(read, -1, 0) == masks).all()
    frames = dataset.pixel_array.reshape(2, -1, *size)[:, ::-1]  # against the slices' order
    assert (frames == masks * frames.max()).all()
    outlines = outlines_of(dataset)
    assert outlines.voxels == {1: masks[0].sum(), 2: masks[1].sum()}
    assert list(segmentation_problems(outlines, source.instances)) == []
    for lesion, mask in zip(read_lesions(dataset, source, {}), masks, strict=True):
        centre = source.study.grid.affine @ (*np.argwhere(mask).mean(axis=0), 1.0)
        assert lesion.centre_mm == pytest.approx(centre[:3], abs=1e-6)
        assert lesion.volume_ml == pytest.approx(made.millilitres(mask))


@pytest.mark.parametrize("columns", range(1, 17))
def test_bits_are_written_only_where_each_row_ends_with_a_byte(columns, tmp_path):
    source = sized(made.classic(), 8, columns)
    dataset = written(source, segments(source), tmp_path)
    if columns % 8 == 0:
        assert (dataset.SegmentationType, dataset.BitsAllocated) == ("BINARY", 1)
        assert "MaximumFractionalValue" not in dataset
        assert "SegmentationFractionalType" not in dataset
    else:
        assert (dataset.SegmentationType, dataset.BitsAllocated) == ("FRACTIONAL", 8)
        assert (dataset.BitsStored, dataset.HighBit) == (8, 7)
        assert dataset.SegmentationFractionalType == "OCCUPANCY"
        assert dataset.MaximumFractionalValue == 255
        assert set(np.unique(dataset.pixel_array)) == {0, 255}


def test_a_label_map_of_any_width_stays_one():
    source = sized(made.classic(), 5, 7)
    dataset = encode_segmentation(source, segments(source, 1), made.work(), Role.LABELMAP)
    assert dataset.SegmentationType == "LABELMAP"
    assert "MaximumFractionalValue" not in dataset


def test_but_for_how_voxels_are_stored_the_object_is_the_same(tmp_path):
    stored = {
        "BitsAllocated",
        "BitsStored",
        "Columns",
        "HighBit",
        "MaximumFractionalValue",
        "PixelData",
        "SegmentationFractionalType",
        "SegmentationType",
    }
    wide, narrow = (sized(made.classic(), 20, columns) for columns in (16, 15))
    bit, byte = (written(source, segments(source), tmp_path) for source in (wide, narrow))
    for dataset in (bit, byte):
        for keyword in stored & set(dataset.dir()):
            del dataset[keyword]
    assert bit == byte


def test_the_same_work_makes_the_same_bytes(tmp_path):
    contents = []
    for _ in range(2):
        source = sized(made.classic(), 125, 123)
        written(source, segments(source), tmp_path)
        contents.append((tmp_path / "seg.dcm").read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize("view", [lambda m: m[::-1, :, ::-1], lambda m: m.transpose(0, 2, 1)])
def test_a_mask_may_be_a_view_of_another(view):
    mask = view(np.random.default_rng(0).random((9, 7, 5)) > 0.5)
    stored = bits.occupied([*mask, None], mask[0].size, 255)
    assert len(stored) == 350
    read = np.frombuffer(stored, np.uint8).reshape(10, *mask[0].shape)
    assert (read[:-1] == mask * np.uint8(255)).all()
    assert not read[-1].any()


@pytest.mark.skipif(
    bool(validators.why_missing("segimage2itkimage", "dciodvfy")),
    reason=validators.why_missing("segimage2itkimage", "dciodvfy"),
)
@pytest.mark.parametrize("size", [(125, 123), (5, 9), (7, 15)])
def test_dcmqi_reads_every_mask_and_no_validator_complains(size, tmp_path):
    source = sized(made.classic("oblique"), *size)
    some = segments(source)
    written(source, some, tmp_path)
    assert validators.complaints_about([tmp_path / "seg.dcm"]) == {}
    reader = validators.program("segimage2itkimage")
    assert reader
    subprocess.run(
        [reader, "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", tmp_path, "-t", "nrrd"],
        check=True,
        capture_output=True,
    )
    for number, segment in enumerate(some, start=1):
        image = SimpleITK.ReadImage(str(tmp_path / f"{number}.nrrd"))
        index = np.argwhere(SimpleITK.GetArrayFromImage(image))[:, ::-1]  # x, y, z
        steps = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
        places = np.c_[index @ steps.T + image.GetOrigin(), np.ones(len(index))]
        back = np.rint(places @ np.linalg.inv(source.study.grid.affine).T)[:, :3].astype(int)
        assert set(map(tuple, back)) == set(map(tuple, np.argwhere(segment.mask)))


@pytest.mark.skipif(
    bool(validators.why_missing("dciodvfy")), reason=validators.why_missing("dciodvfy")
)
@pytest.mark.parametrize("placed", [False, True], ids=["nowhere", "in a frame of reference"])
@pytest.mark.parametrize("kind", ["radiograph", "clip"])
def test_images_that_are_no_volume_pass_the_gate_and_the_validator(kind, placed, tmp_path):
    source = sized(shown.radiograph() if kind == "radiograph" else shown.clip(), 47, 61)
    if placed:
        source.instances[0].FrameOfReferenceUID = "1.2.3"
    dataset = written(source, segments(source), tmp_path)
    assert list(segmentation_problems(outlines_of(dataset), source.instances)) == []
    assert validators.complaints_about([tmp_path / "seg.dcm"]) == {}


def spoiled(source, folder, change):
    dataset = written(source, segments(source), folder)
    change(dataset)
    return dataset


def in_part(dataset):
    dataset.PixelData = b"\x80" + dataset.PixelData[1:]


DEFECTS = {
    "occupied in part": in_part,
    "nor does it say of each voxel": lambda one: setattr(
        one, "SegmentationFractionalType", "PROBABILITY"
    ),
    "draw none of it": lambda one: setattr(one, "MaximumFractionalValue", 200),
    "not as long as": lambda one: setattr(one, "PixelData", one.PixelData[:-2]),
    "other than 8 bits": lambda one: setattr(one, "BitsAllocated", 1),
    "is not binary": lambda one: one.pop("SegmentationFractionalType"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_gate_names_what_viewers_would_not_draw(defect, tmp_path):
    source = sized(made.classic(), 5, 7)
    dataset = spoiled(source, tmp_path, DEFECTS[defect])
    assert defect in " ".join(segmentation_problems(outlines_of(dataset), source.instances))


@pytest.mark.parametrize("defect", ["occupied in part", "nor does it say of each voxel"])
def test_fractions_of_an_earlier_result_are_not_compared(defect, tmp_path):
    source = sized(made.classic(), 5, 7)
    dataset = spoiled(source, tmp_path, DEFECTS[defect])
    with pytest.raises(CouldNotLook):
        read_lesions(dataset, source, {})
