"""TorchScript archives (``torch.jit.save``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.runtimes import torch_files
from pipelines.runtimes.model_sections import TorchScript

if TYPE_CHECKING:
    from pipelines.runtimes.manifest import Manifest
    from pipelines.runtimes.torch_files import TorchNetwork


def open_network(manifest: Manifest, files: dict[str, bytes]) -> TorchNetwork:
    """Load a program.

    Raises:
        WeightsRefused: It is no TorchScript, or reaches for files.
        RuntimeMissing: torch or the device is missing.
    """
    stated = manifest.model
    if not isinstance(stated, TorchScript):
        raise TypeError(stated.runtime)
    on = torch_files.device(stated.device)
    module = torch_files.script(files[stated.file], stated.file, on)
    return torch_files.TorchNetwork(module, on, stated.outputs, stated.precision)
