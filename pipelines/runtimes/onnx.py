"""ONNX graphs, by onnxruntime. A graph is data: nothing of it is Python."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.runtimes.model_sections import Onnx
from pipelines.runtimes.network import NetworkFault, RuntimeMissing, WeightsRefused

if TYPE_CHECKING:
    import numpy.typing as npt

    from pipelines.runtimes.manifest import Manifest

    Floats = npt.NDArray[np.float32]

_EXTERNAL = b"\x0a\x08location\x12"
"""How a TensorProto writes the key "location" of external_data (onnx.proto, field 13). Such a
graph reads further files, which no digest covers."""
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


class OnnxNetwork:
    """A session of onnxruntime."""

    def __init__(self, graph: bytes, stated: Onnx) -> None:
        ort = _onnxruntime()
        options = ort.SessionOptions()
        options.use_deterministic_compute = True
        # Its own threads heed no environment: without this, every process would take all cores.
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)
        options.log_severity_level = 3
        options.add_session_config_entry("session.load_model_format", "ONNX")
        try:
            self._session = ort.InferenceSession(graph, options, _providers(ort, stated.device))
        except _faults() as error:
            raise WeightsRefused(
                f"{stated.file} is no ONNX graph that runs here: {error}"
            ) from None
        inputs = {one.name: one for one in self._session.get_inputs()}
        outputs = [one.name for one in self._session.get_outputs()]
        name = stated.input or next(iter(inputs), "")
        if name not in inputs or (len(inputs) > 1 and not stated.input):
            raise WeightsRefused(f"model.input: state one of {', '.join(inputs)}.")
        self._name, self._type = name, _TYPES.get(inputs[name].type)
        self._one_by_one = inputs[name].shape[:1] == [1]
        self._outputs = list(stated.outputs) or outputs
        unknown = sorted(set(self._outputs) - set(outputs))
        if unknown:
            raise WeightsRefused(
                f"model.outputs: the graph has no {', '.join(unknown)}, but {', '.join(outputs)}."
            )
        if self._type is None:
            raise WeightsRefused(f"The graph takes {inputs[name].type}; floating point is needed.")

    def predict(self, batch: Floats, /) -> tuple[Floats, ...]:
        """Return the named outputs, or all in the graph's order."""
        groups = [batch[n : n + 1] for n in range(len(batch))] if self._one_by_one else [batch]
        answers = [self._run(group) for group in groups]
        if len(answers) == 1:
            return answers[0]
        return tuple(np.concatenate(parts) for parts in zip(*answers, strict=True))

    def _run(self, batch: Floats) -> tuple[Floats, ...]:
        try:
            arrays = self._session.run(self._outputs, {self._name: batch.astype(self._type)})
        except _faults() as error:
            raise NetworkFault(
                f"onnxruntime could not run the graph on an array of {batch.shape}: {error}"
            ) from None
        return tuple(np.asarray(array) for array in arrays)


def open_network(manifest: Manifest, files: dict[str, bytes]) -> OnnxNetwork:
    """Load a graph.

    Raises:
        WeightsRefused: It reads further files, or is no graph that runs here.
        RuntimeMissing: onnxruntime is not installed, or there is no such device.
    """
    stated = manifest.model
    if not isinstance(stated, Onnx):
        raise TypeError(stated.runtime)
    graph = files[stated.file]
    if _EXTERNAL in graph:
        raise WeightsRefused(
            f"{stated.file} keeps weights in further files, which its digest does not cover. "
            "Save it as one file: onnx.save(model, path, save_as_external_data=False)."
        )
    return OnnxNetwork(graph, stated)


def _onnxruntime() -> Any:
    try:
        import onnxruntime  # noqa: PLC0415 - listing the pipelines must stay cheap
    except ImportError:
        raise RuntimeMissing(
            "onnxruntime is not installed: pip install 'radnode[models]'"
        ) from None
    return onnxruntime


def _faults() -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises: classes of its C++ module that share no base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415 - as above

    own = (one for one in vars(state).values() if isinstance(one, type))
    return (*(one for one in own if issubclass(one, Exception)), RuntimeError, ValueError)


def _providers(ort: Any, device: str) -> list[str]:
    has_cuda = "CUDAExecutionProvider" in ort.get_available_providers()
    if device == "cuda" and not has_cuda:
        raise RuntimeMissing("This onnxruntime has no CUDA: pip install onnxruntime-gpu")
    cuda = ["CUDAExecutionProvider"] if has_cuda and device != "cpu" else []
    return [*cuda, "CPUExecutionProvider"]
