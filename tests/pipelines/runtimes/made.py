"""Model folders of every runtime, made with the runtimes' own tools; each sees the balls."""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stdout
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.pipelines.runtimes import balls

if TYPE_CHECKING:
    from pathlib import Path

ONE_FILE = 'runtime = "{runtime}"\nfile = "{file}"\nsha256 = "{{sha256}}"\n'


def files_table(files: dict[str, bytes]) -> str:
    """Return ``[model.files]`` for a folder of several files."""
    lines = [f'"{path}" = "{balls.sha256(content)}"' for path, content in files.items()]
    return "\n".join(["[model.files]", *lines])


def read_all(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


# --- one file --------------------------------------------------------------------------------


def torchscript_bytes(module=None) -> bytes:
    import torch

    saved = io.BytesIO()
    torch.jit.save(torch.jit.script(module or balls.torch_network()), saved)
    return saved.getvalue()


def write_torchscript(folder: Path, **how: str) -> Path:
    model = ONE_FILE.format(runtime="torchscript", file="model.ts")
    return balls.write(folder, {"model.ts": torchscript_bytes()}, model, **how)


def write_safetensors(folder: Path, network: dict[str, Any] | None = None) -> Path:
    from safetensors.torch import save

    state = {name: one.contiguous() for name, one in balls.monai_unet().state_dict().items()}
    said = network or {"name": "UNet", **balls.UNET, "norm": "none"}
    lines = [f"{key} = {json.dumps(value)}" for key, value in said.items()]
    model = ONE_FILE.format(runtime="safetensors", file="model.safetensors")
    model += "[model.network]\n" + "\n".join(lines)
    return balls.write(folder, {"model.safetensors": save(state)}, model)


# --- a MONAI bundle ----------------------------------------------------------------------------

INFERENCE: dict[str, Any] = {
    "imports": ["$import glob", "$import os"],
    "bundle_root": ".",
    "output_dir": "$@bundle_root + '/eval'",
    "dataset_dir": "/workspace/data",
    "datalist": "$list(sorted(glob.glob(@dataset_dir + '/*.nii.gz')))",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "network_def": {"_target_": "UNet", **balls.UNET},
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {
                "_target_": "Spacingd",
                "keys": "image",
                "pixdim": [2.0, 2.0, 2.0],
                "mode": "bilinear",
            },
            {
                "_target_": "ScaleIntensityRanged",
                "keys": "image",
                "a_min": 0,
                "a_max": 100,
                "b_min": 0.0,
                "b_max": 1.0,
                "clip": True,
            },
            {"_target_": "EnsureTyped", "keys": "image", "device": "@device"},
        ],
    },
    "dataset": {
        "_target_": "Dataset",
        "data": "$[{'image': i} for i in @datalist]",
        "transform": "@preprocessing",
    },
    "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [24, 24, 24], "overlap": 0.5},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {
                "_target_": "Invertd",
                "keys": "pred",
                "transform": "@preprocessing",
                "orig_keys": "image",
                "nearest_interp": False,
                "to_tensor": True,
            },
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"},
        ],
    },
    "evaluator": {
        "_target_": "SupervisedEvaluator",
        "device": "@device",
        "val_data_loader": "@dataloader",
        "network": "@network",
        "inferer": "@inferer",
        "postprocessing": "@postprocessing",
    },
    "run": ["$@evaluator.run()"],
}
"""As the bundles of MONAI's zoo are written."""


def bundle_files(folder: Path, inference: dict[str, Any] | None = None) -> dict[str, bytes]:
    """Return the files that ``monai.bundle init_bundle`` writes."""
    from monai.bundle import init_bundle

    init_bundle(folder, network=balls.monai_unet(), inference_str=inference or INFERENCE)
    return read_all(folder)


def write_bundle(
    folder: Path,
    inference: dict[str, Any] | None = None,
    weights: str = "models/model.pt",
    **how: str,
) -> Path:
    files = bundle_files(folder, inference)
    if weights == "models/model.ts":
        from monai.bundle import ckpt_export

        ckpt_export(
            net_id="network_def",
            filepath=str(folder / weights),
            ckpt_file=str(folder / "models/model.pt"),
            meta_file=str(folder / "configs/metadata.json"),
            config_file=str(folder / "configs/inference.json"),
            bundle_root=str(folder),
        )
        files = read_all(folder)
    model = f'runtime = "monai-bundle"\nweights = "{weights}"\n{files_table(files)}'
    return balls.write(folder, files, model, **{"given": "", "output": "", **how})


