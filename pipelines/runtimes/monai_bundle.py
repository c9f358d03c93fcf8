"""MONAI bundles: the folder that ``monai.bundle`` writes, run without what could run anything.

Of its inference config the network, preprocessing, inferer and postprocessing are made, by
``monai.bundle.ConfigParser``, after ``bundle_guard`` admitted them. Reading and writing of files
are ours; the decision (``AsDiscreted``) and what follows it are replaced by the manifest's
``[output]``, so that labels are made on the study's own grid from probabilities.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.runtimes import torch_files
from pipelines.runtimes.boxes import Box, Found, place_boxes
from pipelines.runtimes.bundle_guard import admitted
from pipelines.runtimes.model_sections import MonaiBundle
from pipelines.runtimes.monai_network import fill
from pipelines.runtimes.network import NetworkFault, RuntimeMissing, WeightsRefused, finite
from pipelines.runtimes.prediction import Prediction, activated, exclusive
from pipelines.runtimes.prepare import grid_of, laid_over, orient, ras_affine, resample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.contract import Grid, Volume
    from pipelines.geometry import Reorder
    from pipelines.runtimes.manifest import Manifest

_IMAGE, _ANSWER = "image", "pred"
_UNUSABLE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What MONAI raises for arguments that a class does not take."""
_WITHIN = ("model", "state_dict", "network")
"""Names under which checkpoints keep the weights (monai.handlers.CheckpointSaver)."""


class BundleModel:
    """The parts of one bundle."""

    def __init__(
        self, parts: _Parts, manifest: Manifest, on: Any, precision: str = "float32"
    ) -> None:
        self._parts, self._manifest, self._device = parts, manifest, on
        self._precision = precision
        if manifest.task == "segmentation":
            from pipelines.runtimes.monai_inferer import BundleInferer  # noqa: PLC0415 - as below

            self._infer = BundleInferer(parts.inferer, parts.network, on, precision)

    def read(self, series: tuple[Volume, ...], /) -> Prediction:
        """Return what the bundle says of each voxel of the first series.

        Raises:
            CouldNotLook: The series do not show the same part of the body.
            NetworkFault: Its answer cannot be one.
        """
        torch = torch_files.torch_module()
        image, reorder, turned = self._prepared(series)
        with torch.inference_mode():
            answer = self._infer(image[_IMAGE].as_tensor())
            answer = answer[0] if isinstance(answer, (list, tuple)) else answer
            image[_ANSWER] = _as_meta(answer[0].cpu().float(), image[_IMAGE].cpu())
            answered = self._parts.postprocessing(image)[_ANSWER]
        numbers = finite(np.asarray(answered.cpu().numpy()), "a segmentation")
        if not self._parts.has_activation:
            numbers = activated(numbers, self._manifest.output.activation, 0)
        first = series[0].grid
        lies = grid_of(np.asarray(answered.affine.cpu().numpy()), numbers.shape[1:])

        def probability(index: int) -> Any:
            if numbers.shape[1:] == turned.shape and np.allclose(lies.affine, turned.affine):
                return np.ascontiguousarray(reorder.undo(numbers[index]))
            return resample(numbers[index], lies, first)

        if self._parts.is_exclusive:
            return exclusive(len(numbers), probability)
        return Prediction(len(numbers), probability, None)

    def boxes(self, series: tuple[Volume, ...], /) -> tuple[Box, ...]:
        """Return what the bundle's detector found, in the first series.

        Raises:
            CouldNotLook: The series do not show the same part of the body.
            NetworkFault: Its answer cannot be one.
        """
        torch = torch_files.torch_module()
        from pipelines.runtimes.sliding_window import autocast  # noqa: PLC0415 - it imports torch

        image, _, _ = self._prepared(series)
        detector = self._parts.detector
        given = image[_IMAGE]
        with torch.inference_mode(), autocast(self._device, self._precision):
            plain = given.as_tensor().to(self._device)
            (answer,) = detector([plain], use_inferer=detector.inferer is not None)
        places = finite(answer[detector.target_box_key].cpu().numpy(), "boxes").astype(float)
        scores = finite(answer[detector.pred_score_key].cpu().numpy(), "scores").astype(float)
        kinds = answer[detector.target_label_key].cpu().numpy().astype(np.int64)
        lies = grid_of(np.asarray(given.affine.cpu().numpy()), tuple(given.shape[1:]))
        back = np.linalg.inv(series[0].grid.affine) @ lies.affine
        found = Found(places.reshape(-1, 2, 3), scores, kinds)
        return place_boxes(
            found,
            lambda index: index @ back[:3, :3].T + back[:3, 3],
            series[0].grid.shape,
            None,
            self._manifest,
        )

    def _prepared(self, series: tuple[Volume, ...]) -> tuple[dict[str, Any], Reorder, Grid]:
        from monai.data.meta_tensor import MetaTensor  # noqa: PLC0415 - an extra, and slow to import

        torch = torch_files.torch_module()
        first = series[0]
        reorder = orient(first.grid, self._manifest.input.orientation or "RAS")
        turned = reorder.regrid(first.grid)
        channels = [np.ascontiguousarray(reorder.apply(one)) for one in laid_over(series)]
        array = torch.from_numpy(np.stack(channels).astype(np.float32))
        # As LoadImaged gives it, of one file and of a list of files.
        several = len(channels) > 1
        meta = {
            "original_channel_dim": 0 if several else "no_channel",
            "spatial_shape": np.array(turned.shape),
            "original_affine": ras_affine(turned),
            "space": "RAS",
        }
        image = MetaTensor(
            array if several else array[0], affine=torch.from_numpy(ras_affine(turned)), meta=meta
        )
        return self._parts.preprocessing({_IMAGE: image}), reorder, turned


