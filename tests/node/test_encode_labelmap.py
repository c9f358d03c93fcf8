"""A label map holds one number for each voxel, and no item for what is no segment."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import highdicom as hd
import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread

from node.domain import Role
from node.encode.segmentation import can_be_labelmap, encode_segmentation
from node.encode.write import write
from node.errors import GateClosed
from pipelines import codes
from pipelines.contract import Segment
from tests.peers import validators
from tests.sr_templates import made

SOURCES = {
    "axial": made.classic,
    "sagittal": lambda: made.classic("sagittal"),
    "oblique": lambda: made.classic("oblique"),
    "enhanced": made.multiframe,
}


def segments(count=2) -> tuple[Segment, ...]:
    labels = np.random.default_rng(0).integers(0, count + 1, made.SHAPE)
    return tuple(
        Segment(f"Organ {number}", codes.TISSUE, codes.BRAIN, labels == number)
        for number in range(1, count + 1)
    )


def labels_of(some) -> np.ndarray:
    return sum(number * one.mask.astype(int) for number, one in enumerate(some, start=1))


def labelmap_of(source, some):
    return encode_segmentation(source, some, made.work(), Role.LABELMAP)


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize(("count", "bits"), [(1, 8), (2, 8)])
def test_highdicom_reads_every_number_on_its_image(kind, count, bits, tmp_path):
    source, some = SOURCES[kind](), segments(count)
    write(labelmap_of(source, some), tmp_path / "labelmap.dcm")
    read = hd.seg.segread(tmp_path / "labelmap.dcm")
    assert read.BitsAllocated == bits
    if kind == "enhanced":
        pixels = read.get_pixels_by_source_frame(
            source.instances[0].SOPInstanceUID, source.frame_numbers, combine_segments=True
        )
    else:
        uids = [instance.SOPInstanceUID for instance in source.instances]
        pixels = read.get_pixels_by_source_instance(uids, combine_segments=True)
    assert (pixels == labels_of(some)).all()


def test_more_segments_than_a_byte_holds_take_two(tmp_path):
    source, some = made.classic(), segments(256)
    write(labelmap_of(source, some), tmp_path / "labelmap.dcm")
    read = dcmread(tmp_path / "labelmap.dcm")
    assert (read.BitsAllocated, read["PixelData"].VR) == (16, "OW")
    assert (read.pixel_array[::-1] == labels_of(some)).all()


@pytest.mark.skipif(
    bool(validators.why_missing("segimage2itkimage")),
    reason=validators.why_missing("segimage2itkimage"),
)
@pytest.mark.parametrize("kind", SOURCES)
def test_dcmqi_reads_every_number_at_its_place_in_the_patient(kind, tmp_path):
    source, some = SOURCES[kind](), segments()
    write(labelmap_of(source, some), tmp_path / "labelmap.dcm")
    reader = validators.program("segimage2itkimage")
    assert reader
    path = tmp_path / "labelmap.dcm"
    subprocess.run(
        [reader, "--inputDICOM", path, "--outputDirectory", tmp_path, "-t", "nrrd"],
        check=True,
        capture_output=True,
    )
    (path,) = tmp_path.glob("*.nrrd")
    image = SimpleITK.ReadImage(str(path))
    labels = labels_of(some)
    for index in np.argwhere(labels)[::37]:
        place = (source.study.grid.affine @ [*index, 1.0])[:3]
        there = image.TransformPhysicalPointToIndex([float(value) for value in place])
        assert image[there] == labels[tuple(index)]


@pytest.mark.skipif(
    bool(validators.why_missing("dciodvfy")), reason=validators.why_missing("dciodvfy")
)
def test_dciodvfy_finds_no_error_in_the_label_map_of_any_source(tmp_path):
    for kind, source in SOURCES.items():
        write(labelmap_of(source(), segments()), tmp_path / f"{kind}.dcm")
    assert not any(validators.dciodvfy(tmp_path.iterdir()).values())


def test_background_is_no_segment(tmp_path):
    write(labelmap_of(made.classic(), segments()), tmp_path / "labelmap.dcm")
    dataset = dcmread(tmp_path / "labelmap.dcm")
    assert [item.SegmentNumber for item in dataset.SegmentSequence] == [1, 2]
    assert (dataset.SegmentationType, dataset.SegmentsOverlap) == ("LABELMAP", "NO")
    assert dataset.PixelPaddingValue == 0
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        assert "SegmentIdentificationSequence" not in frame


def test_a_label_map_is_another_object_than_the_segmentation():
    source, some = made.classic(), segments()
    both = [
        encode_segmentation(source, some, made.work(), role) for role in (Role.SEG, Role.LABELMAP)
    ]
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber"):
        assert len({one[keyword].value for one in both}) == 2


def test_what_overlaps_is_no_label_map():
    apart, (first, second) = segments(), segments()
    together = (first, replace(second, mask=second.mask | first.mask))
    assert can_be_labelmap(apart)
    assert not can_be_labelmap(together)
    with pytest.raises(GateClosed, match="overlap"):
        labelmap_of(made.classic(), together)
