"""What all runtimes of torch share: the device, and archives that cannot run code.

A torch archive is a zip with a pickle in it. ``weights_only=True`` reads that with a machine of
its own, which knows tensors and plain containers and calls nothing else (CVE-2025-32434: from
torch 2.6 on). A TorchScript archive is a program in a language of its own, without Python.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.runtimes.network import NetworkFault, RuntimeMissing, WeightsRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pipelines.runtimes.window import Windows

    Floats = npt.NDArray[np.float32]

_SLACK_BYTES = 256 * 1024 * 1024
"""torch stores tensors as they are; only code and names are packed. What unpacks to more than this
above its own size was made to fill the memory."""
_DAMAGED = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a reader of pickles may stumble over; nothing is unpickled here but by torch's own."""
_FILE_OPERATIONS = (b"from_file(", b"torch.save(", b"torch.load(", b"_save_to(")
"""Operators by which TorchScript could reach the disk (aten::from_file, aten::save)."""


def torch_module() -> Any:
    """Return torch.

    Raises:
        RuntimeMissing: It is not installed.
    """
    try:
        import torch  # noqa: PLC0415 - listing the pipelines must stay cheap
    except ImportError:
        raise RuntimeMissing("torch is not installed: pip install 'radnode[models]'") from None
    return torch


def device(stated: str) -> Any:
    """Return the device that a manifest asks for.

    Raises:
        RuntimeMissing: It asks for a graphics card and there is none.
    """
    torch = torch_module()
    if stated == "cuda" and not torch.cuda.is_available():
        raise RuntimeMissing('device = "cuda", but torch sees no graphics card here.')
    return torch.device("cuda" if stated != "cpu" and torch.cuda.is_available() else "cpu")


def script(content: bytes, path: str, on: Any) -> Any:
    """Return a TorchScript program.

    Raises:
        WeightsRefused: It is none, reaches for files, or unpacks to far more than its size.
    """
    torch = torch_module()
    for name, text in _members(content, path, suffix=".py"):
        if any(operation in text for operation in _FILE_OPERATIONS):
            raise WeightsRefused(f"{path} reads or writes files ({name}); a network does not.")
    try:
        return torch.jit.load(io.BytesIO(content), map_location=on).eval()
    except RuntimeError:
        raise WeightsRefused(
            f"{path} is no TorchScript archive. Save it with torch.jit.save(); weights alone go as "
            'safetensors with runtime = "safetensors".'
        ) from None


def weights(content: bytes, path: str, safe: Sequence[Any] = ()) -> Any:
    """Return what a torch archive holds, or a safetensors file.

    Args:
        content: Of the file.
        path: Its name, for the message.
        safe: Further classes that its pickle may name.

    Raises:
        WeightsRefused: It would run code, is damaged, or unpacks to far more than its size.
    """
    torch = torch_module()
    if path.endswith(".safetensors"):
        return safetensors(content, path)
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise WeightsRefused(f"{path} is no torch archive (zip). Save it with torch.save().")
    list(_members(content, path, suffix=".never"))
    try:
        with torch.serialization.safe_globals(list(safe)):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except _DAMAGED:  # their text quotes the pickle
        raise WeightsRefused(
            f"{path} holds more than tensors, numbers and names, or is damaged: it is not loaded. "
            "Save the state_dict() alone, best as safetensors."
        ) from None


def safetensors(content: bytes, path: str) -> Any:
    """Return the tensors of a safetensors file.

    Raises:
        WeightsRefused: It is none.
    """
    import safetensors.torch as st  # noqa: PLC0415 - it imports torch
    from safetensors import SafetensorError  # noqa: PLC0415

    try:
        return st.load(content)
    except SafetensorError:
        raise WeightsRefused(f"{path} is no safetensors file.") from None


def tensors(answer: Any, keys: Sequence[str]) -> tuple[Floats, ...]:
    """Return a module's answer as arrays: of a dictionary those of ``keys``, of a list all.

    Raises:
        NetworkFault: It is neither tensor, nor list or dictionary of tensors.
    """
    return tuple(one.detach().cpu().float().numpy() for one in chosen(answer, keys))


