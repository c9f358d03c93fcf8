"""Two balls in a patient, as any scanner would cut them, and networks that see them.

The networks answer with three labels: nothing, a ball, and the cap of a ball on the side to
which the first axis of the network's array runs. So a mirrored or turned array shows.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pipelines.contract import Grid, Volume

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from pydicom import Dataset

LARGE = (np.array([13.7, -4.3, 6.2]), 9.1)
SMALL = (np.array([-13.2, 5.4, -5.1]), 6.3)
"""Middle (x, y, z of the patient; x grows to the left) and radius, in mm."""
REACH = 2
"""Voxels that the cap's kernel looks ahead."""

AXIAL = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
SAGITTAL = ((-1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))
CORONAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0))
FEET_FIRST = ((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0))
PLANES = {"axial": AXIAL, "sagittal": SAGITTAL, "coronal": CORONAL, "feet-first": FEET_FIRST}


def grid(axes=AXIAL, spacing_mm=(2.0, 2.0, 2.0), field_mm=64.0, turn_degrees=0.0) -> Grid:
    """Return a grid of that field around the middle of the patient, turned about z."""
    angle = np.radians(turn_degrees)
    rotation = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]]
    )
    turned = np.array(axes) @ rotation.T
    shape = tuple(round(field_mm / step) for step in spacing_mm)
    half = (np.array(shape) - 1) / 2.0 * np.array(spacing_mm)
    first, second, third = (tuple(axis) for axis in turned.tolist())
    return Grid(shape, tuple((-half @ turned).tolist()), (first, second, third), spacing_mm)


def places_mm(where: Grid) -> np.ndarray:
    """Return where each voxel is, shape (*shape, 3)."""
    index = np.moveaxis(np.indices(where.shape), 0, -1)
    return index @ where.affine[:3, :3].T + where.affine[:3, 3]


def volume(where: Grid, *, mirrored=False, values=(0.0, 100.0), modality="CT") -> Volume:
    """Return the patient on a grid; or one that is the other way round, left for right."""
    places = places_mm(where) * ((-1.0, 1.0, 1.0) if mirrored else 1.0)
    low, high = values
    share = np.zeros(where.shape)
    for middle, radius in (LARGE, SMALL):
        outside = np.linalg.norm(places - middle, axis=-1) - radius
        share = np.maximum(share, np.clip(0.5 - outside / 2.0, 0.0, 1.0))
    voxels = (low + (high - low) * share).astype(np.float32)
    return Volume(voxels, where, {"Modality": modality})


def centroid_mm(mask: np.ndarray, where: Grid) -> np.ndarray:
    """Return the middle of a mask in the patient."""
    return places_mm(where)[mask].mean(axis=0)


def ct_series(root: str, where: Grid, *, mirrored=False) -> list[Dataset]:
    """Return the patient as the CT that a scanner sends; slices in the grid's order."""
    from tests.peers import bright_spot

    images = []
    for number, plane in enumerate(volume(where, mirrored=mirrored).voxels):
        image = bright_spot._image(root, number + 1, plane.astype(np.int16))
        _, rows, columns = where.axes
        slice_mm, row_mm, column_mm = where.spacing_mm
        image.ImageOrientationPatient = [*columns, *rows]
        image.ImagePositionPatient = (where.affine @ [number, 0, 0, 1])[:3].round(6).tolist()
        image.PixelSpacing, image.SliceThickness = [row_mm, column_mm], slice_mm
        images.append(image)
    return images


def kernel() -> tuple[np.ndarray, np.ndarray]:
    """Return weights (3, 1, 5, 5, 5) and biases of the one convolution that sees all of it."""
    width = 2 * REACH + 1
    weights = np.zeros((3, 1, width, width, width), np.float32)
    weights[1, 0, REACH, REACH, REACH] = 1.0
    weights[2, 0, REACH, REACH, REACH] = 1.5
    weights[2, 0, 2 * REACH, REACH, REACH] = -1.5
    return weights * 20.0, np.array([0.5, 0.0, -0.25], np.float32) * 20.0


def torch_network() -> torch.nn.Module:
    """Return the same in torch."""
    import torch

    weights, biases = kernel()
    network = torch.nn.Conv3d(1, 3, 2 * REACH + 1, padding=REACH)
    network.weight.data, network.bias.data = torch.from_numpy(weights), torch.from_numpy(biases)
    return network.eval()


