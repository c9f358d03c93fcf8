"""What a model folder may carry to run code, leave its folder, or pass for a result: refused."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest

from pipelines.runtimes import ManifestError, NetworkFault, WeightsRefused, load
from tests.pipelines.runtimes import balls, made


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


@pytest.fixture
def mark(tmp_path):
    """What is there once code of a model ran."""
    path = tmp_path / "code ran"
    yield path
    assert not path.exists()


def torch_archive(value) -> bytes:
    import torch

    saved = io.BytesIO()
    torch.save(value, saved)
    return saved.getvalue()


def refused(folder, match: str) -> None:
    with pytest.raises(WeightsRefused, match=match):
        load(folder).warm_up()


# --- pickles -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["onnx", "torchscript", "safetensors"])
@pytest.mark.parametrize("as_archive", [False, True], ids=["pickle", "archive"])
def test_a_pickle_under_another_name_is_not_loaded(tmp_path, mark, kind, as_archive):
    content = torch_archive(Bomb(mark)) if as_archive else pickle.dumps(Bomb(mark))
    model = made.ONE_FILE.format(runtime=kind, file="model")
    if kind == "safetensors":
        model += '[model.network]\nname = "UNet"\nspatial_dims = 3\nin_channels = 1\n'
        model += "out_channels = 3\nchannels = [4, 4]\nstrides = [1]"
    refused(balls.write(tmp_path / "m", {"model": content}, model), "is no ")


@pytest.mark.parametrize("within", [False, True], ids=["whole", "in the optimizer's state"])
def test_a_pickle_in_an_nnunet_checkpoint_is_not_loaded(tmp_path, mark, within):
    import torch

    value = Bomb(mark)
    if within:
        content = made.nnunet_checkpoint()
        with torch.serialization.safe_globals([]):
            value = torch.load(io.BytesIO(content), weights_only=False)  # ours, of this process
        value["optimizer_state"] = Bomb(mark)
    changed = {"fold_0/checkpoint_final.pth": torch_archive(value)}
    refused(made.write_nnunet(tmp_path / "m", **changed), "holds more than tensors")


def test_a_pickle_as_a_bundles_weights_is_not_loaded(tmp_path, mark):
    files = made.bundle_files(tmp_path / "m")
    files["models/model.pt"] = torch_archive({"model": Bomb(mark)})
    refused(rewritten(tmp_path / "m", files), "holds more than tensors")


def test_a_pickle_of_the_days_before_archives_is_not_loaded(tmp_path, mark):
    import torch

    files = made.bundle_files(tmp_path / "m")
    saved = io.BytesIO()
    torch.save({"model": Bomb(mark)}, saved, _use_new_zipfile_serialization=False)
    files["models/model.pt"] = saved.getvalue()
    refused(rewritten(tmp_path / "m", files), "is no torch archive")


def rewritten(folder, files, weights="models/model.pt"):
    model = f'runtime = "monai-bundle"\nweights = "{weights}"\n{made.files_table(files)}'
    return balls.write(folder, files, model, given="", output="")


# --- a bundle's config -------------------------------------------------------------------------

CODE = {
    "an import": "$__import__('os').mkdir('MARK')",
    "a module": "$os.mkdir('MARK')",
    "a lambda": "$lambda x: x > 0",
    "an attribute of a reference": "$@device.__class__",
    "a method of a reference": "$@device.__reduce__()",
    "a comprehension": "$[i for i in range(9)]",
    "arithmetic": "$9 ** 9 ** 9",
    "a string's method": "$'a'.join(['b'])",
    "a function of torch": "$torch.load('MARK')",
    "another file": "%other.json::x",
    "no expression": "$(",
}


@pytest.mark.parametrize("code", CODE.values(), ids=CODE)
@pytest.mark.parametrize("section", ["network_def", "preprocessing", "inferer", "postprocessing"])
def test_code_in_a_bundles_config_is_not_run(tmp_path, mark, code, section):
    from pipelines.runtimes.bundle_guard import admitted

    config = copy.deepcopy(made.INFERENCE)
    config[section]["extra"] = code.replace("MARK", str(mark))
    with pytest.raises(WeightsRefused, match=f"^{section}::extra"):
        admitted(config, [section], {"device": "cpu"})


TARGETS = {
    "os.system": {"_target_": "os.system", "command": "true"},
    "subprocess.run": {"_target_": "subprocess.run", "args": ["true"]},
    "builtins.eval": {"_target_": "builtins.eval"},
    "the bundle's scripts": {"_target_": "scripts.network.Mine"},
    "Lambda": {"_target_": "Lambdad", "keys": "image", "func": "@x"},
    "a module that looks like MONAI": {"_target_": "monai.os.system"},
    "a class of torch": {"_target_": "torch.hub.load"},
    "a partial": {"_target_": "UNet", "_mode_": "callable"},
    "a requirement": {"_target_": "UNet", "_requires_": "@x"},
    "downloaded weights": {"_target_": "FlexibleUNet", "pretrained": True},
    "no text": {"_target_": ["UNet"]},
}


@pytest.mark.parametrize("component", TARGETS.values(), ids=TARGETS)
def test_only_listed_classes_are_made_from_a_bundles_config(component):
    from pipelines.runtimes.bundle_guard import admitted

    with pytest.raises(WeightsRefused, match="network_def"):
        admitted({"network_def": component, "x": 1}, ["network_def"], {})


def test_a_listed_name_is_taken_from_monai_whatever_path_is_written_before_it():
    from pipelines.runtimes.bundle_guard import admitted

    config = {"network_def": {"_target_": "monai.transforms.io.UNet"}}
    assert admitted(config, ["network_def"], {}) == {
        "network_def": {"_target_": "monai.networks.nets.UNet"}
    }


def test_what_a_prediction_does_not_need_is_not_even_looked_at(tmp_path, mark):
    config = made.INFERENCE | {"initialize": [f"$__import__('os').mkdir('{mark}')"]}
    load(made.write_bundle(tmp_path / "bundle", config)).warm_up()


def test_code_behind_a_reference_is_found(tmp_path, mark):
    config = copy.deepcopy(made.INFERENCE)
    config["network_def"]["spatial_dims"] = "@dims"
    config["dims"] = f"$__import__('os').mkdir('{mark}')"
    refused(made.write_bundle(tmp_path / "bundle", config), "^dims: the expression")


# --- names in nnU-Net's plans ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("network_class_name", "os.system"),
        ("network_class_name", "dynamic_network_architectures.architectures.unet.torch.load"),
        ("network_class_name", "dynamic_network_architectures.architectures.__class__"),
        ("conv_op", "subprocess.Popen"),
        ("nonlin", "torch.nn.Module.__subclasses__"),
        ("nonlin", "torch.nn.modules.module.torch.load"),
    ],
)
def test_plans_name_only_networks_and_layers(tmp_path, key, name):
    plans = copy.deepcopy(made.PLANS)
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    place = architecture if key in architecture else architecture["arch_kwargs"]
    place[key] = name
    changed = {"plans.json": json.dumps(plans).encode()}
    refused(made.write_nnunet(tmp_path / "m", **changed), "plans.json names")


# --- files -------------------------------------------------------------------------------------


def test_a_file_with_another_digest_is_not_loaded(tmp_path):
    folder = balls.write_onnx(tmp_path)
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused(folder, "has the SHA-256")


def test_a_file_that_is_gone_is_named(tmp_path):
    folder = balls.write_onnx(tmp_path)
    (folder / "model.onnx").unlink()
    refused(folder, "model.onnx is not in the model's folder")


@pytest.mark.parametrize("path", ["../model.onnx", "/etc/passwd", "a/../../b", "C:\\\\x", ""])
def test_a_path_out_of_the_folder_is_refused(tmp_path, path):
    folder = balls.write_onnx(tmp_path)
    text = (folder / "pipeline.toml").read_text()
    (folder / "pipeline.toml").write_text(text.replace('"model.onnx"', f'"{path}"'))
    with pytest.raises(ManifestError, match="name a file below the folder"):
        load(folder)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    folder = balls.write_onnx(tmp_path / "model")
    (folder / "model.onnx").rename(tmp_path / "elsewhere.onnx")
    (folder / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    refused(folder, "leads out of the model's folder")


def test_an_onnx_graph_with_weights_in_further_files_is_refused(tmp_path):
    import onnx

    model = onnx.load_from_string(balls.onnx_bytes())
    onnx.external_data_helper.convert_model_to_external_data(
        model, location="../../secret", size_threshold=0
    )
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
    folder = balls.write_onnx(tmp_path)
    made_of = made.ONE_FILE.format(runtime="onnx", file="model.onnx")
    balls.write(folder, {"model.onnx": model.SerializeToString()}, made_of)
    refused(folder, "keeps weights in further files")


def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.runtimes.torch_files._SLACK_BYTES", 1_000_000)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 8_000_000)
    model = made.ONE_FILE.format(runtime="torchscript", file="model.ts")
    refused(balls.write(tmp_path, {"model.ts": packed.getvalue()}, model), "unpacks to far more")


def test_torchscript_that_reaches_for_files_is_refused(tmp_path):
    import torch

    class Reads(torch.nn.Module):
        def forward(self, x):
            return x + torch.from_file("/etc/hostname", size=1)

    model = made.ONE_FILE.format(runtime="torchscript", file="model.ts")
    content = made.torchscript_bytes(Reads())
    refused(balls.write(tmp_path, {"model.ts": content}, model), "reads or writes files")


def test_weights_of_another_network_are_refused(tmp_path):
    network = {"name": "UNet", **balls.UNET, "norm": "none", "channels": [8, 4]}
    refused(made.write_safetensors(tmp_path, network), "weights of another network")


@pytest.mark.parametrize("name", ["os.system", "TorchVisionFCModel", "", "UNet.__init__"])
def test_an_architecture_that_is_not_on_the_list_does_not_exist(tmp_path, name):
    refused(made.write_safetensors(tmp_path, {"name": name}), "is none of AttentionUnet")


# --- programs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("raise SystemExit(3)", "failed with exit status 3"),
        ("", "wrote 0 NIfTI images"),
        ("(answer / 'x.nii.gz').symlink_to('/etc/passwd')", "wrote a link"),
        ("(answer / 'x.nii.gz').write_bytes(b'no image')", "cannot be read"),
        ("wrong = sitk.Image(5, 5, 5, sitk.sitkUInt8); write(wrong)", "on another grid"),
        ("image.SetOrigin([9.0, 9.0, 9.0]); write(image > 50)", "on another grid"),
        ("write(sitk.Cast(image, sitk.sitkFloat32) / 7.0)", "no labels"),
    ],
)
def test_what_a_container_wrote_is_held_against_what_it_was_given(
    tmp_path, monkeypatch, source, match
):
    preamble = made.ENGINE.partition("if (given")[0] + (
        "def write(one): sitk.WriteImage(one, str(answer / 'x.nii.gz'))\n"
        "image = sitk.ReadImage(str(given / 'image.nii.gz'))\n"
    )
    program = made.install_program(tmp_path / "bin", "podman", preamble + source)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    pipeline = load(made.write_container(tmp_path / "model"))
    with pytest.raises(NetworkFault, match=match):
        pipeline.run(balls.volume(balls.grid()))


def test_a_program_is_not_told_the_nodes_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("RADNODE_DATABASE", "postgresql://node:secret@host/ledger")
    source = made.TOTALSEGMENTATOR.replace(
        'assert "--ml"', 'import os; assert "RADNODE_DATABASE" not in os.environ; assert "--ml"'
    )
    program = made.install_program(tmp_path / "bin", "TotalSegmentator", source)
    load(made.write_totalsegmentator(tmp_path / "m", program)).run(balls.volume(balls.grid()))


# --- answers -----------------------------------------------------------------------------------


def network_of(answer) -> bytes:
    """Return a TorchScript network that gives some answer to any image."""
    import torch

    class Gives(torch.nn.Module):
        def forward(self, x):
            return answer(x)

    traced = torch.jit.trace(Gives().eval(), torch.zeros(1, 1, 24, 24, 24), check_trace=False)
    saved = io.BytesIO()
    torch.jit.save(traced, saved)
    return saved.getvalue()


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (lambda x: x.repeat(1, 3, 1, 1, 1) / 0.0 * 0.0, "NaN or infinity"),
        (lambda x: x.repeat(1, 3, 1, 1, 1)[..., 1:], "the same further axes"),
        (lambda x: x.repeat(1, 2, 1, 1, 1), "2 channels, none of index 2"),
        (lambda x: x, "softmax makes 1 everywhere"),
        (lambda x: x.mean(), "the same further axes"),
    ],
    ids=["NaN", "another shape", "fewer labels", "one channel", "a number"],
)
def test_an_answer_that_cannot_be_one_is_a_fault_not_a_result(tmp_path, answer, match):
    model = made.ONE_FILE.format(runtime="torchscript", file="model.ts")
    pipeline = load(balls.write(tmp_path, {"model.ts": network_of(answer)}, model))
    with pytest.raises(NetworkFault, match=match):
        pipeline.run(balls.volume(balls.grid()))


def test_an_nnunet_with_other_channels_than_series_is_a_fault(nnunet_folder):
    where = balls.grid()
    pipeline = load(nnunet_folder)
    with pytest.raises(NetworkFault, match=r"1 channels, pipeline\.toml 2 series"):
        pipeline.network.masks(balls.volume(where), balls.volume(where))


def test_a_mask_that_is_all_background_is_looked_and_found_nothing(onnx_folder):
    where = balls.grid()
    air = balls.Volume(np.zeros(where.shape, np.float32), where, {"Modality": "CT"})
    result = load(onnx_folder).run(air)
    assert [finding.presence.value for finding in result.findings] == ["absent", "absent"]
    assert result.segments == ()
