"""Every object that a destination may ask for, of every kind of source, passes the gate."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom import dcmread

from node.domain import Role
from node.encode.objects import encode, encode_could_not_look, on_images
from node.encode.write import write
from node.load.source import load
from node.profiles import IMAGE_CLASSES, SOP_CLASSES, kind_of, rank
from node.publish_gate import verify
from pipelines import codes
from pipelines.contract import (
    Code,
    DerivedImages,
    Finding,
    Graphic,
    ParametricMap,
    Presence,
    Region,
    Result,
)
from tests.node import shown
from tests.peers import sphere_phantom
from tests.sr_templates import made

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom import Dataset

    from node.encode.work import Encoded
    from node.load.source import Source

EVERY_ROLE = frozenset(Role)
OUTLINED = {"seg", "labelmap", "labelmap-sr", "map", "images", "rejection"}
"""What needs more than a finding that is drawn, or earlier results."""
PROBABILITY = Code("122157", "DCM", "Probability")
SMOOTHING = Code("113087", "DCM", "Smoothing")

REGION = Region(0, Graphic.POLYLINE, ((1.0, 1.0), (6.0, 1.0), (6.0, 4.0), (1.0, 4.0), (1.0, 1.0)))
MARKED = Finding(codes.NODULE, site=codes.LUNG, confidence=0.8, regions=(REGION,))


def outlined(source: Source) -> Result:
    """Two segments that do not overlap, one with measurements; a map; and images."""
    shape = source.study.shape
    block, other = np.zeros((2, *shape), bool)
    block[: max(shape[0] // 2, 1), 2:7, 3:9] = True
    other[-max(shape[0] // 2, 1) :, 8:11, 3:9] = True
    result = made.outlined()
    (segment,) = result.segments
    finding = replace(result.findings[0], measurements=())
    segments = (
        replace(segment, mask=block),
        replace(segment, label="Other", mask=other, color=(20, 160, 220)),
    )
    values = np.linspace(0.0, 1.0, block.size, dtype=np.float32).reshape(shape)
    return Result(
        (finding,),
        segments,
        maps=(ParametricMap("Saliency", PROBABILITY, "1", values),),
        images=(DerivedImages("Smooth", SMOOTHING, "Made smooth.", values),),
    )


@pytest.fixture(scope="session")
def tilted(tmp_path_factory) -> Source:
    random = np.random.default_rng(7)
    scan = sphere_phantom.random_scan(random, "ct", tilted=True)
    return load(sphere_phantom.write_scan(scan, tmp_path_factory.mktemp("tilted")))


def sources(tilted: Source) -> dict[str, tuple[Source, str]]:
    return {
        "axial": (made.classic(), "measurement_report"),
        "sagittal": (made.classic("sagittal"), "measurement_report"),
        "enhanced": (made.multiframe(), "measurement_report"),
        "tilted": (tilted, "measurement_report"),
        "radiograph": (shown.radiograph(), "measurement_report"),
        "clip": (shown.clip(), "echo_report"),
        "ecg": (made.ecg(), "ecg_report"),
    }


KINDS = ("axial", "sagittal", "enhanced", "tilted", "radiograph", "clip", "ecg")
RESULTS = ("outlined", "marked", "absent", "nothing")


def result_of(name: str, source: Source, kind: str) -> Result:
    if name == "nothing":
        return Result()
    if kind == "ecg":
        return made.rhythm(Presence.ABSENT if name == "absent" else Presence.PRESENT)
    if name == "absent":
        return Result((Finding(codes.HAEMORRHAGE, Presence.ABSENT, confidence=0.9),))
    return Result((MARKED,)) if name == "marked" else outlined(source)


def read_back(objects: tuple[Encoded, ...], folder: Path) -> dict[str, Dataset]:
    folder.mkdir()
    for one in objects:
        write(one.dataset, folder / f"{one.role}.dcm")
    return {one.role: dcmread(folder / f"{one.role}.dcm") for one in objects}


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("kind", KINDS)
def test_all_objects_of_a_result_pass_the_gate_together(kind, name, tilted, tmp_path):
    source, report = sources(tilted)[kind]
    first = read_back(encode(source, Result(), made.work(report)), tmp_path / "first")
    work = made.work(
        report,
        uid_parts=("second",),
        roles=EVERY_ROLE,
        superseded=first,
        rejected=(*first.values(),),
    )
    result = result_of(name, source, kind)
    objects = encode(source, result, work)
    stored = read_back(objects, tmp_path / "second")
    verify(list(stored.values()), source.instances, list(first.values()))
    for role, dataset in stored.items():
        if role not in (Role.SR, Role.LABELMAP_SR):  # the pipeline's template decides
            kind = kind_of(role)
            expected = IMAGE_CLASSES if kind is Role.IMAGES else {SOP_CLASSES[kind]}
            assert dataset.SOPClassUID in expected
    assert [one.role for one in objects] == sorted(stored, key=rank)


@pytest.mark.parametrize("kind", ["axial", "clip", "ecg"])
def test_the_same_work_makes_the_same_bytes_whatever_the_object(kind, tilted, tmp_path):
    source, report = sources(tilted)[kind]
    work = made.work(report, roles=EVERY_ROLE)
    result = result_of("outlined", source, kind)
    for folder in ("once", "twice"):
        read_back(encode(source, result, work), tmp_path / folder)
    once, twice = (
        {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}
        for folder in ("once", "twice")
    )
    assert once == twice


@pytest.mark.parametrize(
    ("kind", "name", "roles"),
    [
        ("axial", "outlined", {*Role} - {Role.REJECTION}),
        (
            "axial",
            "marked",
            {*Role} - OUTLINED,
        ),
        ("axial", "nothing", {"sr", "comprehensive-sr", "text-sr", "cad-sr", "sc", "pdf"}),
        (
            "radiograph",
            "marked",
            {*Role} - OUTLINED,
        ),
        ("ecg", "outlined", {"sr", "text-sr", "sc", "pdf"}),
    ],
)
def test_what_has_nothing_to_show_is_not_made(kind, name, roles, tilted):
    source, report = sources(tilted)[kind]
    work = made.work(report, roles=EVERY_ROLE)
    made_roles = encode(source, result_of(name, source, kind), work)
    assert {kind_of(one.role) for one in made_roles} == roles


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_is_told_in_every_form_that_is_asked_for(kind, tilted, tmp_path):
    source, report = sources(tilted)[kind]
    work = made.work(report, roles=EVERY_ROLE)
    objects = encode_could_not_look(source.instances, "Slices are missing.", work)
    stored = read_back(objects, tmp_path / "made")
    assert set(stored) == {"sr", "sc", "pdf"}
    verify(list(stored.values()), source.instances)


def test_nobody_gets_what_nobody_asked_for():
    source = made.classic()
    objects = encode(source, outlined(source), made.work())
    assert [one.role for one in objects] == ["seg", "sr"]


def test_overlapping_segments_make_no_label_map():
    source = made.classic()
    result = outlined(source)
    twice = replace(result.segments[0], label="Again")
    result = replace(result, segments=(*result.segments, twice))
    objects = encode(source, result, made.work(roles=EVERY_ROLE))
    assert not {"labelmap", "labelmap-sr"} & {one.role for one in objects}


def test_a_report_names_the_earlier_one_of_its_kind(tmp_path):
    source = made.classic()
    roles = frozenset({Role.SEG, Role.SR, Role.TEXT_SR})
    first = read_back(encode(source, outlined(source), made.work(roles=roles)), tmp_path / "first")
    work = made.work(uid_parts=("second",), roles=roles, superseded=first)
    for one in encode(source, outlined(source), work):
        if one.role in first and one.dataset.Modality == "SR":
            (study,) = one.dataset.PredecessorDocumentsSequence
            (instance,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
            assert instance.ReferencedSOPInstanceUID == first[one.role].SOPInstanceUID


def test_a_mask_beside_the_tilted_images_is_cut_and_the_volume_says_so(tilted):
    study = tilted.study
    mask = np.ones(study.shape, bool)
    result = made.outlined()
    segment = replace(result.segments[0], mask=mask)
    volume = replace(
        result.findings[0].measurements[0],
        value=float(mask.sum()) * study.grid.voxel_volume_ml,
        lowest=None,
        highest=None,
    )
    finding = replace(result.findings[0], measurements=(volume,))
    seg, sr = (one.dataset for one in encode(tilted, Result((finding,), (segment,)), made.work()))
    verify([seg, sr], tilted.instances)
    stored = np.count_nonzero(seg.pixel_array)
    assert stored == len(tilted.instances) * tilted.instances[0].Rows * tilted.instances[0].Columns


def test_a_region_on_straightened_slices_is_drawn_where_the_mask_of_the_same_place_is(tilted):
    """The mask is moved by whole pixels, the region by what the slice was."""
    index = max(range(len(tilted.shifts_px)), key=lambda k: sum(tilted.shifts_px[k]))
    mask = np.zeros(tilted.study.shape, bool)
    mask[index, 20:26, 12:20] = True
    square = ((12.0, 20.0), (20.0, 20.0), (20.0, 26.0), (12.0, 26.0), (12.0, 20.0))
    region = Region(index, Graphic.POLYLINE, square)
    (segment,) = made.outlined().segments
    result = Result(
        (Finding(codes.NODULE, regions=(region,)),), (replace(segment, mask=mask, label="Square"),)
    )
    moved = on_images(tilted, result)
    rows, columns = np.nonzero(moved.segments[0].mask[index])
    ((points,),) = ([one.points for one in finding.regions] for finding in moved.findings)
    upper_left = np.min(points, axis=0)
    assert max(tilted.shifts_px[index]) > 1.0
    assert upper_left == pytest.approx([columns.min(), rows.min()], abs=0.5)


def test_the_edges_of_straightened_slices_are_those_of_their_images(tilted):
    index = max(range(len(tilted.shifts_px)), key=lambda k: sum(tilted.shifts_px[k]))
    down, right = (float(int(shift)) for shift in tilted.shifts_px[index])
    corner = Region(index, Graphic.POINT, ((right, down),))
    moved = on_images(tilted, Result((Finding(codes.NODULE, regions=(corner,)),)))
    assert moved.findings[0].regions[0].points == ((0.0, 0.0),)
