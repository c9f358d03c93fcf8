"""openecg's codec on ONNX Runtime: ten seconds of one lead in, labels for every sample out."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.ecg_atrial_fibrillation.windows import WINDOW

WEIGHTS = "openecg/models/codec_v6_int8.onnx"
WEIGHTS_SHA256 = "640d2d13fbf71065b38cd999177ec294fafd532d608662f705cfb8c485e951f8"


class Rhythm(enum.IntEnum):
    """Classes of the rhythm head, in its order (openecg 0.11.0, ``layered.py``)."""

    SINUS = 0
    AV_BLOCK = 1
    PACED = 2
    ATRIAL_FIBRILLATION = 3
    BUNDLE_BRANCH_BLOCK = 4
    VENTRICULAR = 5


class Wave(enum.IntEnum):
    """Classes of the frame head, in its order."""

    OTHER = 0
    P = 1
    QRS = 2
    T = 3


@dataclass(frozen=True)
class Reading:
    """What the codec says of each sample of a window.

    Attributes:
        rhythm: Probability of each ``Rhythm``, float32, shape (samples, 6).
        waves: ``Wave`` of each sample, uint8, shape (samples,).
    """

    rhythm: npt.NDArray[np.float32]
    waves: npt.NDArray[np.uint8]


def read_weights() -> bytes:
    """Return the weights that openecg ships.

    Raises:
        importlib.metadata.PackageNotFoundError: openecg is not installed.
        RuntimeError: They are not the weights that the model card speaks of.
    """
    path = Path(str(metadata.distribution("openecg").locate_file(WEIGHTS)))
    weights = path.read_bytes()
    if hashlib.sha256(weights).hexdigest() != WEIGHTS_SHA256:
        raise RuntimeError(
            f"{WEIGHTS} is not the file this pipeline was measured with "
            f"(SHA-256 {WEIGHTS_SHA256}). Install openecg 0.11.0 again."
        )
    return weights


class Codec:
    """The network, loaded and verified once."""

    def __init__(self) -> None:
        """Load the network.

        Raises:
            RuntimeError: As ``read_weights``.
        """
        import onnxruntime  # noqa: PLC0415 - not on a listener-only host

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a network this small gains nothing from more
        self._session = onnxruntime.InferenceSession(
            read_weights(), options, providers=["CPUExecutionProvider"]
        )

    def read(self, samples_mv: npt.NDArray[np.float32]) -> Reading:
        """Label one window.

        One at a time: the network quantises its activations over the whole batch, so that in a
        larger one a window's result would depend on its neighbours.

        Args:
            samples_mv: float32, at most ``WINDOW`` samples at 500 Hz.
        """
        from openecg.dsp import rank_normalize  # noqa: PLC0415 - ditto

        signal = np.zeros((1, WINDOW), dtype=np.float32)  # zero is the median rank
        signal[0, : samples_mv.shape[0]] = rank_normalize(samples_mv)
        waves, rhythm = self._session.run(["frame_logits", "rhythm_logits"], {"signal": signal})
        kept = slice(0, samples_mv.shape[0])
        scores = np.exp(rhythm[0, kept] - rhythm[0, kept].max(axis=1, keepdims=True))
        return Reading(
            rhythm=scores / scores.sum(axis=1, keepdims=True),
            waves=waves[0, kept].argmax(axis=1).astype(np.uint8),
        )
