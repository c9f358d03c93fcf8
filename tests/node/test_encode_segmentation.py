"""A mask lands on the voxels it was drawn on, whatever the order and plane of the source."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK
from highdicom import seg
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from node.encode import segmentation
from node.encode.segmentation import encode_segmentation
from node.encode.write import write
from node.gate.segmentation import outlines_of, segmentation_problems
from pipelines import codes
from pipelines.contract import Result, Segment
from tests.peers import validators
from tests.sr_templates import made

SOURCES = {
    "axial": made.classic,
    "sagittal": lambda: made.classic("sagittal"),
    "oblique": lambda: made.classic("oblique"),
    "enhanced": made.multiframe,
}


def segmentation_of(source, result):
    return encode_segmentation(source, result.segments, made.work(), findings=result.findings)


def voxels_at(dataset):
    """Position -> mask of the frame there, for the first segment, unpacked by highdicom."""
    read = seg.Segmentation.from_dataset(dataset)
    frames = {}
    for index, frame in enumerate(read.PerFrameFunctionalGroupsSequence):
        identification = frame.get("SegmentIdentificationSequence")
        if identification and identification[0].ReferencedSegmentNumber != 1:
            continue
        place = tuple(map(float, frame.PlanePositionSequence[0].ImagePositionPatient))
        frames[place] = read.get_frame(index + 1).astype(bool)
    return frames


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("count", [1, 2])
def test_every_slice_of_the_mask_is_where_its_image_is(kind, count):
    source = SOURCES[kind]()
    frames = voxels_at(segmentation_of(source, made.outlined(count)))
    grid = source.study.grid
    assert len(frames) == made.SHAPE[0]
    for k in range(made.SHAPE[0]):
        place = (grid.affine @ [k, 0, 0, 1])[:3]
        nearest = min(frames, key=lambda at: float(np.linalg.norm(np.array(at) - place)))
        assert np.linalg.norm(np.array(nearest) - place) < 1e-4
        assert (frames[nearest] == made.mask()[k]).all()


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("count", [1, 2])
def test_every_frame_names_the_image_it_was_drawn_on(kind, count):
    source = SOURCES[kind]()
    dataset = segmentation_of(source, made.outlined(count))
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        (image,) = frame.DerivationImageSequence[0].SourceImageSequence
        own = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        if kind == "enhanced":
            groups = source.instances[0].PerFrameFunctionalGroupsSequence
            named = groups[image.ReferencedFrameNumber - 1].PlanePositionSequence[0]
        else:
            (named,) = (
                instance
                for instance in source.instances
                if instance.SOPInstanceUID == image.ReferencedSOPInstanceUID
            )
        assert np.allclose(own, np.array(named.ImagePositionPatient, float))


@pytest.mark.skipif(
    bool(validators.why_missing("segimage2itkimage")),
    reason=validators.why_missing("segimage2itkimage"),
)
@pytest.mark.parametrize("kind", SOURCES)
def test_dcmqi_finds_the_outline_at_the_same_place_in_the_patient(kind, tmp_path):
    source = SOURCES[kind]()
    write(segmentation_of(source, made.outlined()), tmp_path / "seg.dcm")
    reader = validators.program("segimage2itkimage")
    assert reader
    subprocess.run(
        [reader, "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", tmp_path, "-t", "nrrd"],
        check=True,
        capture_output=True,
    )
    (path,) = tmp_path.glob("*.nrrd")
    image = SimpleITK.ReadImage(str(path))
    indices = np.argwhere(SimpleITK.GetArrayFromImage(image))
    assert len(indices) == made.mask().sum()
    theirs = np.mean(
        [image.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]]) for index in indices],
        axis=0,
    )
    own = np.argwhere(made.mask()).mean(axis=0)
    ours = (source.study.grid.affine @ [*own, 1.0])[:3]
    assert np.allclose(theirs, ours, atol=1e-3)


def test_the_distance_between_slices_is_written_and_the_thickness_kept():
    dataset = segmentation_of(made.classic(), made.outlined())
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == made.SPACING_MM[0]
    assert float(measures.SliceThickness) == 2.0


def test_segments_have_colours_tracking_and_algorithm():
    dataset = segmentation_of(made.classic(), made.outlined(2))
    assert [segment.SegmentNumber for segment in dataset.SegmentSequence] == [1, 2]
    for segment in dataset.SegmentSequence:
        assert len(segment.RecommendedDisplayCIELabValue) == 3
        assert segment.TrackingID == segment.SegmentLabel
        assert segment.TrackingUID == made.work().uid(f"tracking-{segment.SegmentLabel}")
        assert segment.SegmentAlgorithmName == "phantom-net"
        parameters = segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters
        assert "a" * 64 in parameters
    assert dataset.ContentLabel == "AI_SEGMENTATION"
    assert dataset.FrameOfReferenceUID == made.classic().instances[0].FrameOfReferenceUID


def test_overlapping_segments_are_kept_apart():
    dataset = segmentation_of(made.classic(), made.outlined(2))
    assert dataset.SegmentsOverlap == "YES"
    volumes = outlines_of(dataset).volumes_ml
    assert volumes[1] == pytest.approx(made.millilitres(made.mask()))
    assert volumes[2] == pytest.approx(made.millilitres(made.mask(6, 11)))


def test_a_very_long_segmentation_leaves_empty_frames_out(monkeypatch):
    monkeypatch.setattr(segmentation, "DENSE_FRAMES", 10)
    dataset = segmentation_of(made.classic(), made.outlined())
    assert dataset.NumberOfFrames == 4
    assert outlines_of(dataset).volumes_ml[1] == pytest.approx(made.millilitres(made.mask()))


def test_headers_as_scanners_write_them_are_no_obstacle():
    """Orientation that differs in the last digit, and a slice thickness left empty."""
    source = made.classic("oblique")
    for instance in source.instances[::2]:
        instance.ImageOrientationPatient[4] += 1e-7
        instance.SliceThickness = None
    before = [instance.to_json() for instance in source.instances]
    dataset = segmentation_of(source, made.outlined())
    assert not any(segmentation_problems(outlines_of(dataset), source.instances))
    assert [instance.to_json() for instance in source.instances] == before


def test_an_orientation_and_a_spacing_stated_with_each_frame_are_no_obstacle():
    source = made.multiframe()
    (header,) = source.instances
    (shared,) = header.SharedFunctionalGroupsSequence
    for frame in header.PerFrameFunctionalGroupsSequence:
        frame.PlaneOrientationSequence = shared.PlaneOrientationSequence
        frame.PixelMeasuresSequence = shared.PixelMeasuresSequence
    del shared.PlaneOrientationSequence, shared.PixelMeasuresSequence
    dataset = segmentation_of(source, made.outlined())
    assert not any(segmentation_problems(outlines_of(dataset), [header]))


def test_frames_that_are_not_in_the_volume_are_left_out():
    source = made.multiframe()
    header = source.instances[0]
    stray = header.PerFrameFunctionalGroupsSequence[0]
    header.PerFrameFunctionalGroupsSequence.insert(0, stray)
    header.NumberOfFrames = made.SHAPE[0] + 1
    source = replace(source, frame_numbers=tuple(n + 1 for n in source.frame_numbers))
    dataset = segmentation_of(source, made.outlined())
    assert dataset.NumberOfFrames == made.SHAPE[0]
    assert outlines_of(dataset).volumes_ml[1] == pytest.approx(made.millilitres(made.mask()))
    assert header.NumberOfFrames == made.SHAPE[0] + 1
    assert not any(segmentation_problems(outlines_of(dataset), [header]))


@settings(max_examples=20, deadline=None)
@given(arrays(bool, made.SHAPE, elements=st.booleans()).filter(np.any))
def test_the_stored_bits_count_what_the_mask_counts(block):
    result = Result(segments=(Segment("Any", codes.TISSUE, codes.NODULE, block),))
    dataset = segmentation_of(made.classic(), result)
    assert outlines_of(dataset).volumes_ml[1] == pytest.approx(made.millilitres(block))
