"""Detection, classification and regression: what a network says becomes a result."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines import models
from pipelines.contract import CouldNotLook, Images, Presence, Volume
from pipelines.runtimes import NetworkFault, QuestionUnanswered, load, network_for
from tests.pipelines.runtimes import balls
from tests.pipelines.runtimes.scripted import (
    NODULE,
    mean_brightness,
    pipeline,
    radiograph,
    recording,
)

# --- boxes -------------------------------------------------------------------------------------


def finder(dimensions: int, layout: str):
    """Return a detector: the box around what is bright, however boxes are to be written."""
    import torch

    class Finder(torch.nn.Module):
        def __init__(self, dimensions: int, centre: bool, columns: bool, share: bool, rows: bool):
            super().__init__()
            self.dimensions, self.centre, self.columns = dimensions, centre, columns
            self.share, self.rows = share, rows

        def forward(self, x):
            where = torch.nonzero(x[0, 0] > 0.5)
            if where.shape[0] == 0:
                where = torch.zeros((0, self.dimensions), dtype=torch.long)
                low = torch.zeros((0, self.dimensions))
                high = low
            else:
                low = where.min(dim=0)[0].float()[None]
                high = where.max(dim=0)[0].float()[None] + 1.0
            if self.share:
                size = torch.tensor(x.shape[2:]).float()
                low, high = low / size, high / size
            if self.columns:
                low, high = low.flip(1), high.flip(1)
            if self.centre:
                low, high = (low + high) / 2, high - low
            box = torch.cat([low, high], dim=1)
            score = torch.full((box.shape[0],), 0.9)
            # The same once more, less sure, and a sliver: neither counts.
            box = torch.cat([box, box], dim=0)
            score = torch.cat([score, score - 0.1])
            kind = torch.zeros_like(score)
            if self.rows:
                return [torch.cat([box, score[:, None], kind[:, None]], dim=1)]
            return [box, score, kind]

    flags = ("centre", "columns", "share", "rows")
    return Finder(dimensions, *(flag in layout for flag in flags))


def detection_section(layout: str) -> str:
    return f"""
[detection]
boxes = "{"centre" if "centre" in layout else "corners"}"
first = "{"columns" if "columns" in layout else "rows"}-first"
normalised = {str("share" in layout).lower()}
rows = {str("rows" in layout).lower()}
"""


@pytest.mark.parametrize(
    "layout", ["corners", "centre columns", "columns share", "rows", "rows columns centre share"]
)
@pytest.mark.parametrize("size", ["", "size = [80, 80]", 'size = [80, 80]\nfit = "stretch"'])
def test_boxes_on_a_radiograph_are_where_the_lesion_is(tmp_path, layout, size):
    sections = f"""
[input]
match = {{ Modality = "DX" }}
view = "images"
window = [0, 100]
{size}
[model]
{detection_section(layout)}"""
    found = pipeline(tmp_path, finder(2, layout), "detection", sections).run(radiograph())
    (finding,) = found.findings
    (region,) = finding.regions
    assert finding.presence is Presence.PRESENT
    assert finding.confidence == pytest.approx(0.9)
    assert region.image == 0
    assert region.points[0] == region.points[-1]
    columns, rows = np.array(region.points[:4]).T
    assert (rows.min(), rows.max()) == pytest.approx((10, 18), abs=1.0)
    assert (columns.min(), columns.max()) == pytest.approx((30, 50), abs=1.0)
    long, short = (measurement.value for measurement in finding.measurements)
    assert (long, short) == pytest.approx((10.0, 4.0), abs=0.75)


def test_no_box_is_looked_and_found_nothing(tmp_path):
    sections = f"""
[input]
match = {{ Modality = "DX" }}
view = "images"
window = [0, 100]
[model]
{detection_section("corners")}"""
    empty = Images(np.zeros((1, 40, 60), np.float32))
    (finding,) = pipeline(tmp_path, finder(2, ""), "detection", sections).run(empty).findings
    assert finding.presence is Presence.ABSENT
    assert finding.regions == ()


@pytest.mark.parametrize("plane", balls.PLANES)
def test_a_box_in_a_volume_is_drawn_on_its_slices_whatever_the_plane(tmp_path, plane):
    sections = f"""
[input]
match = {{ Modality = "CT" }}
orientation = "RAS"
spacing_mm = [2.0, 2.0, 2.0]
window = [0, 100]
[model]
{detection_section("corners")}"""
    where = balls.grid(balls.PLANES[plane], (4.0, 2.0, 2.0))
    places = balls.places_mm(where)
    middle, half = np.array([14.0, -4.0, 6.0]), np.array([6.0, 8.0, 10.0])
    bright = (np.abs(places - middle) <= half).all(axis=-1)
    study = Volume(bright.astype(np.float32) * 100.0, where, {"Modality": "CT"})
    (box,) = pipeline(tmp_path, finder(3, ""), "detection", sections).network.boxes(study)
    truth = np.argwhere(bright)
    assert box.low == pytest.approx(truth.min(axis=0), abs=1.0)
    assert box.high == pytest.approx(truth.max(axis=0) + 1, abs=1.0)
    (finding,) = load(tmp_path).run(study).findings
    images = [region.image for region in finding.regions]
    assert set(np.unique(truth[:, 0])) <= {images[0] - 1, *images, images[-1] + 1}
    assert images == list(range(images[0], images[-1] + 1))


def test_a_class_without_a_label_is_a_fault(tmp_path):
    sections = f"""
