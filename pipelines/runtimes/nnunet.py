"""nnU-Net v2: the folder that ``nnUNetv2_train`` writes, run by nnunetv2's own predictor.

Its ``initialize_from_trained_model_folder`` unpickles the checkpoint and imports what
``plans.json`` names. Here the same objects are made from verified bytes instead: the checkpoint
with ``weights_only=True`` and numpy's scalars as the only further names, the network of classes
on a list; both are handed over by ``manual_initialization``.
"""

from __future__ import annotations

import io
import json
import re
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.runtimes import torch_files
from pipelines.runtimes.model_sections import Nnunet
from pipelines.runtimes.monai_network import fill
from pipelines.runtimes.network import NetworkFault, RuntimeMissing, WeightsRefused, finite
from pipelines.runtimes.prediction import Prediction
from pipelines.runtimes.prepare import laid_over, orient

if TYPE_CHECKING:
    from pipelines.contract import Volume
    from pipelines.runtimes.manifest import Manifest

_ARCHITECTURE = re.compile(r"dynamic_network_architectures\.architectures\.[a-z]\w*\.[A-Z]\w*")
_LAYER = re.compile(r"torch\.nn(\.modules\.[a-z]+)?\.[A-Z]\w*")
"""A class in a module, and no step further: ``torch.nn.modules.module.torch.load`` exists, too."""


class NnunetModel:
    """A predictor with its networks."""

    def __init__(self, predictor: Any, channels: int, orientation: str) -> None:
        self._predictor, self._channels, self._orientation = predictor, channels, orientation

    def read(self, series: tuple[Volume, ...], /) -> Prediction:
        """Return the probability of each label on the grid of the first series.

        Raises:
            CouldNotLook: The series do not show the same part of the body.
            NetworkFault: There are more or fewer than the network has channels, or its numbers
                are none.
        """
        if len(series) != self._channels:
            raise NetworkFault(
                f"dataset.json has {self._channels} channels, pipeline.toml {len(series)} series."
            )
        first = series[0]
        reorder = orient(first.grid, self._orientation)
        array = np.stack([reorder.apply(voxels) for voxels in laid_over(series)])
        spacing_mm = list(reorder.regrid(first.grid).spacing_mm)
        with redirect_stdout(io.StringIO()):  # nnunetv2 prints
            labels, probabilities = self._predictor.predict_single_npy_array(
                np.ascontiguousarray(array, np.float32),
                {"spacing": spacing_mm},
                save_or_return_probabilities=True,
            )
        numbers = finite(probabilities, "probabilities")
        manager = self._predictor.label_manager
        back = np.ascontiguousarray(reorder.undo(np.asarray(labels, np.int32)))
        if manager.has_regions:  # a region's channel is not its label: labels alone are certain
            return Prediction(1 + max(manager.regions_class_order), None, back)
        return Prediction(
            len(numbers), lambda index: np.ascontiguousarray(reorder.undo(numbers[index])), back
        )


def open_network(manifest: Manifest, files: dict[str, bytes]) -> NnunetModel:
    """Make the predictor.

    Raises:
        WeightsRefused: A file would run code, or names a class that is not on the list.
        RuntimeMissing: nnunetv2, torch or the device is missing.
    """
    stated = manifest.model
    if not isinstance(stated, Nnunet):
        raise TypeError(stated.runtime)
    on = torch_files.device(stated.device)
    checkpoints = [
        _checkpoint(files[path], path)
        for path in (f"fold_{fold}/{stated.checkpoint}" for fold in stated.folds)
    ]
    dataset, plans = (_json(files[name], name) for name in ("dataset.json", "plans.json"))
    configuration = str(checkpoints[0]["init_args"]["configuration"])
    try:
        with redirect_stdout(io.StringIO()):  # it prints that its environment is not set up
            predictor, channels = _open(stated, checkpoints, dataset, plans, configuration, on)
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise WeightsRefused(
            f"plans.json or dataset.json is not as nnU-Net v2 writes it: {type(error).__name__}."
        ) from None
    return NnunetModel(predictor, channels, str(manifest.input.orientation))


