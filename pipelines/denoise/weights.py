"""The weights beside a pipeline, read only if they are those that were measured."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from safetensors.torch import load

from pipelines.denoise.networks import NETWORKS

if TYPE_CHECKING:
    from pathlib import Path

    import torch


def load_network(path: Path, name: str, sha256: str) -> torch.nn.Module:
    """Return a network in evaluation mode.

    Args:
        path: Its weights, as safetensors.
        name: Of the network: ``cnn`` or ``vae``.
        sha256: Of the file (hex).

    Raises:
        RuntimeError: The file is another one, or there is none.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RuntimeError(
            f"The weights {path.name} are not installed. Install radnode again."
        ) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise RuntimeError(
            f"The weights {path.name} are not those this pipeline was measured with: their "
            "SHA-256 differs. Install radnode again."
        )
    network = NETWORKS[name]()
    network.load_state_dict(load(content))
    return network.eval()