# --- an nnU-Net folder --------------------------------------------------------------------------

ARCHITECTURE = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
PLANS: dict[str, Any] = {
    "dataset_name": "Dataset001_Balls",
    "plans_name": "nnUNetPlans",
    "original_median_spacing_after_transp": [2.0, 2.0, 2.0],
    "original_median_shape_after_transp": [32, 32, 32],
    "image_reader_writer": "NibabelIOWithReorient",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "configurations": {
        "3d_fullres": {
            "data_identifier": "nnUNetPlans_3d_fullres",
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 2,
            "patch_size": [32, 32, 32],
            "median_image_size_in_voxels": [32.0, 32.0, 32.0],
            "spacing": [2.0, 2.0, 2.0],
            "normalization_schemes": ["CTNormalization"],
            "use_mask_for_norm": [False],
            "resampling_fn_data": "resample_data_or_seg_to_shape",
            "resampling_fn_seg": "resample_data_or_seg_to_shape",
            "resampling_fn_data_kwargs": {
                "is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None,
            },
            "resampling_fn_seg_kwargs": {
                "is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None,
            },
            "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
            "resampling_fn_probabilities_kwargs": {
                "is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None,
            },
            "architecture": {
                "network_class_name": ARCHITECTURE,
                "arch_kwargs": {
                    "n_stages": 2,
                    "features_per_stage": [4, 4],
                    "conv_op": "torch.nn.modules.conv.Conv3d",
                    "kernel_sizes": [[5, 5, 5], [3, 3, 3]],
                    "strides": [[1, 1, 1], [2, 2, 2]],
                    "n_conv_per_stage": [1, 1],
                    "n_conv_per_stage_decoder": [1],
                    "conv_bias": True,
                    "norm_op": None,
                    "norm_op_kwargs": None,
                    "dropout_op": None,
                    "dropout_op_kwargs": None,
                    "nonlin": "torch.nn.LeakyReLU",
                    "nonlin_kwargs": {"inplace": True},
                },
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
            "batch_dice": False,
        }
    },
    "experiment_planner_used": "ExperimentPlanner",
    "label_manager": "LabelManager",
    "foreground_intensity_properties_per_channel": {
        "0": {
            "max": 100.0, "mean": 0.0, "median": 50.0, "min": 0.0, "percentile_00_5": 0.0,
            "percentile_99_5": 100.0, "std": 100.0,
        }
    },
}  # fmt: skip
DATASET = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "ball": 1, "cap": 2},
    "numTraining": 1,
    "file_ending": ".nii.gz",
}


@cache
def nnunet_checkpoint() -> bytes:
    """Return a checkpoint as nnU-Net's trainer saves it; its weights were set by hand."""
    import torch

    with redirect_stdout(io.StringIO()):
        from nnunetv2.training.logging.nnunet_logger import MetaLogger
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
        from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

        said = PLANS["configurations"]["3d_fullres"]["architecture"]
        network = get_network_from_plans(
            said["network_class_name"],
            said["arch_kwargs"],
            said["_kw_requires_import"],
            1,
            3,
            deep_supervision=False,
        )
        weights, biases = (torch.from_numpy(part) for part in balls.kernel())
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()
            middle = (balls.REACH,) * 3
            network.encoder.stages[0][0].convs[0].conv.weight[(0, 0, *middle)] = 1.0
            # The image comes over the skip connection, behind the features from below.
            network.decoder.stages[0].convs[0].conv.weight[:3, 4] = weights[:, 0]
            network.decoder.seg_layers[0].weight[:, :3, 0, 0, 0] = torch.eye(3)
            network.decoder.seg_layers[0].bias.copy_(biases)
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-2, momentum=0.99, nesterov=True)
        logger = MetaLogger("", resume=False)
        logger.log("train_losses", np.float32(0.1), 0)
        logger.log("dice_per_class_or_region", [np.float64(0.9), np.float64(0.8)], 0)
        saved = io.BytesIO()
        nnUNetTrainer.save_checkpoint(
            SimpleNamespace(
                local_rank=0,
                disable_checkpointing=False,
                is_ddp=False,
                network=network,
                optimizer=optimizer,
                grad_scaler=None,
                logger=logger,
                _best_ema=np.float64(0.85),
                current_epoch=0,
                my_init_kwargs={
                    "plans": PLANS,
                    "configuration": "3d_fullres",
                    "fold": 0,
                    "dataset_json": DATASET,
                    "device": torch.device("cpu"),
                },
                inference_allowed_mirroring_axes=None,
                __class__=nnUNetTrainer,
            ),
            saved,
        )
    return saved.getvalue()