def _open(  # noqa: PLR0913, PLR0917 - the parts of one folder
    stated: Nnunet,
    checkpoints: list[dict[str, Any]],
    dataset: dict[str, Any],
    plans: dict[str, Any],
    configuration_name: str,
    on: Any,
) -> tuple[Any, int]:
    """Return nnunetv2's predictor, and how many channels it takes."""
    nnunet = _nnunetv2()
    plans_manager = nnunet.PlansManager(plans)
    configuration = plans_manager.get_configuration(configuration_name)
    if configuration.previous_stage_name is not None:
        raise WeightsRefused("A cascade needs the stage before it; train or export '3d_fullres'.")
    _check_architecture(configuration)
    channels = len(dataset.get("channel_names") or dataset["modality"])
    heads = plans_manager.get_label_manager(dataset).num_segmentation_heads
    network = nnunet.get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        channels,
        heads,
        allow_init=False,
        deep_supervision=False,
    )
    weights = [checkpoint["network_weights"] for checkpoint in checkpoints]
    for fold, state in zip(stated.folds, weights, strict=True):
        fill(network, state, f"fold_{fold}")
    predictor = nnunet.nnUNetPredictor(
        use_mirroring=stated.mirroring,
        perform_everything_on_device=on.type == "cuda",
        device=on,
        allow_tqdm=False,
    )
    predictor.manual_initialization(
        network.to(on).eval(),
        plans_manager,
        configuration,
        weights,
        dataset,
        str(checkpoints[0]["trainer_name"]),
        checkpoints[0].get("inference_allowed_mirroring_axes"),
    )
    return predictor, channels


def _checkpoint(content: bytes, path: str) -> dict[str, Any]:
    """Return a checkpoint, whose log and best score hold numpy scalars beside the tensors."""
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]  # noqa: SLF001
    safe = [
        scalar,
        (scalar, "numpy.core.multiarray.scalar"),  # as numpy 1 named it
        np.dtype,
        *(type(np.dtype(name)) for name in ("f2", "f4", "f8", "i4", "i8", "u1", "?")),
    ]
    checkpoint = torch_files.weights(content, path, safe)
    needed = {"network_weights", "init_args", "trainer_name"}
    if not isinstance(checkpoint, dict) or not needed <= checkpoint.keys():
        raise WeightsRefused(f"{path} is no checkpoint of nnU-Net v2.")
    return checkpoint


def _check_architecture(configuration: Any) -> None:
    """Refuse names in ``plans.json`` that nnunetv2 would import: it imports whatever they say."""
    named = configuration.network_arch_class_name
    arguments = configuration.network_arch_init_kwargs
    imported = [arguments[key] for key in configuration.network_arch_init_kwargs_req_import]
    bad = [] if _ARCHITECTURE.fullmatch(str(named)) else [named]
    bad += [name for name in imported if name is not None and not _LAYER.fullmatch(str(name))]
    if bad:
        raise WeightsRefused(
            f"plans.json names {bad[0]!r}, which is neither an architecture of nnU-Net "
            "(dynamic_network_architectures.architectures...) nor a layer of torch.nn."
        )


def _json(content: bytes, path: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError:
        raise WeightsRefused(f"{path} is no JSON.") from None
    if not isinstance(value, dict):
        raise WeightsRefused(f"{path} is not as nnU-Net v2 writes it.")
    return value


class _Nnunetv2:
    """The three things of nnunetv2 that are used."""

    def __init__(self) -> None:
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # noqa: PLC0415
        from nnunetv2.utilities.get_network_from_plans import (  # noqa: PLC0415
            get_network_from_plans,
        )
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: PLC0415

        self.nnUNetPredictor: Any = nnUNetPredictor
        self.get_network_from_plans: Any = get_network_from_plans
        self.PlansManager: Any = PlansManager


def _nnunetv2() -> _Nnunetv2:
    try:
        return _Nnunetv2()
    except ImportError:
        raise RuntimeMissing("nnU-Net is not installed: pip install 'radnode[nnunet]'") from None
