"""Outlines on what is no straight stack: slices of a tilted gantry, a radiograph, a clip."""

from __future__ import annotations

from dataclasses import replace

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread

from node.domain import Role
from node.encode.segmentation import encode_segmentation
from node.encode.write import write
from pipelines import codes
from pipelines.contract import Images, Segment
from tests.node import shown
from tests.peers import validators
from tests.sr_templates import made


def tilted():
    """Slices that each stand 0.4 mm further towards the row axis than the one before."""
    source = made.classic("oblique")
    row_axis = np.array(source.study.grid.axes[1])
    for k, instance in enumerate(source.instances):
        position = np.array(instance.ImagePositionPatient, float) + 0.4 * k * row_axis
        instance.ImagePositionPatient = [round(float(value), 6) for value in position]
    return replace(source, shifts_px=tuple((0.5 * k, 0.0) for k in range(made.SHAPE[0])))


def uncalibrated():
    source = shown.radiograph()
    del source.instances[0].PixelSpacing
    assert isinstance(source.study, Images)
    return replace(source, study=replace(source.study, spacing_mm=None))


def with_frame_of_reference():
    source = shown.radiograph()
    source.instances[0].FrameOfReferenceUID = "1.2.3"
    return source


SOURCES = {
    "tilted": tilted,
    "radiograph": shown.radiograph,
    "uncalibrated": uncalibrated,
    "with frame of reference": with_frame_of_reference,
    "clip": shown.clip,
}


def segments(source) -> tuple[Segment, ...]:
    labels = np.random.default_rng(0).integers(0, 3, source.study.shape)
    return tuple(
        Segment(f"Part {number}", codes.TISSUE, codes.NODULE, labels == number) for number in (1, 2)
    )


def written(source, folder, role=Role.SEG):
    write(encode_segmentation(source, segments(source), made.work(), role), folder / "seg.dcm")
    return dcmread(folder / "seg.dcm")


@pytest.mark.skipif(
    bool(validators.why_missing("dciodvfy")), reason=validators.why_missing("dciodvfy")
)
@pytest.mark.parametrize("role", [Role.SEG, Role.LABELMAP])
def test_dciodvfy_finds_no_error(role, tmp_path):
    for kind, source in SOURCES.items():
        dataset = encode_segmentation(source(), segments(source()), made.work(), role)
        write(dataset, tmp_path / f"{kind}.dcm")
    assert not any(validators.dciodvfy(tmp_path.iterdir()).values())


@pytest.mark.parametrize("kind", [kind for kind in SOURCES if kind != "radiograph"])
def test_highdicom_reads_every_mask_on_the_image_it_was_drawn_on(kind, tmp_path):
    """But of a radiograph with a spacing: highdicom 0.28 reads none without slice thickness."""
    source = SOURCES[kind]()
    masks = np.stack([one.mask for one in segments(source)], axis=-1)
    write(encode_segmentation(source, segments(source), made.work()), tmp_path / "seg.dcm")
    read = hd.seg.segread(tmp_path / "seg.dcm")
    if source.frame_numbers:
        (instance,) = source.instances
        pixels = read.get_pixels_by_source_frame(instance.SOPInstanceUID, source.frame_numbers)
    else:
        uids = [instance.SOPInstanceUID for instance in source.instances]
        pixels = read.get_pixels_by_source_instance(uids)
    assert (pixels == masks).all()


def test_pydicom_reads_every_mask_on_a_radiograph(tmp_path):
    source = shown.radiograph()
    for mask, read in zip(segments(source), written(source, tmp_path).pixel_array, strict=True):
        assert (mask.mask[0] == read).all()


def test_each_slice_of_a_tilted_gantry_is_where_its_image_is(tmp_path):
    source = tilted()
    dataset = written(source, tmp_path)
    places = {one.SOPInstanceUID: one.ImagePositionPatient for one in source.instances}
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        (image,) = frame.DerivationImageSequence[0].SourceImageSequence
        (plane,) = frame.PlanePositionSequence
        assert plane.ImagePositionPatient == places[image.ReferencedSOPInstanceUID]
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SpacingBetweenSlices == made.SPACING_MM[0]
    assert "DimensionOrganizationType" not in written(tilted(), tmp_path, Role.LABELMAP)


@pytest.mark.parametrize("kind", ["radiograph", "uncalibrated", "clip"])
def test_images_that_are_nowhere_in_the_patient_are_not_placed_there(kind, tmp_path):
    source = SOURCES[kind]()
    dataset = written(source, tmp_path)
    assert "FrameOfReferenceUID" not in dataset
    (shared,) = dataset.SharedFunctionalGroupsSequence
    assert "PlaneOrientationSequence" not in shared
    assert ("PixelMeasuresSequence" in shared) == (source.study.spacing_mm is not None)
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        assert "PlanePositionSequence" not in frame


def test_the_spacing_of_a_radiograph_is_that_between_rows_then_columns(tmp_path):
    (shared,) = written(shown.radiograph(), tmp_path).SharedFunctionalGroupsSequence
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [0.4, 0.2]


def test_a_frame_of_a_clip_names_the_frame_it_was_drawn_on(tmp_path):
    dataset = written(shown.clip(), tmp_path)
    named = [
        frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        for frame in dataset.PerFrameFunctionalGroupsSequence
    ]
    assert named == [1, 2, 3, 4, 5] * 2
    assert (
        dataset.PerFrameFunctionalGroupsSequence[1].FrameContentSequence[0].FrameLabel == "Frame 2"
    )