[input]
match = {{ Modality = "DX" }}
view = "images"
window = [0, 100]
[model]
{detection_section("corners")}"""
    other = NODULE | {"index": 3}
    made = pipeline(tmp_path, finder(2, ""), "detection", sections, [other])
    with pytest.raises(NetworkFault, match="class 0, which has no label"):
        made.run(radiograph())


# --- labels and numbers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("brightness", "presence", "confidence"),
    [
        (0.8, Presence.PRESENT, 0.8),
        (0.1, Presence.ABSENT, 0.9),
        (0.5, Presence.INDETERMINATE, 0.5),
    ],
)
def test_a_score_is_there_or_not_or_undecided(tmp_path, brightness, presence, confidence):
    sections = """
[input]
match = { Modality = "DX" }
view = "images"
window = [0, 100]
[model]
[output]
activation = "none"
threshold = 0.6
"""
    label = NODULE | {"more": "indeterminate = [0.4, 0.6]"}
    made = pipeline(tmp_path, mean_brightness(), "classification", sections, [label])
    (finding,) = made.run(Images(np.full((1, 8, 8), 100.0 * brightness, np.float32))).findings
    assert finding.presence is presence
    assert finding.confidence == pytest.approx(confidence, abs=1e-5)


@pytest.mark.parametrize(("pool", "presence"), [("max", "present"), ("mean", "absent")])
def test_frames_are_pooled(tmp_path, pool, presence):
    sections = f"""
[input]
match = {{ Modality = "US" }}
view = "images"
window = [0, 100]
[model]
[output]
activation = "none"
pool = "{pool}"
"""
    frames = np.zeros((4, 8, 8), np.float32)
    frames[2] = 90.0
    made = pipeline(tmp_path, mean_brightness(), "classification", sections)
    assert made.run(Images(frames)).findings[0].presence.value == presence
    assert made.network.scores(Images(frames))[0].image == 2


def test_a_number_outside_of_what_makes_sense_is_could_not_look(tmp_path):
    sections = """
[input]
match = { Modality = "DX" }
view = "images"
normalisation = "none"
[model]
[[quantities]]
index = 0
name = ["397669002", "SCT", "Age"]
unit = "mo"
finding = ["27925004", "SCT", "Nodule"]
lowest = 0.0
highest = 228.0
scale = 2.0
"""
    made = pipeline(tmp_path, mean_brightness(), "regression", sections, [])
    (finding,) = made.run(Images(np.full((1, 8, 8), 60.0, np.float32))).findings
    assert finding.measurements[0].value == pytest.approx(120.0)
    with pytest.raises(CouldNotLook, match=r"Age makes no sense: 240 mo, where 0 to 228"):
        made.run(Images(np.full((1, 8, 8), 120.0, np.float32)))


def test_a_series_of_another_kind_is_could_not_look(onnx_folder, tmp_path):
    pipeline_3d = load(onnx_folder)
    with pytest.raises(CouldNotLook, match="a volume of slices"):
        pipeline_3d.run(radiograph())
    with pytest.raises(CouldNotLook, match="a volume of slices"):
        pipeline_3d.run(recording())


def test_images_without_a_spacing_are_could_not_look_where_it_is_needed(tmp_path):
    sections = """
[input]
match = { Modality = "DX" }
view = "images"
window = [0, 100]
spacing_mm = [0.2, 0.2]
[model]
[output]
activation = "none"
"""
    made = pipeline(tmp_path, mean_brightness(), "classification", sections)
    with pytest.raises(CouldNotLook, match="no pixel spacing"):
        made.run(Images(np.ones((1, 8, 8), np.float32)))


def test_series_of_two_parts_of_the_body_are_could_not_look(onnx_folder):
    where = balls.grid()
    far = balls.Grid(where.shape, (300.0, 0.0, 0.0), where.axes, where.spacing_mm)
    with pytest.raises(CouldNotLook, match="do not show the same part of the body"):
        load(onnx_folder).network.masks(balls.volume(where), balls.volume(far))


# --- the network of a clinical question --------------------------------------------------------


def add(store, name, question):
    sections = """
[input]
match = { Modality = "US" }
view = "images"
window = [0, 100]
[model]
[output]
activation = "none"
"""
    folder = store / name
    pipeline(
        folder, mean_brightness(), "classification", sections, name=name,
        extra=f'question = "{question}"',
    )  # fmt: skip
    files = {path: balls.sha256((folder / path).read_bytes()) for path in ("pipeline.toml",)}
    lines = [f'"{path}" = "{digest}"' for path, digest in files.items()]
    (folder / "model.toml").write_text("\n".join(["[files]", *lines]))


def test_a_clinical_pipeline_finds_the_network_that_a_site_added_for_it(tmp_path):
    models.use(tmp_path)
    try:
        assert network_for("echo-lv") is None
        add(tmp_path, "site-ventricle", "echo-lv")
        add(tmp_path, "site-fracture", "xray-fracture")
        network = network_for("echo-lv")
        assert network is not None
        assert network.model.name == "site-ventricle"
        (score,) = network.scores(Images(np.full((2, 8, 8), 70.0, np.float32)))
        assert score.probability == pytest.approx(0.7)
        add(tmp_path, "another-ventricle", "echo-lv")
        with pytest.raises(QuestionUnanswered, match="another-ventricle, site-ventricle"):
            network_for("echo-lv")
    finally:
        models.use(None)
