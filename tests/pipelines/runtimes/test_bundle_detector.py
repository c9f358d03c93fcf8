"""A detection bundle, as MONAI's zoo writes them: its boxes lie where the source has them."""

from __future__ import annotations

import copy
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines.contract import Volume
from pipelines.runtimes import load, parse
from pipelines.runtimes.bundle_guard import admitted
from pipelines.runtimes.monai_bundle import BundleModel
from tests.pipelines.runtimes import balls, made

CONFIG = {
    "whether_raw_luna16": True,
    "whether_resampled_luna16": "$(not @whether_raw_luna16)",
    "imports": ["$import glob", "$import os"],
    "bundle_root": ".",
    "ckpt_dir": "$@bundle_root + '/models'",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "infer_patch_size": [32, 32, 32],
    "anchor_generator": {
        "_target_": "monai.apps.detection.utils.anchor_utils.AnchorGeneratorWithAnchorShape",
        "feature_map_scales": [1, 2, 4],
        "base_anchor_shapes": [[6, 8, 4], [8, 6, 5], [10, 10, 6]],
    },
    "backbone": (
        "$monai.networks.nets.resnet.resnet10(spatial_dims=3,n_input_channels=1,"
        "conv1_t_stride=[2,2,1],conv1_t_size=[7,7,7])"
    ),
    "feature_extractor": (
        "$monai.apps.detection.networks.retinanet_network.resnet_fpn_feature_extractor("
        "@backbone,3,False,[1,2],None)"
    ),
    "network_def": {
        "_target_": "RetinaNet",
        "spatial_dims": 3,
        "num_classes": 1,
        "num_anchors": 3,
        "feature_extractor": "@feature_extractor",
        "size_divisible": [16, 16, 8],
    },
    "network": "$@network_def.to(@device)",
    "detector": {
        "_target_": "RetinaNetDetector",
        "network": "@network",
        "anchor_generator": "@anchor_generator",
        "debug": False,
    },
    "detector_ops": [
        "$@detector.set_target_keys(box_key='box', label_key='label')",
        "$@detector.set_box_selector_parameters(score_thresh=0.0,nms_thresh=0.22)",
        "$@detector.set_sliding_window_inferer(roi_size=@infer_patch_size,overlap=0.25)",
    ],
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image", "_disabled_": "@whether_raw_luna16"},
            {
                "_target_": "EnsureChannelFirstd",
                "keys": "image",
                "meta_key_postfix": "meta_dict",
            },
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {
                "_target_": "Spacingd",
                "keys": "image",
                "pixdim": [2.0, 2.0, 2.0],
                "_disabled_": "@whether_resampled_luna16",
            },
            {
                "_target_": "ScaleIntensityRanged",
                "keys": "image",
                "a_min": 0.0,
                "a_max": 100.0,
                "b_min": 0.0,
                "b_max": 1.0,
                "clip": True,
            },
            {"_target_": "EnsureTyped", "keys": "image"},
        ],
    },
    "inferer": {"_target_": "scripts.detection_inferer.RetinaNetInferer", "detector": "@detector"},
    "evaluator": {"_target_": "scripts.evaluator.DetectionEvaluator"},
}
DETECTION = """
[detection]
boxes = "corners"
first = "rows-first"
[[labels]]
index = 0
label = "Nodule"
category = ["49755003", "SCT", "Morphologically Abnormal Structure"]
property = ["27925004", "SCT", "Nodule"]
"""


def write_folder(path):
    import torch
    from monai.bundle import ConfigParser, init_bundle

    torch.manual_seed(1)
    network = ConfigParser(copy.deepcopy(CONFIG)).get_parsed_content("network_def")
    init_bundle(path, network=network, inference_str=CONFIG)
    files = made.read_all(path)
    model = f'runtime = "monai-bundle"\n{made.files_table(files)}'
    balls.write(path, files, model, given="", output="")
    (path / "pipeline.toml").write_bytes(manifest(path))
    return path


def manifest(folder) -> bytes:
    text = (folder / "pipeline.toml").read_text().replace('"segmentation"', '"detection"')
    return (text[: text.index("[output]")] + DETECTION).encode()


def test_all_that_the_zoos_detector_needs_is_admitted():
    wanted = ["preprocessing", "network_def", "detector", "detector_ops"]
    sections = admitted(CONFIG, wanted, {"device": "cpu"})
    assert {"backbone", "feature_extractor", "anchor_generator"} <= sections.keys()
    assert not {"imports", "inferer", "evaluator", "ckpt_dir"} & sections.keys()


def test_a_bundle_of_the_zoos_detector_loads_and_runs(tmp_path):
    try:
        import_module("torchvision.models")
    except (ImportError, RuntimeError):
        pytest.skip("MONAI's feature extractor needs a torchvision made for this torch")
    study = balls.volume(balls.grid())
    for box in load(write_folder(tmp_path / "bundle")).network.boxes(study):
        assert (np.array(box.low) >= 0).all()
        assert (np.array(box.high) <= study.shape).all()


class Detector:
    """Finds the box around what is bright, and says so as RetinaNetDetector does."""

    target_box_key, target_label_key, pred_score_key = "box", "label", "label_scores"
    inferer = None

    def __call__(self, images, use_inferer):
        import torch

        (image,) = images
        where = torch.nonzero(image[0] > 0.5)
        corners = torch.cat([where.min(dim=0)[0], where.max(dim=0)[0] + 1]).float()
        label, score = torch.zeros(1, dtype=torch.long), torch.tensor([0.9])
        return [{"box": corners[None], "label": label, "label_scores": score}]


@pytest.mark.parametrize("plane", balls.PLANES)
def test_its_boxes_lie_on_the_source_whatever_the_plane(bundle_folder, plane):
    from monai.bundle import ConfigParser

    sections = admitted(CONFIG, ["preprocessing"], {"device": "cpu"})
    preprocessing = ConfigParser(sections).get_parsed_content("preprocessing")
    parts: Any = SimpleNamespace(preprocessing=preprocessing, detector=Detector())
    model = BundleModel(parts, parse(manifest(bundle_folder)), "cpu")
    where = balls.grid(balls.PLANES[plane], (4.0, 2.0, 2.0))
    places = balls.places_mm(where)
    bright = (np.abs(places - np.array([14.0, -4.0, 6.0])) <= [6.0, 8.0, 10.0]).all(axis=-1)
    study = Volume(bright.astype(np.float32) * 100.0, where, {"Modality": "CT"})
    (box,) = model.boxes((study,))
    truth = np.argwhere(bright)
    assert box.low == pytest.approx(truth.min(axis=0), abs=1.0)
    assert box.high == pytest.approx(truth.max(axis=0) + 1, abs=1.0)
    assert box.probability == pytest.approx(0.9)
