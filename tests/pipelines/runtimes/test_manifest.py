"""A ``pipeline.toml`` says in some twenty lines what a model needs; what is wrong in it is told."""

from __future__ import annotations

import re

import pytest

from pipelines.contract import Code, Pipeline, StudyPipeline
from pipelines.runtimes import ManifestError, load, model_sections, parse, sections
from tests.peers import REPOSITORY

SECTIONS = (
    sections.Input,
    sections.Output,
    sections.Label,
    sections.Detection,
    sections.Quantity,
    sections.WaveformInput,
    *model_sections.ModelSection.__args__[0].__args__,
)

LIVER = """\
name = "liver-ct"
version = "1.0.0"
title = "CT: liver"
maker = "Radiology, City Hospital"
licence = "CC-BY-4.0"
trained_on = "131 portal venous CT of LiTS"
task = "segmentation"
[input]
match = { Modality = "CT", ImageType = "!LOCALIZER" }
orientation = "RAS"
spacing_mm = [1.5, 1.5, 1.5]
window = [-160, 240]
patch = [96, 96, 96]
[model]
runtime = "onnx"
file = "liver.onnx"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
[output]
activation = "softmax"
[[labels]]
index = 1
label = "liver"
category = ["91723000", "SCT", "Anatomical Structure"]
property = ["10200004", "SCT", "Liver"]
"""


def changed(old: str, new: str) -> bytes:
    assert old in LIVER
    return LIVER.replace(old, new).encode()


def problems(content: bytes) -> str:
    with pytest.raises(ManifestError) as refused:
        parse(content)
    return "\n".join(refused.value.problems)


def test_a_segmentation_model_needs_a_page_of_text_and_no_python():
    manifest = parse(LIVER.encode())
    assert manifest.labels[0].property == Code("10200004", "SCT", "Liver")
    assert manifest.report_name == "measurement_report"
    assert manifest.described().trained_on == "131 portal venous CT of LiTS"


def test_the_folder_is_a_pipeline_like_any_other(tmp_path):
    (tmp_path / "pipeline.toml").write_text(LIVER)
    pipeline = load(tmp_path)
    assert isinstance(pipeline, Pipeline)
    assert pipeline.input == {"Modality": "CT", "ImageType": "!LOCALIZER"}
    assert pipeline.title == "CT: liver"


def test_a_model_of_several_series_is_a_pipeline_of_a_study(tmp_path):
    several = 'series.t1 = { Modality = "MR" }\nseries.flair = { Modality = "MR" }'
    (tmp_path / "pipeline.toml").write_bytes(
        changed('match = { Modality = "CT", ImageType = "!LOCALIZER" }', several)
    )
    pipeline = load(tmp_path)
    assert isinstance(pipeline, StudyPipeline)
    assert list(pipeline.inputs) == ["t1", "flair"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("spacing_mm = [1.5, 1.5, 1.5]", "spacing_mm = [1.5, 1.5, 2.0]"),
        ('"RAS"', '"LAS"'),
        ("window = [-160, 240]", "window = [-160, 250]"),
        ("patch = [96, 96, 96]", "patch = [96, 96, 64]"),
        ('"softmax"', '"sigmoid"'),
        ("index = 1", "index = 2"),
        ('activation = "softmax"', 'activation = "softmax"\nkeep_largest = true'),
    ],
)
def test_whatever_changes_the_result_changes_the_parameters(old, new):
    assert parse(changed(old, new)).parameters() != parse(LIVER.encode()).parameters()


@pytest.mark.parametrize(
    ("stated", "size_bytes"),
    [("", None), ("gpu_memory_gb = 2.5", 2_500_000_000), ('device = "cpu"', 0)],
)
def test_what_a_model_takes_of_a_graphics_card_is_no_part_of_its_result(
    tmp_path, stated, size_bytes
):
    (tmp_path / "pipeline.toml").write_bytes(changed("[output]", f"{stated}\n[output]"))
    pipeline = load(tmp_path)
    assert pipeline.gpu_memory_bytes == size_bytes
    assert not [key for key in pipeline.parameters if "gpu" in key]


