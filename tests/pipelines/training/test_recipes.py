"""From a site's files to a folder that runs: every recipe on phantoms whose truth is known."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from node.cli import main
from node.errors import UsageError
from node.load.source import load as load_series
from node.train.classes import class_examples
from node.train.studies import study_examples
from pipelines import codes, runtimes
from pipelines.contract import Images, Presence
from pipelines.ecg_baselines import recipe
from pipelines.evaluation.segmentation import dice
from pipelines.training import recipes
from pipelines.training.classification import shown
from pipelines.training.data import split
from tests.peers import ecg, learning


def radnode(*arguments):
    result = CliRunner().invoke(main, ["train", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def classified(tmp_path_factory):
    data = tmp_path_factory.mktemp("classes")
    learning.write_classes(data, 16, dicom=False)
    (data / "codes.toml").write_text('tumour = ["108369006", "SCT", "Neoplasm"]', "utf-8")
    out = data.parent / "tumours"
    radnode(
        *("tumour-classifier", "--data", data, "--out", out, "--steps", 20, "--seed", 1),
        *("--match", "Modality=MR", "--licence", "CC0"),
    )
    return out


@pytest.fixture(scope="module")
def segmenting(tmp_path_factory):
    data = tmp_path_factory.mktemp("segmentations")
    for patient in range(4):
        learning.write_ct_with_segmentation(data / f"study{patient}", patient)
    out = data.parent / "balls"
    radnode("segmentation", "--data", data, "--out", out, "--steps", 20)
    return out


def test_the_tumour_classifier_beats_chance_on_patients_it_never_saw(classified):
    pipeline = runtimes.load(classified)
    random = np.random.default_rng(99)
    right = 0
    for number in range(20):
        picture = learning.head_picture(random, tumour=number % 2 == 1)
        study = shown(Images(picture[None].astype(np.float32)), "slices")
        (finding,) = pipeline.run(study).findings
        assert finding.finding.meaning == "Neoplasm"
        right += (finding.presence is Presence.PRESENT) == (number % 2 == 1)
    assert right >= 17  # by chance in one of a thousand


def test_the_record_says_what_was_learned_from_and_what_was_measured(classified):
    record = json.loads((classified / "training.json").read_text("utf-8"))
    assert {part: counts["patients"] for part, counts in record["split"].items()} == {
        "train": 12,
        "validation": 2,
        "test": 2,
    }
    assert record["plan"]["seed"] == 1
    assert record["steps"] == 20
    assert "torch" in record["versions"]
    card = (classified / "card.md").read_text("utf-8")
    assert record["data_sha256"] in card
    assert "| tumour | accuracy |" in card
    assert (classified / "curves.csv").read_text("utf-8").count("\n") >= 2
    assert (classified / "curves.png").stat().st_size > 1000
    assert (classified / "weights.safetensors").exists()
    assert not (classified / "checkpoints").exists()


def test_no_identifier_of_a_patient_is_in_what_comes_out(classified, segmenting):
    for folder in (classified, segmenting):
        for path in folder.glob("*.*"):
            if path.suffix in (".toml", ".json", ".md", ".csv"):
                text = path.read_text("utf-8")
                assert "patient3" not in text
                assert "P3" not in text


def test_slices_in_dicom_say_what_the_pipeline_is_for(tmp_path):
    learning.write_classes(tmp_path / "data", 6, dicom=True)
    out = tmp_path / "out"
    radnode(
        *("tumour-classifier", "--data", tmp_path / "data", "--out", out, "--steps", 1),
        *("--split", 0.3, 0.3),
    )
    manifest = runtimes.read(out)
    assert manifest.input.match == {"Modality": "MR"}
    assert manifest.input.view == "slices"


def test_the_segmentation_outlines_the_ball_of_a_new_patient(segmenting, tmp_path):
    learning.write_ct_with_segmentation(tmp_path / "new", 77)
    (example,) = study_examples(tmp_path, recordings=False)
    seen = example.read()
    manifest = runtimes.read(segmenting)
    assert manifest.labels[0].property == codes.NODULE
    assert manifest.input.window is not None
    result = runtimes.load(segmenting).run(seen.study)
    (segment,) = result.segments
    assert dice(segment.mask, seen.outlines[0].mask) > 0.8


def test_the_ecg_recipe_makes_a_pipeline_of_a_site(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "train", partial(recipe.train, simulated=40))
    data = tmp_path / "data"
    data.mkdir()
    learning.write_recordings(data, 8)
    out = tmp_path / "rhythm"
    radnode("ecg-cnn", "--data", data, "--out", out, "--steps", 6)
    pipeline = runtimes.load(out)
    assert pipeline.report == "ecg_report"
    path = tmp_path / "new.dcm"
    ecg.waveform_object(ecg.sinus(70, seed=50)).save_as(path, enforce_file_format=True)
    (finding,) = pipeline.run(load_series([path]).study).findings
    assert finding.finding.meaning == "Atrial Fibrillation"


def test_dicom_says_whose_an_image_is_and_a_folder_says_it_of_pictures(tmp_path):
    learning.write_classes(tmp_path / "dicom", 6, dicom=True)
    learning.write_classes(tmp_path / "pictures", 6, dicom=False)
    for kind in ("dicom", "pictures"):
        examples = class_examples(tmp_path / kind)
        assert len(examples) == 12
        assert len({example.patient for example in examples}) == 6
        parts = split(examples, validation=0.3, test=0.3)
        assert parts.train.isdisjoint(parts.test)


def test_the_same_image_counts_once_and_is_refused_in_two_classes(tmp_path):
    picture = Image.fromarray(learning.head_picture(np.random.default_rng(0), tumour=True))
    for name in ("a/1.png", "a/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture.save(tmp_path / name)
    assert len(class_examples(tmp_path)) == 1
    (tmp_path / "b").mkdir()
    picture.save(tmp_path / "b" / "3.png")
    with pytest.raises(UsageError, match="One image is in the folders 'a' and 'b'"):
        class_examples(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("no-such-recipe",), "There is no recipe"),
        (("segmentation",), "Nothing is known of the 0 series"),
        (("tumour-classifier",), "no image in a folder of its class"),
    ],
)
def test_what_cannot_be_trained_is_told_in_a_sentence(tmp_path, arguments, complaint):
    (tmp_path / "data").mkdir()
    with pytest.raises(UsageError, match=complaint):
        radnode(*arguments, "--data", tmp_path / "data", "--out", tmp_path / "out")


def test_a_folder_with_something_in_it_is_not_written_over(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(UsageError, match="is not empty"):
        radnode("segmentation", "--data", tmp_path, "--out", tmp_path / "out")


def test_pictures_must_be_told_their_modality(tmp_path):
    learning.write_classes(tmp_path / "data", 6, dicom=False)
    with pytest.raises(UsageError, match="--match Modality=MR"):
        radnode(
            *("tumour-classifier", "--data", tmp_path / "data", "--out", tmp_path / "out"),
            *("--split", 0.3, 0.3),
        )


def test_every_recipe_says_what_it_makes_of_what():
    for name in recipes.names():
        one = recipes.get(name)
        assert one.title
        assert one.kind in ("images", "volumes", "recordings")
