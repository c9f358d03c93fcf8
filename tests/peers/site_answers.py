"""Models that a site would add for a clinical question: made here, as small as they get.

``fracture_onnx`` and ``fracture_torchscript`` look for thin dark lines in bright bone;
``cavity_onnx`` for dark cavities. What they see in a phantom is known in advance.
"""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import torch

SIDE = 256
"""Rows and columns of what the ONNX detector takes."""
CELL = 16
BOX = 24
SCALE, CONTRAST = 60.0, 0.15

FRACTURE = """\
name = "{name}"
version = "1.0.0"
title = "Dark lines in bone"
maker = "A hospital"
licence = "CC0-1.0"
trained_on = "nothing: a fixed contrast"
question = "xray-fracture"
task = "detection"

[input]
match = {match}
view = "images"
{shape}
normalisation = "percentiles"
percentiles = [1, 99]

[model]
runtime = "{runtime}"
file = "model.bin"
sha256 = "{sha256}"

[detection]
boxes = "corners"
first = "columns-first"

[[labels]]
index = 0
label = "Fracture"
category = ["49755003", "SCT", "Morphologically Abnormal Structure"]
property = ["125605004", "SCT", "Fracture of bone"]
threshold = 0.5
{label}
"""

VENTRICLE = """\
name = "{name}"
version = "1.0.0"
title = "Dark cavities"
maker = "A hospital"
licence = "CC0-1.0"
trained_on = "nothing: a fixed threshold"
question = "echo-lv"
task = "segmentation"

[input]
match = {{ Modality = "US" }}
view = "images"
window = [0, 255]
batch = 8

[model]
runtime = "onnx"
file = "model.bin"
sha256 = "{sha256}"

[output]
activation = "sigmoid"

[[labels]]
index = 0
label = "Left ventricle"
category = ["91723000", "SCT", "Anatomical Structure"]
property = ["87878005", "SCT", "Left ventricle"]
"""


def add(folder: Path, name: str, network: bytes, manifest: str, **stated: str) -> Path:
    """Write a model as ``radnode models add`` leaves it; return the folder of all models."""
    sha256 = hashlib.sha256(network).hexdigest()
    said = manifest.format(name=name, sha256=sha256, **stated).encode()
    of_manifest = hashlib.sha256(said).hexdigest()
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "model.bin").write_bytes(network)
    (folder / name / "pipeline.toml").write_bytes(said)
    lines = f'[files]\n"pipeline.toml" = "{of_manifest}"\n"model.bin" = "{sha256}"\n'
    (folder / name / "model.toml").write_text(lines, encoding="utf-8")
    return folder


def add_fracture_model(
    folder: Path,
    network: bytes,
    *,
    runtime: str = "onnx",
    match: str = '{ Modality = ["DX", "CR"] }',
    label: str = "",
    name: str = "dark-lines",
) -> Path:
    """Add a detector; the ONNX one takes images of one size, the TorchScript one any."""
    shape = f'size = [{SIDE}, {SIDE}]\nfit = "pad"' if runtime == "onnx" else ""
    stated = {"runtime": runtime, "match": match, "label": label, "shape": shape}
    return add(folder, name, network, FRACTURE, **stated)


def add_ventricle_model(folder: Path, network: bytes, *, name: str = "dark-cavities") -> Path:
    """Add a network that outlines the left ventricle."""
    return add(folder, name, network, VENTRICLE)


def fracture_onnx() -> bytes:
    """Return a detector with a box around each cell of the image, as real ones have anchors."""
    from onnx import helper

    corners = np.arange(0, SIDE, CELL) - (BOX - CELL) / 2.0
    left, top = np.meshgrid(corners, corners)
    boxes = np.stack((left, top, left + BOX, top + BOX), axis=-1).reshape(-1, 4)
    constants = {
        "boxes": boxes.astype(np.float32),
        "flat": np.array([-1, 1], np.int64),
        "scale": np.array(SCALE, np.float32),
        "contrast": np.array(CONTRAST, np.float32),
        "bone": np.array(0.6, np.float32),
        "nothing": np.array(0.0, np.float32),
    }
    mean: dict[str, Any] = {"kernel_shape": [15, 15], "pads": [7, 7, 7, 7]}
    cell: dict[str, Any] = {"kernel_shape": [CELL, CELL], "strides": [CELL, CELL]}
    nodes = [
        helper.make_node("AveragePool", ["image"], ["mean"], **mean),
        helper.make_node("Sub", ["mean", "image"], ["darker"]),
        helper.make_node("Greater", ["mean", "bone"], ["in_bone"]),
        helper.make_node("Where", ["in_bone", "darker", "nothing"], ["line"]),
        helper.make_node("MaxPool", ["line"], ["cells"], **cell),
        helper.make_node("Reshape", ["cells", "flat"], ["rows"]),
        helper.make_node("Sub", ["rows", "contrast"], ["above"]),
        helper.make_node("Mul", ["above", "scale"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
        helper.make_node("Identity", ["boxes"], ["places"]),
    ]
    return _graph(nodes, "fracture", [1, 1, SIDE, SIDE], ["places", "scores"], constants)


def fracture_torchscript() -> bytes:
    """Return a detector that draws one box around all that is darker than the bone around it."""
    import torch

    class Detector(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            mean = torch.nn.functional.avg_pool2d(image, 15, 1, 7)
            line = torch.where(mean > 0.6, mean - image, torch.zeros_like(mean))[0, 0]
            score = torch.sigmoid((line.max() - 0.15) * 60.0).reshape(1, 1)
            rows = torch.nonzero((line > 0.5 * line.max()).any(1)).float()
            columns = torch.nonzero((line > 0.5 * line.max()).any(0)).float()
            if rows.numel() == 0:
                return torch.zeros(0, 4), torch.zeros(0, 1)
            corners = [columns.min(), rows.min(), columns.max() + 1.0, rows.max() + 1.0]
            return torch.stack(corners).reshape(1, 4), score

    saved = io.BytesIO()
    torch.jit.save(torch.jit.script(Detector().eval()), saved)
    return saved.getvalue()


def cavity_onnx(darkest: float = 0.08, brightest: float = 0.353) -> bytes:
    """Return a network for which dark grey, but not the black around the sector, is cavity."""
    from onnx import helper

    values = {"scale": 80.0, "darkest": darkest, "brightest": brightest}
    constants = {name: np.array(value, np.float32) for name, value in values.items()}
    nodes = [
        helper.make_node(
            "AveragePool", ["image"], ["mean"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]
        ),
        helper.make_node("Sub", ["brightest", "mean"], ["darker"]),
        helper.make_node("Sub", ["mean", "darkest"], ["brighter"]),
        helper.make_node("Min", ["darker", "brighter"], ["both"]),
        helper.make_node("Mul", ["both", "scale"], ["logits"]),
    ]
    return _graph(nodes, "cavity", ["n", 1, "rows", "columns"], ["logits"], constants)


def _graph(nodes, name, size, outputs, constants) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info(one, TensorProto.FLOAT, None) for one in outputs],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content
