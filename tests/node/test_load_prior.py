"""An earlier segmentation as read back: against the masks it was made of, and other readers."""

from __future__ import annotations

import subprocess
from datetime import date

import highdicom as hd
import numpy as np
import pytest
import SimpleITK
from pydicom import DataElement, Dataset, dcmread
from pydicom.config import IGNORE

from node.domain import Role
from node.encode.objects import encode
from node.encode.write import write
from node.load.prior import (
    Earlier,
    PriorFiles,
    acquired_on,
    compared,
    findings_of,
    read_lesions,
)
from node.load.source import load
from pipelines import codes
from pipelines.contract import CouldNotLook, Finding, Result, Segment
from pipelines.follow_up import NO_PRIOR
from tests.peers import sphere_phantom, validators
from tests.sr_templates import made

NODULE_UID, MASS_UID = "2.25.11", "2.25.12"


def outlined(grid_shape=made.SHAPE):
    """Two lesions, and one that is empty."""
    masks = {name: np.zeros(grid_shape, bool) for name in ("one", "two", "none")}
    masks["one"][3:6, 4:9, 2:7] = True
    masks["one"][4, 9, 3] = True
    masks["two"][8:11, 12:18, 9:14] = True
    uids = {"one": NODULE_UID, "two": MASS_UID, "none": ""}
    return Result(
        findings=(Finding(codes.HAEMORRHAGE, segment="one", tracking_uid=NODULE_UID),),
        segments=tuple(
            Segment(
                name, codes.MORPHOLOGICALLY_ABNORMAL, codes.NODULE, mask, tracking_uid=uids[name]
            )
            for name, mask in masks.items()
        ),
    )


def stored(source, result, folder, role=Role.SEG):
    """The segmentation and the report, written and read again."""
    work = made.work(roles=frozenset({role, Role.SEG, Role.SR}))
    objects = {one.role: one.dataset for one in encode(source, result, work)}
    for name, dataset in objects.items():
        write(dataset, folder / f"{name}.dcm")
    return dcmread(folder / f"{role}.dcm"), dcmread(folder / "sr.dcm")


@pytest.mark.parametrize("role", [Role.SEG, Role.LABELMAP])
@pytest.mark.parametrize(
    "source",
    [made.classic(), made.classic("sagittal"), made.classic("oblique"), made.multiframe()],
    ids=["axial", "sagittal", "oblique", "multiframe"],
)
def test_place_and_volume_are_those_of_the_mask(source, role, tmp_path):
    result = outlined()
    segmentation, report = stored(source, result, tmp_path, role)
    lesions = {one.label: one for one in read_lesions(segmentation, source, findings_of([report]))}
    assert set(lesions) == {"one", "two"}
    for segment in result.segments[:2]:
        lesion = lesions[segment.label]
        centre = source.study.grid.affine @ (*np.argwhere(segment.mask).mean(axis=0), 1.0)
        assert lesion.centre_mm == pytest.approx(centre[:3], abs=1e-6)
        assert lesion.volume_ml == pytest.approx(made.millilitres(segment.mask))
        assert lesion.tracking_uid == segment.tracking_uid
    assert lesions["one"].finding == codes.HAEMORRHAGE
    assert lesions["two"].finding == codes.NODULE


@pytest.mark.parametrize("kind", ["ct", "enhanced-mr"])
def test_a_tilted_gantry_is_no_shift(kind, tmp_path):
    """The volume was straightened, the segmentation lies on the images as they are."""
    scan = sphere_phantom.random_scan(np.random.default_rng(4), kind, tilted=True)
    source = load(sphere_phantom.write_scan(scan, tmp_path))
    sphere = scan.spheres[0]
    mask = source.study.voxels > scan.half
    index = np.argwhere(mask)
    points = (np.c_[index, np.ones(len(index))] @ source.study.grid.affine.T)[:, :3]
    away = index[np.linalg.norm(points - sphere.centre, axis=1) > 1.5 * sphere.radius]
    mask[tuple(away.T)] = False
    found = Result(
        segments=(Segment("one", codes.MORPHOLOGICALLY_ABNORMAL, codes.NODULE, mask),)
    )  # fmt: skip
    segmentation, report = stored(source, found, tmp_path)
    (lesion,) = read_lesions(segmentation, source, findings_of([report]))
    assert lesion.centre_mm == pytest.approx(sphere.centre, abs=max(scan.spacing_mm) / 2)
    centre = source.study.grid.affine @ (*np.argwhere(mask).mean(axis=0), 1.0)
    assert lesion.centre_mm == pytest.approx(
        centre[:3], abs=0.5 * max(source.study.grid.spacing_mm)
    )