def write_nnunet(folder: Path, **changes: bytes) -> Path:
    files = {
        "dataset.json": json.dumps(DATASET).encode(),
        "plans.json": json.dumps(PLANS).encode(),
        "fold_0/checkpoint_final.pth": nnunet_checkpoint(),
    } | changes
    model = f'runtime = "nnunet"\nmirroring = false\n{files_table(files)}'
    return balls.write(folder, files, model, given='orientation = "RAS"', output="")


# --- programs of the site -----------------------------------------------------------------------

_SEES = '''
import numpy as np
import SimpleITK as sitk


def see(image):
    """Label the balls, and their caps on the patient's right, on the image's own grid."""
    turned = sitk.Cast(sitk.DICOMOrient(image, "LPS"), sitk.sitkFloat32)
    x = np.clip(sitk.GetArrayFromImage(turned) / 100.0, 0, 1)
    right = np.zeros_like(x)
    right[:, :, 2:] = x[:, :, :-2]
    logits = np.stack([np.full_like(x, 0.5), x, 1.5 * x - 1.5 * right - 0.25])
    labels = sitk.GetImageFromArray(logits.argmax(axis=0).astype(np.uint8))
    labels.CopyInformation(turned)
    return sitk.Resample(labels, image, sitk.Transform(), sitk.sitkNearestNeighbor)
'''
TOTALSEGMENTATOR = (
    _SEES
    + """
import sys
if "--version" in sys.argv:
    print("TotalSegmentator 9.8.7")
    raise SystemExit
assert "--ml" in sys.argv
source, target = (sys.argv[sys.argv.index(flag) + 1] for flag in ("-i", "-o"))
sitk.WriteImage(see(sitk.ReadImage(source)), target)
"""
)
ENGINE = (
    _SEES
    + """
import os, pathlib, sys
places, variables = {}, {}
for argument in sys.argv:
    if argument.startswith("--volume="):
        host, inside, *_ = argument.removeprefix("--volume=").split(":")
        places[inside] = pathlib.Path(host)
    if argument.startswith("--env="):
        name, _, value = argument.removeprefix("--env=").partition("=")
        variables[name] = value
pathlib.Path(__file__).with_name("arguments").write_text("\\n".join(sys.argv))
given = places[variables["HOLOSCAN_INPUT_PATH"]]
answer = places[variables["HOLOSCAN_OUTPUT_PATH"]]
if (given / "image.nii.gz").exists():
    sitk.WriteImage(see(sitk.ReadImage(str(given / "image.nii.gz"))), str(answer / "seg.nii.gz"))
else:
    import highdicom as hd
    from pydicom import dcmread
    from pydicom.sr.codedict import codes
    files = sorted(given.glob("*.dcm"))
    image = sitk.ReadImage([str(file) for file in files])
    labels = sitk.GetArrayFromImage(see(image))
    described = [
        hd.seg.SegmentDescription(
            number, f"part {number}", codes.SCT.Tissue, codes.SCT.Tissue,
            hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            hd.AlgorithmIdentificationSequence("x", codes.DCM.ArtificialIntelligence, "1"),
        )
        for number in (1, 2)
    ]
    hd.seg.Segmentation(
        [dcmread(file) for file in files], labels, hd.seg.SegmentationTypeValues.BINARY, described,
        hd.UID(), 1, hd.UID(), 1, "m", "m", "1", "1",
    ).save_as(answer / "seg.dcm")
"""
)


def install_program(folder: Path, name: str, source: str) -> Path:
    """Put a program on the path of this host."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text(f"#!{sys.executable}\n{source}")
    program.chmod(0o755)
    return program


def write_totalsegmentator(folder: Path, program: Path, version: str = "9.8.7") -> Path:
    model = f'runtime = "totalsegmentator"\ncommand = "{program}"\nversion = "{version}"'
    return balls.write(folder, {}, model, given="", output="")


def write_container(folder: Path, given: str = "nifti") -> Path:
    model = f'runtime = "container"\nimage = "site/balls@sha256:{"0" * 64}"\ninput = "{given}"'
    return balls.write(folder, {}, model, given="", output="")