UNET: dict[str, Any] = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "channels": [4, 4],
    "strides": [1],
    "kernel_size": 5,
    "up_kernel_size": 5,
    "norm": None,
}


def monai_unet() -> torch.nn.Module:
    """Return the same as a UNet of MONAI: the image passes down, its last layer sees."""
    import torch
    from monai.networks.nets import UNet

    network: Any = UNet(**UNET)
    weights, biases = kernel()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.model[0].conv.weight[0, 0, REACH, REACH, REACH] = 1.0
        last = network.model[2].conv
        # A transposed convolution turns its kernel around.
        last.weight[0] = torch.from_numpy(weights[:, 0, ::-1, ::-1, ::-1].copy())
        last.bias.copy_(torch.from_numpy(biases))
    return network.eval()


def onnx_bytes() -> bytes:
    """Return the same as an ONNX graph."""
    from onnx import TensorProto, helper, numpy_helper

    weights, biases = kernel()
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[REACH] * 6)],
        "balls",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, "i", "j", "k"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, "i", "j", "k"])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(biases, "b")],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10
    ).SerializeToString()


MANIFEST = """
name = "balls-ct"
version = "1.0.0"
title = "CT: balls"
maker = "Tests"
licence = "MIT"
trained_on = "synthetic: weights set by hand"
task = "segmentation"
[input]
match = {{ Modality = "CT" }}
{input}
[model]
{model}
[output]
{output}
[[labels]]
index = 1
label = "ball"
category = ["49755003", "SCT", "Morphologically Abnormal Structure"]
property = ["27925004", "SCT", "Nodule"]
[[labels]]
index = 2
label = "cap"
category = ["85756007", "SCT", "Tissue"]
property = ["112001", "DCM", "Opacity"]
"""
PREPARED = """
orientation = "RAS"
spacing_mm = [2.0, 2.0, 2.0]
window = [0, 100]
patch = [24, 24, 24]
"""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write(
    folder: Path,
    files: dict[str, bytes],
    model: str,
    given: str = PREPARED,
    output: str = 'activation = "softmax"',
) -> Path:
    """Write a model's folder; ``{NAME}`` in ``model`` stands for the digest of the only file."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    if len(files) == 1:
        model = model.replace("{sha256}", sha256(next(iter(files.values()))))
    (folder / "pipeline.toml").write_text(MANIFEST.format(input=given, model=model, output=output))
    return folder


def write_onnx(folder: Path, **how: str) -> Path:
    return write(
        folder,
        {"model.onnx": onnx_bytes()},
        'runtime = "onnx"\nfile = "model.onnx"\nsha256 = "{sha256}"',
        **how,
    )


def assert_sees_both_balls(pipeline, where: Grid, *, mirrored=False, modality="CT") -> None:
    """Hold a pipeline's segments on a grid against the patient.

    Together, ball and cap are in the middle of the balls to within half a voxel; the caps lie on
    the patient's right of them; volumes are the balls'.
    """
    result = pipeline.run(volume(where, mirrored=mirrored, modality=modality))
    masks = {segment.label: segment.mask for segment in result.segments}
    assert_lie_on_the_balls(masks, where, mirrored=mirrored)


def assert_lie_on_the_balls(masks: dict[str, np.ndarray], where: Grid, *, mirrored=False) -> None:
    """As ``assert_sees_both_balls``, for masks on a grid."""
    assert masks.keys() == {"ball", "cap"}
    whole = masks["ball"] | masks["cap"]
    mirror = np.array([-1.0, 1.0, 1.0]) if mirrored else np.ones(3)
    places = places_mm(where)
    for middle, radius in (LARGE, SMALL):
        near = np.linalg.norm(places - middle * mirror, axis=-1) < radius + 5.0
        off_mm = centroid_mm(whole & near, where) - middle * mirror
        off_voxels = np.array(where.axes) @ off_mm / np.array(where.spacing_mm)
        assert np.abs(off_voxels).max() < 0.5, off_voxels
        cap, ball = (centroid_mm(masks[name] & near, where) for name in ("cap", "ball"))
        assert cap[0] < ball[0] - 1.0, (cap, ball)  # x grows to the left
        volume_ml = (whole & near).sum() * where.voxel_volume_ml
        assert volume_ml == pytest.approx(4 / 3 * np.pi * radius**3 / 1000.0, rel=0.15)