def test_highdicom_reads_the_same_places(tmp_path):
    source = made.classic("oblique")
    segmentation, _ = stored(source, outlined(), tmp_path)
    theirs = hd.seg.Segmentation.from_dataset(segmentation)
    for number, lesion in enumerate(read_lesions(segmentation, source, {}), start=1):
        volume = theirs.get_volume(segment_numbers=[number], combine_segments=False)
        index = np.argwhere(volume.array[..., 0])
        centre = volume.map_indices_to_reference(index).mean(axis=0)
        assert lesion.centre_mm == pytest.approx(centre, abs=1e-3)
        assert lesion.volume_ml == pytest.approx(len(index) * volume.voxel_volume / 1000.0)


@pytest.mark.skipif(
    bool(validators.why_missing("segimage2itkimage")),
    reason=validators.why_missing("segimage2itkimage"),
)
def test_dcmqi_reads_the_same_places(tmp_path):
    source = made.classic("sagittal")
    segmentation, _ = stored(source, outlined(), tmp_path)
    reader = validators.program("segimage2itkimage")
    assert reader
    subprocess.run(
        [reader, "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", tmp_path, "-t", "nrrd"],
        check=True,
        capture_output=True,
    )
    lesions = read_lesions(segmentation, source, {})
    for lesion, path in zip(lesions, sorted(tmp_path.glob("*.nrrd")), strict=True):
        image = SimpleITK.ReadImage(str(path))
        index = np.argwhere(SimpleITK.GetArrayFromImage(image))[:, ::-1]
        places = [image.TransformIndexToPhysicalPoint([int(i) for i in one]) for one in index]
        assert lesion.centre_mm == pytest.approx(np.mean(places, axis=0), abs=1e-3)


def test_a_segmentation_of_other_images_is_not_read(tmp_path):
    segmentation, _ = stored(made.classic(), outlined(), tmp_path)
    with pytest.raises(CouldNotLook, match="other images"):
        read_lesions(segmentation, made.classic("sagittal"), {})


@pytest.mark.parametrize(
    ("stored_uids", "kept"),
    [
        (("DOE^JOHN 1970", MASS_UID), ["", MASS_UID]),
        ((MASS_UID, MASS_UID), ["", ""]),
        (("", MASS_UID), ["", MASS_UID]),
    ],
    ids=["no UID", "one for two", "none"],
)
def test_a_tracking_uid_that_this_result_could_not_bear_is_not_taken_over(
    stored_uids, kept, tmp_path
):
    source = made.classic()
    segmentation, _ = stored(source, outlined(), tmp_path)
    for segment, uid in zip(segmentation.SegmentSequence, stored_uids, strict=True):
        segment.add(DataElement("TrackingUID", "UI", uid, validation_mode=IGNORE))
    lesions = read_lesions(segmentation, source, {})
    assert [one.tracking_uid for one in lesions] == kept


def test_a_fractional_segmentation_is_not_read(tmp_path):
    segmentation, _ = stored(made.classic(), outlined(), tmp_path)
    segmentation.SegmentationType = "FRACTIONAL"
    with pytest.raises(CouldNotLook, match="neither binary"):
        read_lesions(segmentation, made.classic(), {})


@pytest.mark.parametrize(
    ("said", "day"),
    [
        ({"AcquisitionDate": "20250102", "StudyDate": "20250101"}, date(2025, 1, 2)),
        ({"AcquisitionDateTime": "20250103101500.0"}, date(2025, 1, 3)),
        ({"AcquisitionDate": "", "StudyDate": "20250101"}, date(2025, 1, 1)),
        ({"StudyDate": "20250230"}, None),
        ({}, None),
    ],
)
def test_the_day_of_the_images_is_the_best_that_they_state(said, day):
    image = Dataset()
    for keyword, value in said.items():
        setattr(image, keyword, value)
    assert acquired_on(image) == day


def test_nothing_found_and_could_not_look_are_told_apart():
    source = made.classic()
    assert compared(source, Result(), Earlier()).notes == (NO_PRIOR,)
    away = Earlier(problems=("Earlier results could not be looked up: it is away.",))
    assert compared(source, Result(), away).notes == away.problems


def test_a_damaged_earlier_result_costs_nothing_but_a_note(tmp_path):
    (tmp_path / "image.dcm").write_bytes(b"nothing")
    broken = Earlier((PriorFiles((tmp_path / "image.dcm",), None, ()),))
    (note,) = compared(made.classic(), Result(), broken).notes
    assert note.startswith("One earlier result could not be compared. A file")


def test_a_recording_is_not_compared():
    (note,) = compared(made.ecg(), Result(), Earlier()).notes
    assert "no volume" in note
