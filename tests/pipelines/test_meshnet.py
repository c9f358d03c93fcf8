"""MeshNet rebuilt: the same function as the plain stack of layers, in less memory."""

from __future__ import annotations

import hashlib
import io
import json

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from pipelines.conform import Conformed
from pipelines.contract import Grid
from pipelines.meshnet import MeshNet
from pipelines.models import AddedModel, ModelChanged

GRID = Grid((28, 26, 30), (0.0, 0.0, 0.0), ((1, 0, 0), (0, 0, -1), (0, -1, 0)), (1.0, 1.0, 1.0))
DILATIONS = (1, 2, 4, 8, 4, 1)


def stated(channels, classes, **words):
    def layer(into, out_of, size, dilation):
        return {
            "in_channels": into,
            "out_channels": out_of,
            "kernel_size": size,
            "padding": dilation * (size // 2),
            "stride": 1,
            "dilation": dilation,
        }

    widths = (1, *([channels] * len(DILATIONS)))
    layers = [layer(a, b, 3, d) for a, b, d in zip(widths, widths[1:], DILATIONS, strict=False)]
    return {"bnorm": False, "layers": [*layers, layer(channels, classes, 1, 1)], **words}


def plain(channels, classes, activation, normalised):
    """The network as its authors' files describe it, and where its weights are in the file."""
    torch.manual_seed(3)
    widths = (1, *([channels] * len(DILATIONS)))
    blocks = []
    for into, out_of, dilation in zip(widths, widths[1:], DILATIONS, strict=False):
        convolution = nn.Conv3d(into, out_of, 3, padding=dilation, dilation=dilation)
        norm = [nn.GroupNorm(out_of, out_of, affine=False)] if normalised else []
        blocks.append(nn.Sequential(convolution, *norm, activation))
    network = nn.Sequential(*blocks, nn.Conv3d(channels, classes, 1))
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv3d):
                nn.init.kaiming_normal_(layer.weight)
        # So that no class wins everywhere.
        network[-1].bias -= network(torch.rand(1, 1, 24, 24, 24)).mean(dim=(0, 2, 3, 4))
    state = {f"model.{name}": tensor.contiguous() for name, tensor in network.state_dict().items()}
    return network, state


def added(folder, name, configuration, weights):
    files = {
        "model.json": json.dumps(configuration).encode(),
        "model.pth": weights,
        "colormap.json": json.dumps(
            {"R": [0, 9, 8], "G": [0, 7, 6], "B": [0, 5, 4], "labels": ["none", "one", "two"]}
        ).encode(),
    }
    for path, content in files.items():
        (folder / path).write_bytes(content)
    digests = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    return AddedModel(name, folder, digests)


@pytest.fixture(scope="module")
def grey():
    return np.random.default_rng(1).integers(0, 256, GRID.shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("words", "activation", "channels"),
    [({}, nn.ReLU(), 5), ({"elu": True}, nn.ELU(), 12), ({"gelu": True}, nn.GELU(), 8)],
)
def test_it_computes_what_the_plain_stack_of_layers_computes(
    tmp_path, grey, words, activation, channels
):
    normalised = bool(words.get("gelu"))
    network, state = plain(channels, 3, activation, normalised)
    configuration = stated(channels, 3, **words) | {"bnorm": normalised}
    model = added(tmp_path, "meshnet-test", configuration, safetensors.torch.save(state))
    meshnet = MeshNet.read(model)
    image = torch.from_numpy(grey).float()[None, None]
    image = (image - image.min()) / (image.max() - image.min())
    with torch.no_grad():
        wanted = network(image).argmax(dim=1)[0].numpy()
    found = meshnet.labels(Conformed(grey, GRID))
    assert len(np.unique(wanted)) > 1
    assert (found == wanted).mean() > 0.9999
    assert meshnet.names == ("none", "one", "two")
    assert meshnet.colors == ((0, 0, 0), (9, 7, 5), (8, 6, 4))


def test_a_torch_archive_is_read_and_mindgrab_is_stretched_between_its_quantiles(tmp_path, grey):
    network, state = plain(6, 2, nn.GELU(), normalised=True)
    content = io.BytesIO()
    torch.save(state, content)
    configuration = stated(6, 2, gelu=True) | {"bnorm": True}
    model = added(tmp_path, "mindgrab", configuration, content.getvalue())
    low, high = np.quantile(grey, (0.02, 0.98))
    image = np.clip((grey - low) / (high - low + 1e-3), 0, 1).astype(np.float32)
    with torch.no_grad():
        wanted = network(torch.from_numpy(image)[None, None]).argmax(dim=1)[0].numpy()
    assert (MeshNet.read(model).labels(Conformed(grey, GRID)) == wanted).mean() > 0.9999
    with pytest.raises(ValueError, match="normalised over the whole image"):
        MeshNet.read(model).labels(Conformed(grey, GRID), np.s_[:9, :9, :9])


def test_in_a_box_it_sees_only_the_box(tmp_path, grey):
    network, state = plain(8, 3, nn.ReLU(), normalised=False)
    model = added(tmp_path, "meshnet-test", stated(8, 3), safetensors.torch.save(state))
    box = np.s_[3:26, 2:23, 1:27]
    found = MeshNet.read(model).labels(Conformed(grey, GRID), box)
    image = (torch.from_numpy(grey).float() - grey.min()) / (grey.max() - np.float32(grey.min()))
    with torch.no_grad():
        wanted = network(image[box][None, None]).argmax(dim=1)[0].numpy()
    assert (found[box] == wanted).mean() > 0.9999
    found[box] = 0
    assert not found.any()


def test_weights_of_another_network_are_refused(tmp_path):
    _, state = plain(8, 3, nn.ReLU(), normalised=False)
    one_more = stated(8, 3)
    one_more["layers"].insert(0, one_more["layers"][0])
    weights = safetensors.torch.save(state)
    with pytest.raises(ValueError, match="7 layers of weights for 8 stated"):
        MeshNet.read(added(tmp_path, "meshnet-test", one_more, weights))


def test_a_changed_file_is_refused(tmp_path):
    _, state = plain(8, 3, nn.ReLU(), normalised=False)
    model = added(tmp_path, "meshnet-test", stated(8, 3), safetensors.torch.save(state))
    (tmp_path / "model.pth").write_bytes(safetensors.torch.save(state)[:-4] + b"\0\0\0\1")
    with pytest.raises(ModelChanged):
        MeshNet.read(model)