class _Parts:
    """What was made of the config."""

    def __init__(self, parser: Any, task: str, *, has_activation: bool, is_exclusive: bool) -> None:
        self.preprocessing = parser.get_parsed_content("preprocessing")
        self.network = parser.get_parsed_content("network_def").eval()
        self.has_activation, self.is_exclusive = has_activation, is_exclusive
        if task == "detection":
            self.detector = parser.get_parsed_content("detector").eval()
            parser.get_parsed_content("detector_ops")
        else:
            self.inferer = parser.get_parsed_content("inferer")
            self.postprocessing = parser.get_parsed_content("postprocessing")


def open_network(manifest: Manifest, files: dict[str, bytes]) -> BundleModel:
    """Make the parts of a bundle.

    Raises:
        WeightsRefused: Its config would run what is not on the list, or its weights are not its
            network's.
        RuntimeMissing: MONAI, torch or the device is missing.
    """
    stated = manifest.model
    if not isinstance(stated, MonaiBundle):
        raise TypeError(stated.runtime)
    on = torch_files.device(stated.device)
    config = _config(files[stated.config], stated.config)
    decision = _cut_at_decision(config)
    is_script = stated.weights.endswith(".ts")
    wanted = ["preprocessing", "network_def"]
    detects = manifest.task == "detection"
    wanted += ["detector", "detector_ops"] if detects else ["inferer", "postprocessing"]
    given: dict[str, Any] = {"device": str(on)}
    if is_script and detects:
        raise WeightsRefused("A detector is made of its config: state the model.pt as weights.")
    if is_script:
        given["network_def"] = {"_target_": "torch.nn.Identity"}  # its place is taken below
    if not detects:
        _require_decision(decision, manifest)
    _require_orientation(config, manifest)
    parts = _parts(admitted(config, wanted, given), manifest, decision)
    if is_script:
        parts.network = torch_files.script(files[stated.weights], stated.weights, on)
    else:
        fill(parts.network, _state(files[stated.weights], stated.weights), stated.weights)
        parts.network.to(on)
    return BundleModel(parts, manifest, on, stated.precision)


