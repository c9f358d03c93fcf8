"""A model of every kind, made with its own tools, sees what is there, where it is."""

from __future__ import annotations

import os

import pytest

from pipelines.runtimes import RuntimeMissing, WeightsRefused, load
from tests.pipelines.runtimes import balls, made

GRIDS = {
    "axial, thick slices": (balls.grid(balls.AXIAL, (4.0, 1.0, 1.0)), False),
    "sagittal, mirrored patient": (balls.grid(balls.SAGITTAL), True),
}


def assert_sees(pipeline) -> None:
    pipeline.warm_up()
    for where, mirrored in GRIDS.values():
        balls.assert_sees_both_balls(pipeline, where, mirrored=mirrored)


def test_torchscript(tmp_path):
    assert_sees(load(made.write_torchscript(tmp_path)))


def test_safetensors_with_an_architecture_of_monai(tmp_path):
    assert_sees(load(made.write_safetensors(tmp_path)))


def test_a_monai_bundle_as_init_bundle_writes_it(bundle_folder):
    assert_sees(load(bundle_folder))


def test_a_monai_bundle_with_the_torchscript_that_ckpt_export_writes(tmp_path):
    assert_sees(load(made.write_bundle(tmp_path / "bundle", weights="models/model.ts")))


def test_a_bundle_that_does_not_invert_is_put_back_by_its_affine(tmp_path):
    transforms = made.INFERENCE["postprocessing"]["transforms"]
    after = {"_target_": "Compose", "transforms": [transforms[0], transforms[2]]}
    assert_sees(load(made.write_bundle(tmp_path / "b", made.INFERENCE | {"postprocessing": after})))


@pytest.mark.parametrize(
    ("decision", "output", "said"),
    [
        (None, "", "state output.activation"),
        ({"threshold": 0.3}, "", "decides at 0.3: state output.threshold"),
        ({"threshold": 0.3}, "threshold = 0.3", ""),
    ],
)
def test_a_bundle_and_its_manifest_decide_alike(tmp_path, decision, output, said):
    transforms = made.INFERENCE["postprocessing"]["transforms"][:2]
    if decision:
        transforms = [*transforms, {"_target_": "AsDiscreted", "keys": "pred", **decision}]
    after = {"_target_": "Compose", "transforms": transforms}
    config = made.INFERENCE | {"postprocessing": after}
    pipeline = load(made.write_bundle(tmp_path / "bundle", config, output=output))
    if not said:
        pipeline.warm_up()
        return
    with pytest.raises(WeightsRefused, match=said):
        pipeline.warm_up()


def test_a_bundle_that_does_not_orient_must_be_told_how_its_images_lay(tmp_path):
    transforms = made.INFERENCE["preprocessing"]["transforms"]
    before = {"_target_": "Compose", "transforms": [*transforms[:2], *transforms[3:]]}
    config = made.INFERENCE | {"preprocessing": before}
    folder = made.write_bundle(tmp_path / "bundle", config)
    with pytest.raises(WeightsRefused, match="no Orientationd"):
        load(folder).warm_up()
    text = (folder / "pipeline.toml").read_text()
    stated = text.replace('Modality = "CT" }', 'Modality = "CT" }\norientation = "RAS"')
    (folder / "pipeline.toml").write_text(stated)
    assert_sees(load(folder))


def test_an_nnunet_folder_as_its_trainer_writes_it(nnunet_folder):
    assert_sees(load(nnunet_folder))


def test_totalsegmentator_is_the_sites_own_command(tmp_path):
    program = made.install_program(tmp_path / "bin", "TotalSegmentator", made.TOTALSEGMENTATOR)
    assert_sees(load(made.write_totalsegmentator(tmp_path / "model", program)))
    other = load(made.write_totalsegmentator(tmp_path / "other", program, version="9.8"))
    with pytest.raises(RuntimeMissing, match=r"not version 9\.8,"):
        other.warm_up()


@pytest.mark.parametrize("given", ["nifti", "dicom"])
def test_a_container_reads_a_folder_and_writes_a_folder(tmp_path, monkeypatch, given):
    program = made.install_program(tmp_path / "bin", "podman", made.ENGINE)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    assert_sees(load(made.write_container(tmp_path / "model", given)))
    said = (tmp_path / "bin" / "arguments").read_text().splitlines()
    for guard in ("--network=none", "--read-only", "--cap-drop=ALL", "--memory=8g", "--pull=never"):
        assert guard in said


def test_a_program_that_is_not_installed_is_named(tmp_path):
    missing = tmp_path / "TotalSegmentator"
    with pytest.raises(RuntimeMissing, match="is not on this host's path"):
        load(made.write_totalsegmentator(tmp_path / "model", missing)).warm_up()
