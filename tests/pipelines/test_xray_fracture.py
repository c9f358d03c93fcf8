"""Fractures that are drawn, and no others: phantoms of known truth and real radiographs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import DigitalXRayImageStorageForPresentation

from node.domain import Role
from node.encode.objects import encode
from node.load.images import load_images
from pipelines import codes, models
from pipelines.contract import CouldNotLook, Graphic, Images, Pipeline, Presence, Volume
from pipelines.runtimes import QuestionUnanswered
from pipelines.xray_fracture.detector import box_density
from pipelines.xray_fracture.pipeline import XrayFracture
from pipelines.xray_fracture.places import SITES, site_of
from sr_templates.code_table import problem_with
from tests.peers import made_images, site_answers
from tests.peers.body_phantom import axial_grid
from tests.sr_templates import made

RADIOGRAPHS = Path(__file__).parents[2].parent / "shared" / "data" / "xr"
DX = {
    "Modality": "DX",
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1",
    "ImageType": "ORIGINAL\\PRIMARY",
    "BodyPartExamined": "WRIST",
    "ImageLaterality": "L",
}


def bone(shape=(300, 200), *, line_row=None, thickness=3, depth=0.5, mirrored=False):
    """Return a bone that runs down the image, broken across where ``line_row`` says."""
    columns = shape[1]
    across = np.clip(1.0 - np.abs((np.arange(columns) - 0.45 * columns) / (0.15 * columns)), 0, 1)
    pixels = 400.0 + 3000.0 * np.broadcast_to(np.clip(2.0 * across, 0, 1), shape).copy()
    if line_row is not None:
        inside = slice(round(0.38 * columns), round(0.52 * columns))
        pixels[line_row : line_row + thickness, inside] *= 1.0 - depth
    pixels = pixels[:, ::-1] if mirrored else pixels
    return Images(np.ascontiguousarray(pixels, np.float32)[np.newaxis], (0.15, 0.15), (), DX)


@pytest.fixture(scope="module")
def networks():
    return {
        "onnx": site_answers.fracture_onnx(),
        "torchscript": site_answers.fracture_torchscript(),
    }


@pytest.fixture
def added(tmp_path, networks):
    """Add a detector of one runtime; the node takes models from that folder."""
    models.use(tmp_path / "models")

    def add(runtime="onnx", **how):
        site_answers.add_fracture_model(
            tmp_path / "models", networks[runtime], runtime=runtime, **how
        )
        return XrayFracture()

    yield add
    models.use(None)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("shape", [(300, 200), (200, 320), (256, 256)])
def test_a_broken_bone_is_marked_where_it_is_broken(added, shape, mirrored):
    row = round(0.6 * shape[0])
    result = added("torchscript").run(bone(shape, line_row=row, mirrored=mirrored))
    (finding,) = result.findings
    (region,) = finding.regions
    assert (finding.finding, finding.presence) == (codes.FRACTURE, Presence.PRESENT)
    assert finding.confidence > 0.9
    assert region.graphic is Graphic.POLYLINE
    assert region.points[0] == region.points[-1]
    left, top = np.min(region.points, axis=0)
    right, bottom = np.max(region.points, axis=0)
    first, last = round(0.38 * shape[1]), round(0.52 * shape[1])
    if mirrored:
        first, last = shape[1] - last, shape[1] - first
    assert (top, bottom) == pytest.approx((row, row + 3), abs=1.5)
    assert (left, right) == pytest.approx((first, last), abs=4.0)


def test_a_detector_of_a_fixed_size_marks_the_same_place_of_a_larger_image(added):
    result = added().run(bone((600, 400), line_row=371, thickness=8))
    present = [one for one in result.findings if one.presence is Presence.PRESENT]
    assert present
    for finding in present:
        points = np.array(finding.regions[0].points)
        assert points[:, 1].min() - 12.0 <= 375.0 <= points[:, 1].max() + 12.0
        assert points[:, 0].min() < 0.54 * 400
        assert points[:, 0].max() > 0.36 * 400


@pytest.mark.parametrize("runtime", ["onnx", "torchscript"])
def test_a_whole_bone_is_said_to_be_whole(added, runtime):
    (finding,) = added(runtime).run(bone()).findings
    assert finding.presence is Presence.ABSENT
    assert 0.9 < finding.confidence <= 1.0
    assert not finding.regions
    assert finding.site == SITES["WRIST"]


def test_between_the_thresholds_it_is_undecided_and_drawn(added):
    faint = bone(line_row=150, depth=0.14)
    decided = added("torchscript").run(faint).findings[0]
    probability = 1.0 - decided.confidence
    assert decided.presence is Presence.ABSENT
    band = f"indeterminate = [{probability - 0.02:.3f}, {probability + 0.02:.3f}]"
    (finding,) = added("torchscript", label=band).run(faint).findings
    assert finding.presence is Presence.INDETERMINATE
    assert finding.confidence == pytest.approx(probability, abs=1e-5)
    assert finding.regions


def test_the_map_is_highest_in_the_box_and_stays_a_probability(added):
    result = added("torchscript").run(bone(line_row=180))
    (heat,) = result.maps
    _, row, column = np.unravel_index(heat.values.argmax(), heat.values.shape)
    assert abs(row - 181) <= 2
    assert 0.36 * 200 < column < 0.54 * 200
    assert 0.0 <= heat.values.min() <= heat.values.max() <= 1.0
    assert heat.values[0, 20, 100] < 0.01


def test_no_suspicion_is_no_map():
    assert not box_density((), (1, 5, 5)).any()


@pytest.mark.parametrize(
    ("said", "site", "side"),
    [
        ({}, "WRIST", codes.LEFT),
        ({"ImageLaterality": "", "Laterality": "R"}, "WRIST", codes.RIGHT),
        ({"ImageLaterality": "R", "Laterality": "L"}, "WRIST", codes.RIGHT),
        ({"ImageLaterality": "B"}, "WRIST", None),
        ({"ImageLaterality": "U"}, "WRIST", None),
        ({"BodyPartExamined": "CHEST"}, "CHEST", None),
        ({"BodyPartExamined": "LEFT WRIST?"}, None, None),
        ({"BodyPartExamined": "", "AnatomicRegionSequence": "56459004\\SCT"}, "FOOT", codes.LEFT),
        ({"AnatomicRegionSequence": "56459004\\SCT"}, None, None),
        ({"AnatomicRegionSequence": "56459004\\99LOCAL"}, "WRIST", codes.LEFT),
    ],
)
def test_the_site_is_said_only_where_the_header_is_certain(said, site, side):
    assert site_of(DX | said) == (SITES[site] if site else None, side)


def test_every_site_is_a_code_of_the_standard():
    assert [problem for code in SITES.values() if (problem := problem_with(code))] == []
    assert problem_with(codes.FRACTURE) is None


def other(**changed):
    return replace(bone(), attributes=DX | changed)


@pytest.mark.parametrize(
    ("study", "why"),
    [
        (Volume(np.zeros((2, 64, 64), np.float32), axial_grid((2, 64, 64), (1, 1, 1))), "no radio"),
        (made.ecg().study, "no radiograph"),
        (other(Modality="US"), "no digital or computed"),
        (other(Modality="OT", SOPClassUID="1.2.840.10008.5.1.4.1.1.7"), "no digital or computed"),
        (other(SOPClassUID="1.2.840.10008.5.1.4.1.1.1.1.1"), "no digital or computed"),
        (other(PresentationIntentType="FOR PROCESSING"), "raw data"),
        (other(ImageType="DERIVED\\SECONDARY"), "made of other images"),
        (other(BurnedInAnnotation="YES"), "burned into"),
        (replace(bone(), frames=np.zeros((1, 99, 99, 3), np.uint8)), "coloured"),
        (replace(bone(), frames=np.repeat(bone().frames, 2, axis=0)), "2 frames"),
        (replace(bone(), frames=bone().frames[:, :40, :40]), "too few"),
        (replace(bone(), frames=np.full((1, 99, 99), 7.0, np.float32)), "same value"),
    ],
)
def test_what_is_no_single_radiograph_is_not_judged(added, study, why):
    with pytest.raises(CouldNotLook, match=why):
        added("torchscript").run(study)


def test_without_a_model_of_the_site_nobody_looked_and_one_added_later_counts(added):
    pipeline = XrayFracture()
    assert isinstance(pipeline, Pipeline)
    assert pipeline.model.name == "none"
    assert dict(pipeline.parameters) == {}
    pipeline.warm_up()
    with pytest.raises(CouldNotLook, match="No fracture model was added to this node"):
        pipeline.run(bone())
    added("torchscript")
    assert pipeline.model.name == "dark-lines"
    assert pipeline.parameters["labels.0.threshold"] == "0.5"
    assert pipeline.run(bone(line_row=150)).findings[0].presence is Presence.PRESENT


def test_the_sites_manifest_decides_which_parts_are_judged(added):
    assert XrayFracture().input["Modality"] == ("DX", "CR")
    narrowed = added(match='{ Modality = "DX", BodyPartExamined = ["WRIST", "HAND"] }').input
    assert narrowed["BodyPartExamined"] == ("WRIST", "HAND")
    assert narrowed["Modality"] == "DX"
    assert len(narrowed["SOPClassUID"]) == 2


def test_of_two_models_none_is_taken_and_other_pipelines_go_on(added):
    added("torchscript")
    pipeline = added("torchscript", name="more-dark-lines")
    assert pipeline.model.name == "none"
    with pytest.raises(QuestionUnanswered, match="dark-lines, more-dark-lines"):
        pipeline.warm_up()


def test_the_object_of_a_phantom_says_side_and_place(added):
    pixels = bone((300, 200), line_row=150).frames[0].astype(np.uint16)
    image = made_images.made_image(
        pixels,
        DigitalXRayImageStorageForPresentation,
        BodyPartExamined="FOOT",
        ImageLaterality="R",
        ImageType=["ORIGINAL", "PRIMARY"],
        AnatomicRegionSequence=made_images.item(
            CodeValue="56459004", CodingSchemeDesignator="SCT", CodeMeaning="Foot"
        ),
    )
    pipeline = added("torchscript")
    finding = pipeline.run(load_images(image).study).findings[0]
    assert (finding.site, finding.laterality) == (SITES["FOOT"], codes.RIGHT)


@pytest.mark.usefixtures("broken_source")  # a date of 1997 with dots, as ACR-NEMA wrote them
@pytest.mark.parametrize(
    ("name", "roles"),
    [
        ("gdcm-CR-MONO1-10-chest.dcm", {Role.SC, Role.PDF, Role.GSPS, Role.VIEWER_SR, Role.MAP}),
        pytest.param("RG1_J2KI.dcm", {Role.MAP}, marks=pytest.mark.slow),
    ],
)
def test_a_real_radiograph_goes_the_whole_way(added, name, roles):
    """A chest, which this detector is told to take: what it marks there means nothing."""
    if not RADIOGRAPHS.is_dir():
        pytest.skip("the real radiographs are not on this machine")
    pipeline = added(label="indeterminate = [0.02, 0.5]")
    source = load_images(dcmread(RADIOGRAPHS / name))
    result = pipeline.run(source.study)
    work = made.work(model=pipeline.model, title=pipeline.title, roles=frozenset(roles | {Role.SR}))
    objects = {one.role: one.dataset for one in encode(source, result, work)}
    assert {"sr"} <= set(objects) <= roles | {"sr", "ko"}
    assert "map" not in objects  # a radiograph has no place in the patient
    assert all(one.site == SITES["CHEST"] for one in result.findings)
    drawn = str(objects["sr"])
    assert ("POLYLINE" in drawn) == any(one.regions for one in result.findings)
