"""A site's own model: one ONNX file and a page of TOML, and no Python.

The network is as small as networks get: what is denser than some threshold. Its truth on
``bright_spot.ct_series`` is known voxel for voxel.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

NAME = "site-spot-ct"

MANIFEST = """\
name = "{name}"
version = "{version}"
title = "Dense spots"
maker = "A hospital"
licence = "CC0-1.0"
trained_on = "nothing: a fixed threshold"
task = "segmentation"

[input]
match = {{ Modality = "CT", ImageType = "ORIGINAL" }}
orientation = "SPL"
spacing_mm = "as-acquired"
window = [-1000, 1000]

[model]
runtime = "onnx"
file = "spot.onnx"
sha256 = "{sha256}"

[output]
activation = "sigmoid"

[[labels]]
index = 0
label = "Dense spot"
category = ["49755003", "SCT", "Morphologically Abnormal Structure"]
property = ["52988006", "SCT", "Lesion"]
"""


def write(folder: Path, *, threshold_hu: float, name: str = NAME, version: str = "1.0.0") -> Path:
    """Write the folder of a model that outlines what is denser than ``threshold_hu``."""
    folder.mkdir(parents=True)
    (folder / "spot.onnx").write_bytes(_network((threshold_hu + 1000.0) / 2000.0))
    sha256 = hashlib.sha256((folder / "spot.onnx").read_bytes()).hexdigest()
    manifest = MANIFEST.format(name=name, version=version, sha256=sha256)
    (folder / "pipeline.toml").write_text(manifest, encoding="utf-8")
    return folder


def _network(threshold: float) -> bytes:
    """Return a graph of one convolution: 1000 (x - threshold), of each voxel alone."""
    from onnx import TensorProto, helper, numpy_helper

    size: list[str | int | None] = ["batch", 1, "slices", "rows", "columns"]
    weight = numpy_helper.from_array(np.full((1, 1, 1, 1, 1), 1000.0, np.float32), "weight")
    bias = numpy_helper.from_array(np.array([-1000.0 * threshold], np.float32), "bias")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "weight", "bias"], ["logits"])],
        "spot",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, size)],
        [weight, bias],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content
