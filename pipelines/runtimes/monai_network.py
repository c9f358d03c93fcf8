"""Weights in safetensors, and the architecture by name from MONAI's zoo: a closed list.

No class is imported by a path that a file states: what is not in the list does not exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pipelines.runtimes import torch_files
from pipelines.runtimes.model_sections import Safetensors
from pipelines.runtimes.network import RuntimeMissing, WeightsRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.runtimes.manifest import Manifest
    from pipelines.runtimes.torch_files import TorchNetwork

NETWORKS: Final = frozenset(
    {
        "AttentionUnet", "AutoEncoder", "BasicUNet", "BasicUNetPlusPlus", "Classifier",
        "DenseNet", "DenseNet121", "DenseNet169", "DenseNet201", "DenseNet264", "DynUNet",
        "EfficientNetBN", "FlexibleUNet", "FullyConnectedNet", "HighResNet", "Regressor",
        "ResNet", "SEResNet50", "SEResNet101", "SegResNet", "SegResNetDS", "SegResNetVAE",
        "SwinUNETR", "UNETR", "UNet", "VNet", "VarAutoEncoder", "ViT",
    }
)  # fmt: skip
"""Classes of ``monai.networks.nets`` that a manifest may name."""


def open_network(manifest: Manifest, files: dict[str, bytes]) -> TorchNetwork:
    """Build a network and fill it; every weight must have its place, and every place its weight.

    Raises:
        WeightsRefused: The architecture is unknown, or the weights are another one's.
        RuntimeMissing: MONAI, torch or the device is missing.
    """
    stated = manifest.model
    if not isinstance(stated, Safetensors):
        raise TypeError(stated.runtime)
    on = torch_files.device(stated.device)
    module = build(stated.network)
    fill(module, torch_files.safetensors(files[stated.file], stated.file), stated.file)
    return torch_files.TorchNetwork(module.to(on).eval(), on, stated.outputs, stated.precision)


def build(network: Mapping[str, Any]) -> Any:
    """Return a network of the list, with random weights. TOML has no null: write "none".

    Raises:
        WeightsRefused: There is no such network, or it does not take these arguments.
        RuntimeMissing: MONAI is not installed.
    """
    arguments = {key: None if value == "none" else value for key, value in network.items()}
    name = arguments.pop("name", None)
    if name not in NETWORKS:
        raise WeightsRefused(
            f"model.network.name: {name!r} is none of {', '.join(sorted(NETWORKS))}."
        )
    if arguments.pop("pretrained", False):
        raise WeightsRefused("model.network.pretrained: weights come from the file alone.")
    try:
        from monai.networks import nets  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        raise RuntimeMissing("MONAI is not installed: pip install 'radnode[monai]'") from None
    if name in ("FlexibleUNet", "EfficientNetBN"):
        arguments["pretrained"] = False
    try:
        return getattr(nets, name)(**arguments)
    except (TypeError, ValueError, AttributeError, NotImplementedError) as error:
        raise WeightsRefused(
            f"model.network: {name} does not take these arguments: {error}"
        ) from None


def fill(module: Any, state: Any, path: str) -> None:
    """Give a network its weights.

    Raises:
        WeightsRefused: They are another network's.
    """
    if not isinstance(state, dict):
        raise WeightsRefused(f"{path} holds no weights by name (state_dict).")
    try:
        module.load_state_dict(state, strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        first = str(error).split("\n\t")[1:2] or [str(error)[:200]]
        raise WeightsRefused(f"{path} holds the weights of another network: {first[0]}") from None