def test_another_file_is_another_model():
    other = parse(changed('sha256 = "0', 'sha256 = "1'))
    assert other.described().weights_sha256 != parse(LIVER.encode()).described().weights_sha256


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("window", "windo", "input.windo: no such key; did you mean window?"),
        ('orientation = "RAS"\n', "", "input.orientation: state where the axes"),
        ('"RAS"', '"RAX"', "input.orientation: write three letters"),
        ('"RAS"', '"RLS"', "input.orientation: write three letters"),
        ("spacing_mm = [1.5, 1.5, 1.5]\n", "", "input.spacing_mm: state the voxel spacing"),
        ("[1.5, 1.5, 1.5]", "[1.5, 1.5]", "input: spacing_mm: 3 numbers"),
        ("[1.5, 1.5, 1.5]", "[1.5, 1.5, 0]", "input.spacing_mm"),
        ("window = [-160, 240]\n", "", "input.window or normalisation: state how"),
        ("[-160, 240]", "[240, -160]", "the first must be the lower one"),
        ('activation = "softmax"', "", "output.activation: state"),
        ('"softmax"', '"softmx"', "output.activation: Input should be 'softmax'"),
        ("index = 1", "index = 0", "index 0 is the background"),
        ('"SCT", "Liver"]', '"SCT"]', "labels.0.property: write a code as"),
        ('name = "liver-ct"', 'name = "../liver"', "name: String should match"),
        ("sha256 = ", "sha265 = ", "model.sha256: it is missing"),
        ('"onnx"', '"pickle"', "model: Input tag 'pickle'"),
        ('task = "segmentation"', 'task = "detection"', "detection: a detection model needs"),
        ('task = "segmentation"', 'task = "regression"', "quantities: a regression model needs"),
        ('trained_on = "131 portal venous CT of LiTS"\n', "", "trained_on: it is missing"),
        ('"liver"', '"li\\\\ver"', "labels.0.label"),
        ("[output]", "[output", "pipeline.toml: "),
    ],
)
def test_what_is_wrong_is_told_by_its_key_with_what_to_write(old, new, said):
    assert said in problems(changed(old, new))


def test_all_problems_of_a_file_are_told_at_once():
    told = problems(LIVER.replace("[-160, 240]", "[1, 0]").replace("softmax", "x").encode())
    assert "window" in told
    assert "output.activation" in told


def test_two_labels_of_one_name_are_refused():
    second = LIVER.partition("[[labels]]")[2].replace("index = 1", "index = 2")
    assert "label = 'liver' is there twice" in problems(f"{LIVER}[[labels]]{second}".encode())


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ('runtime = "nnunet"\nfiles = { "plans.json" = "D" }', 'files: add "dataset.json"'),
        ('runtime = "monai-bundle"\nfiles = { "x" = "D" }', 'files: add "configs/inference.json"'),
        ('runtime = "totalsegmentator"', "model.version: it is missing"),
        ('runtime = "container"\nimage = "site/liver:latest"', "pin it by digest"),
        ('runtime = "container"\nengine = "apptainer"\nimage = "x.sif"', "sha256: state"),
        ('runtime = "totalsegmentator"\nversion = "2.4.0"', "input.patch: leave it out"),
    ],
)
def test_each_runtime_asks_for_what_it_needs(model, said):
    text = LIVER[: LIVER.index("[model]")] + "[model]\n" + model.replace("D", "0" * 64)
    text += LIVER[LIVER.index("\n[[labels]]") :]
    assert said in problems(text.encode())


def test_a_file_larger_than_a_page_or_no_file_is_refused(tmp_path):
    with pytest.raises(ManifestError, match="the folder has none"):
        load(tmp_path)
    (tmp_path / "pipeline.toml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(ManifestError, match="larger than 1 MB"):
        load(tmp_path)


def test_the_document_for_sites_shows_a_model_that_loads_and_names_every_key():
    text = (REPOSITORY / "docs" / "models.md").read_text("utf-8")
    whole = next(
        block for block in text.split("```toml\n")[1:] if block.startswith('name = "liver-ct"')
    )
    assert parse(whole.partition("```")[0].encode()).name == "liver-ct"
    table = text.partition("## Every key")[2]
    missing = [
        f"{section.__name__}.{key}"
        for section in SECTIONS
        for key in section.model_fields
        if not re.search(rf"[`.]{key}[`.]", table)
    ]
    assert missing == []
