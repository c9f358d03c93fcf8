"""Our networks where the main pipeline has openecg's: they judge the rhythm, it finds the beats."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipelines.ecg_atrial_fibrillation.codec import Codec, Reading, Rhythm

if TYPE_CHECKING:
    import torch

WEIGHTS_SHA256 = {
    "cnn": "6a1be7e30293bed86317212cc5fa9dca01670243b33e8e243b95b372f2eaf4f5",
    "lstm": "9389f3a438db08d9b2ed6303053882591dbf08ee0a1c5cdea33321edb314ff5a",
}


def weights(kind: str) -> bytes:
    """Return the weights of the ``cnn`` or the ``lstm``.

    Raises:
        RuntimeError: They are not those that the model card speaks of.
    """
    path = Path(__file__).with_name(f"{kind}.safetensors")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != WEIGHTS_SHA256[kind]:
        raise RuntimeError(
            f"{path.name} is not the file this pipeline was measured with "
            f"(SHA-256 {WEIGHTS_SHA256[kind]}). Install radnode again."
        )
    return content


class BaselineCodec(Codec):
    """Reads rhythm with a network of ours; waves, and so beats and noise, as openecg does."""

    def __init__(self, network: torch.nn.Module) -> None:
        """Take a network of ``networks.NETWORKS``, trained.

        Raises:
            RuntimeError: As ``Codec``.
        """
        super().__init__()
        self.network = network.eval()

    def read(self, samples_mv: npt.NDArray[np.float32]) -> Reading:
        """Label one window; see ``Codec.read``.

        The networks tell fibrillation from everything else. What is not fibrillation stands in
        the place of sinus rhythm, which ``pipeline`` never reports.
        """
        waves = super().read(samples_mv).waves
        fibrillation = self.fibrillation(samples_mv)
        rhythm = np.zeros((samples_mv.shape[0], len(Rhythm)), dtype=np.float32)
        rhythm[:, Rhythm.ATRIAL_FIBRILLATION] = fibrillation
        rhythm[:, Rhythm.SINUS] = 1.0 - fibrillation
        return Reading(rhythm=rhythm, waves=waves)

    def fibrillation(self, samples_mv: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the probability of fibrillation at each sample of a window."""
        import torch  # noqa: PLC0415 - not on a listener-only host

        from pipelines.ecg_baselines.networks import DECIMATION, FRAME, prepare  # noqa: PLC0415

        with torch.inference_mode():
            logits = self.network(torch.from_numpy(prepare(samples_mv))[None])[0].numpy()
        per_frame = DECIMATION * FRAME
        centres = (np.arange(logits.shape[0]) + 0.5) * per_frame - 0.5
        over_time = np.interp(np.arange(samples_mv.shape[0]), centres, logits)
        return np.asarray(1.0 / (1.0 + np.exp(-over_time)), dtype=np.float32)

    def attribution(self, samples_mv: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return what each sample adds to the mean logit of fibrillation.

        Integrated gradients from the flat line to the window; their sum is the difference that
        the window makes.
        """
        import torch  # noqa: PLC0415 - not on a listener-only host

        from pipelines.ecg_baselines.networks import DECIMATION, prepare  # noqa: PLC0415 - ditto

        window = torch.from_numpy(prepare(samples_mv))
        path = torch.linspace(1 / 64, 1 - 1 / 64, 32)[:, None] * window
        path.requires_grad_()
        (gradients,) = torch.autograd.grad(self.network(path).mean(dim=1).sum(), path)
        added = (window * gradients.mean(dim=0)).numpy().astype(np.float64)
        kept = added[: samples_mv.shape[0] // DECIMATION] / DECIMATION
        rest = samples_mv.shape[0] % DECIMATION
        return np.pad(np.repeat(kept, DECIMATION), (0, rest))


def load(kind: str) -> BaselineCodec:
    """Return the shipped ``cnn`` or ``lstm``, verified.

    Raises:
        RuntimeError: As ``weights``.
    """
    from safetensors.torch import load as tensors  # noqa: PLC0415 - not on a listener-only host

    from pipelines.ecg_baselines.networks import NETWORKS  # noqa: PLC0415 - ditto

    network = NETWORKS[kind]()
    network.load_state_dict(tensors(weights(kind)))
    return BaselineCodec(network)
