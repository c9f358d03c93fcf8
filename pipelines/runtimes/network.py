"""The seam between a runtime and everything else: numbers in, numbers out; and its files.

A runtime is a module with one function ``open_network``. It gets the bytes of its files, which
were read once and compared with their digests: what is run is what was checked.
"""

from __future__ import annotations

import hashlib
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from pipelines.contract import Volume
    from pipelines.runtimes.manifest import Manifest
    from pipelines.runtimes.prediction import Prediction

    Floats = npt.NDArray[np.float32]


class WeightsRefused(RuntimeError):
    """A file of a model is not the one its manifest names, or not one that is safe to load."""


class RuntimeMissing(RuntimeError):
    """What runs this kind of model is not installed; the message says how to get it."""


class NetworkFault(RuntimeError):
    """A network gave what cannot be a result: wrong shapes, or numbers that are none."""


class Network(Protocol):
    """A network that takes what this package prepared."""

    def predict(self, batch: Floats, /) -> tuple[Floats, ...]:
        """Return the network's output tensors.

        Args:
            batch: Shape (n, channels, *spatial), or (n, leads, samples).
        """


@runtime_checkable
class SeriesModel(Protocol):
    """A model that prepares images itself and answers on their own grid."""

    def read(self, series: tuple[Volume, ...], /) -> Prediction:
        """Return what the model sees in series, the answer lying on the first one."""


_MODULES = {
    "onnx": "onnx",
    "torchscript": "torchscript",
    "safetensors": "monai_network",
    "monai-bundle": "monai_bundle",
    "nnunet": "nnunet",
    "totalsegmentator": "totalsegmentator",
    "container": "container",
}


def open_network(manifest: Manifest, folder: Path) -> Network | SeriesModel:
    """Load a model, verified by digest.

    Raises:
        WeightsRefused: A file is not the one that the manifest names, or not safe to load.
        RuntimeMissing: What runs it is not installed.
    """
    files = verified(folder, manifest.model.digests)
    # A site that runs ONNX needs no torch: each runtime is imported when it is used.
    module = import_module(f"pipelines.runtimes.{_MODULES[manifest.model.runtime]}")
    opened: Network | SeriesModel = module.open_network(manifest, files)
    return opened


def verified(folder: Path, digests: Mapping[str, str]) -> dict[str, bytes]:
    """Return the bytes of files, each compared with its SHA-256.

    Raises:
        WeightsRefused: One is gone, lies outside of the folder, or is another one.
    """
    inside = folder.resolve()
    contents = {}
    for path, digest in digests.items():
        target = (folder / path).resolve()
        if not target.is_relative_to(inside):
            raise WeightsRefused(f"{path} leads out of the model's folder.")
        try:
            contents[path] = target.read_bytes()
        except OSError:
            raise WeightsRefused(f"{path} is not in the model's folder, or not readable.") from None
        found = hashlib.sha256(contents[path]).hexdigest()
        if found != digest:
            raise WeightsRefused(
                f"{path} has the SHA-256 {found[:16]}..., not {digest[:16]}... as pipeline.toml "
                "says. Get the file again, or state the new digest once you know why it changed."
            )
    return contents


def finite(array: npt.NDArray[np.generic], what: str) -> Floats:
    """Return an output of a network as float32.

    Raises:
        NetworkFault: It has a number that is none.
    """
    numbers = np.asarray(array, np.float32)
    if not np.isfinite(numbers).all():
        raise NetworkFault(f"The network gave {what} with NaN or infinity in it.")
    return numbers
