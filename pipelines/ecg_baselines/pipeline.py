"""A second opinion on atrial fibrillation, by small networks that were trained here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pipelines.contract import Model, Result, Study
from pipelines.ecg_atrial_fibrillation import codes
from pipelines.ecg_atrial_fibrillation.codec import WEIGHTS_SHA256 as CODEC_SHA256
from pipelines.ecg_atrial_fibrillation.pipeline import EcgAtrialFibrillation
from pipelines.ecg_baselines.codec import WEIGHTS_SHA256, load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.ecg_atrial_fibrillation.codec import Codec

TRAINED_ON = (
    "Four patients of CPSC2021 (PhysioNet, CC BY 4.0), two of them with fibrillation, "
    "and synthetic strips."
)
NOTE = (
    "Second opinion of a small network that was trained on four patients and on synthetic strips. "
    "It tells fibrillation from everything else, and knows no other rhythm."
)


class _SecondOpinion(EcgAtrialFibrillation):
    """The main pipeline with another judge of the rhythm.

    Leads, windows, noise and episodes are the main pipeline's, so that the two differ in nothing
    else and can be compared.
    """

    version: ClassVar[str] = "1.0.0"
    enabled: ClassVar[bool] = False
    """Nobody runs it who did not ask for it by name."""
    parameters: ClassVar[Mapping[str, str]] = {
        **EcgAtrialFibrillation.parameters,
        "beats": f"openecg codec v6, SHA-256 {CODEC_SHA256}",
    }
    kind: ClassVar[str]

    def load(self) -> Codec:
        """Load both networks, verified by digest."""
        return load(self.kind)

    def run(self, study: Study, /) -> Result:
        """Judge the best readable lead; only fibrillation, or its absence, is reported.

        Raises:
            CouldNotLook: As the main pipeline.
        """
        result = super().run(study)
        about = tuple(f for f in result.findings if f.finding == codes.ATRIAL_FIBRILLATION)
        return replace(result, findings=about, notes=(NOTE, *result.notes))


class EcgAtrialFibrillationCnn(_SecondOpinion):
    """By a convolutional network. What it can and cannot do is in ``card.md``."""

    name: ClassVar[str] = "ecg-atrial-fibrillation-cnn"
    title: ClassVar[str] = "ECG: atrial fibrillation, CNN (baseline)"
    kind: ClassVar[str] = "cnn"
    model: ClassVar[Model] = Model(
        name="radnode ECG baseline, CNN",
        version="1.0.0",
        maker="radnode",
        weights_sha256=WEIGHTS_SHA256["cnn"],
        trained_on=TRAINED_ON,
        citation="pipelines/ecg_baselines/card.md",
    )


class EcgAtrialFibrillationLstm(_SecondOpinion):
    """By a recurrent network. What it can and cannot do is in ``card.md``."""

    name: ClassVar[str] = "ecg-atrial-fibrillation-lstm"
    title: ClassVar[str] = "ECG: atrial fibrillation, LSTM (baseline)"
    kind: ClassVar[str] = "lstm"
    model: ClassVar[Model] = Model(
        name="radnode ECG baseline, LSTM",
        version="1.0.0",
        maker="radnode",
        weights_sha256=WEIGHTS_SHA256["lstm"],
        trained_on=TRAINED_ON,
        citation="pipelines/ecg_baselines/card.md",
    )