def chosen(answer: Any, keys: Sequence[str]) -> Sequence[Any]:
    """Return the tensors of a module's answer: of a dictionary those of ``keys``, of a list all.

    Raises:
        NetworkFault: It is neither tensor, nor list or dictionary of tensors.
    """
    torch = torch_module()
    if isinstance(answer, (list, tuple)) and len(answer) == 1 and isinstance(answer[0], dict):
        answer = answer[0]  # torchvision's detectors answer one dictionary for each image
    if isinstance(answer, dict):
        missing = [key for key in keys if key not in answer]
        if missing or not keys:
            raise NetworkFault(f"model.outputs: state which of {', '.join(map(str, answer))}.")
        answer = [answer[key] for key in keys]
    found = answer if isinstance(answer, (list, tuple)) else [answer]
    if not found or not all(isinstance(one, torch.Tensor) for one in found):
        raise NetworkFault("The network answered with something else than tensors.")
    return found


class TorchNetwork:
    """A module of torch that takes and gives arrays."""

    def __init__(
        self, module: Any, on: Any, keys: Sequence[str] = (), precision: str = "float32"
    ) -> None:
        # It imports torch, which a host that lists pipelines may lack.
        from pipelines.runtimes.sliding_window import SlidingNetwork, autocast  # noqa: PLC0415

        self._module, self.device, self._keys = module, on, tuple(keys)
        self._autocast = autocast(on, precision)
        self._sliding = SlidingNetwork(self._called, on, precision)

    def predict(self, batch: Floats, /) -> tuple[Floats, ...]:
        """Return the module's tensors.

        Raises:
            NetworkFault: It cannot take such an array.
        """
        torch = torch_module()
        given = torch.from_numpy(np.ascontiguousarray(batch, np.float32)).to(self.device)
        with torch.inference_mode(), self._autocast:
            answer = self._run(given)
        return tensors(answer, self._keys)

    def blend(self, array: Floats, to: Windows, batch: int, *, fill: bool) -> Floats:
        """Return the weighted mean of the module's answers to windows, blended on its device.

        Raises:
            NetworkFault: It cannot take such windows, or answers with what cannot be put there.
        """
        image = torch_module().from_numpy(np.ascontiguousarray(array, np.float32))
        blended: Floats = self._sliding.blend(image, to, batch, fill=fill).numpy()
        return blended

    def _run(self, given: Any) -> Any:
        try:
            return self._module(given)
        except RuntimeError as error:
            if "out of memory" in str(error).lower():
                raise
            shape = tuple(given.shape)
            raise NetworkFault(f"The network cannot take an array of {shape}.") from None

    def _called(self, given: Any) -> Any:
        """Return the first of the tensors that the manifest names."""
        return chosen(self._run(given), self._keys)[0]

    def answer(self, given: Any) -> Any:
        """Return the module's first tensor for a tensor, with what gradients need.

        Raises:
            NetworkFault: The module gives no tensor.
        """
        answer = self._module(given)
        if isinstance(answer, dict):
            answer = answer[self._keys[0]] if self._keys else next(iter(answer.values()))
        elif isinstance(answer, (tuple, list)):
            answer = answer[0]
        if not isinstance(answer, torch_module().Tensor):
            raise NetworkFault("The network gives no tensor.")
        return answer


def _members(content: bytes, path: str, suffix: str) -> list[tuple[str, bytes]]:
    """Return the files of an archive that end so; refuse one that unpacks to far too much."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > len(content) + _SLACK_BYTES:
                raise WeightsRefused(f"{path} unpacks to far more than its size; no model does.")
            names = [entry for entry in entries if entry.filename.endswith(suffix)]
            return [(entry.filename, archive.read(entry)) for entry in names]
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError):
        raise WeightsRefused(f"{path} is no archive that torch writes, or damaged.") from None