def _parts(sections: dict[str, Any], manifest: Manifest, decision: dict[str, Any]) -> _Parts:
    try:
        from monai.bundle.config_parser import ConfigParser  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        raise RuntimeMissing("MONAI is not installed: pip install 'radnode[monai]'") from None
    activation = manifest.output.activation
    has_activation = any(name.startswith("Activations") for name in _names(sections))
    try:
        return _Parts(
            ConfigParser(sections),
            manifest.task,
            has_activation=has_activation,
            is_exclusive=bool(decision.get("argmax")) or activation == "softmax",
        )
    except ImportError as error:
        raise RuntimeMissing(f"The bundle needs what is not installed: {error}") from None
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise WeightsRefused(f"The bundle's config cannot be used: {error}") from None


def _cut_at_decision(config: dict[str, Any]) -> dict[str, Any]:
    """Take the decision and all after it out of the postprocessing; return the decision."""
    after = config.get("postprocessing")
    transforms = after.get("transforms") if isinstance(after, dict) else None
    if not isinstance(after, dict) or not isinstance(transforms, list):
        return {}
    for at, transform in enumerate(transforms):
        name = _name(transform) if isinstance(transform, dict) else ""
        if name.startswith("Invert"):
            transform["nearest_interp"] = False  # these are probabilities: linear
        if name.startswith("AsDiscrete"):
            config["postprocessing"] = {**after, "transforms": transforms[:at]}
            return dict(transform)
    return {}


def _require_decision(decision: dict[str, Any], manifest: Manifest) -> None:
    """Refuse a bundle whose own decision is another one than that of ``[output]``."""
    output, threshold = manifest.output, decision.get("threshold")
    if not decision and output.activation not in ("softmax", "sigmoid"):
        raise WeightsRefused(
            "The bundle's postprocessing has no AsDiscreted: state output.activation, "
            '"softmax" (one label a voxel) or "sigmoid" (labels apart).'
        )
    stated = "threshold" in output.model_fields_set
    if isinstance(threshold, (int, float)) and not stated and threshold != output.threshold:
        raise WeightsRefused(f"The bundle decides at {threshold}: state output.threshold.")


def _require_orientation(config: dict[str, Any], manifest: Manifest) -> None:
    if manifest.input.orientation is not None:
        return
    if not any(name.startswith("Orientation") for name in _names(config.get("preprocessing"))):
        raise WeightsRefused(
            "The bundle's preprocessing has no Orientationd: state how its training images lay as "
            'input.orientation in pipeline.toml, such as "RAS".'
        )


def _names(value: Any) -> Sequence[str]:
    """Return the class names of all components in a part of a config."""
    if isinstance(value, dict):
        own = [_name(value)] if "_target_" in value else []
        return [*own, *(name for one in value.values() for name in _names(one))]
    if isinstance(value, list):
        return [name for one in value for name in _names(one)]
    return []


def _name(component: dict[str, Any]) -> str:
    return str(component.get("_target_", "")).rpartition(".")[2]


def _config(content: bytes, path: str) -> dict[str, Any]:
    try:
        config = json.loads(content)
    except (ValueError, RecursionError):
        raise WeightsRefused(f"{path} is no JSON; a bundle's YAML can be saved as JSON.") from None
    if not isinstance(config, dict):
        raise WeightsRefused(f"{path} is no bundle's config.")
    return config


def _state(content: bytes, path: str) -> Any:
    state = torch_files.weights(content, path)
    for key in _WITHIN:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            return state[key]
    return state


def _as_meta(answer: Any, image: Any) -> Any:
    """Return the network's answer with the place of its image, as MONAI's evaluator does."""
    from monai.data.meta_tensor import MetaTensor  # noqa: PLC0415 - an extra, and slow to import

    if answer.shape[1:] != image.shape[1:]:
        raise NetworkFault(
            f"The bundle answered an image of {tuple(image.shape)} with {tuple(answer.shape)}."
        )
    plain = answer.as_tensor() if isinstance(answer, MetaTensor) else answer
    return MetaTensor(plain, affine=image.affine, meta=dict(image.meta))
