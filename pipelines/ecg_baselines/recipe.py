"""The recipes that train the ECG networks on a site's own recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import nn

from pipelines import codes
from pipelines.contract import CouldNotLook, Presence, Waveform
from pipelines.ecg_atrial_fibrillation.codes import ATRIAL_FIBRILLATION as CONCEPT
from pipelines.ecg_atrial_fibrillation.leads import LEAD_II, readable_leads
from pipelines.ecg_atrial_fibrillation.windows import SAMPLING_HZ, WINDOW
from pipelines.ecg_baselines.networks import MOST, RATE_HZ, SAMPLES
from pipelines.ecg_baselines.training import PLAN, Annotated, annotated, train
from pipelines.evaluation.classification import Answer, roc, sensitivity, specificity
from pipelines.runtimes import load
from pipelines.training.data import digest_of
from pipelines.training.product import plan_of, write_network, write_record
from pipelines.training.recipes import Kind, Order, Unsuitable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.contract import Finding
    from pipelines.evaluation.estimate import Estimate
    from pipelines.training.data import Example


class _Recipe:
    """Learns from recordings of which each is fibrillation throughout, or has none."""

    kind: ClassVar[Kind] = "recordings"
    network: ClassVar[str]

    def train(self, order: Order, /) -> None:
        """Train on lead II, with simulated strips beside, and fill ``order.out``.

        Raises:
            Unsuitable: A recording has no label, or lead II is missing.
        """
        seen = [_annotated(example) for example in order.split.of(order.examples, "train")]
        plan = plan_of(
            order,
            steps=PLAN.steps or 0,
            learning_rate=PLAN.learning_rate,
            score_every=PLAN.score_every,
        )
        network, fitted = train(
            self.network,
            seen,
            plan=plan,
            validation=[_annotated(e) for e in order.split.of(order.examples, "validation")],
            checkpoints=order.out / "checkpoints",
            identity=digest_of(order.examples),
            quiet=order.quiet,
        )
        write_network(order, Strip(network).eval(), _stated(order))
        figures = measure(order, order.split.of(order.examples, "test"))
        write_record(order, plan, fitted, figures)


class CnnRecipe(_Recipe):
    """The convolutional network."""

    title: ClassVar[str] = "finds atrial fibrillation in an ECG (small CNN)"
    network: ClassVar[str] = "cnn"


class LstmRecipe(_Recipe):
    """The recurrent network."""

    title: ClassVar[str] = "finds atrial fibrillation in an ECG (small LSTM)"
    network: ClassVar[str] = "lstm"


class Strip(nn.Module):
    """A network with ``networks.prepare`` before it and one logit behind it, as one program.

    It takes millivolts at ``RATE_HZ``, shape (batch, 1, 1250).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.most = MOST  # TorchScript knows no globals
        self.samples = SAMPLES

    def forward(self, samples_mv: torch.Tensor) -> torch.Tensor:
        """Return the logit of fibrillation, shape (batch, 1)."""
        lead = samples_mv[:, 0]
        ordered = lead.sort(dim=1)[0]
        count = lead.shape[1]
        middle = (ordered[:, (count - 1) // 2] + ordered[:, count // 2]) / 2
        lead = lead - middle[:, None]
        usual = torch.quantile(lead.abs(), 0.99, dim=1).clamp_min(1e-6)
        lead = (lead / usual[:, None]).clamp(-self.most, self.most)
        lead = nn.functional.pad(lead, (0, self.samples - count))
        logits: torch.Tensor = self.network(lead).mean(dim=1, keepdim=True)
        return logits


def measure(order: Order, tested: Sequence[Example]) -> list[tuple[str, str, Estimate]]:
    """Return the figures of the pipeline that was written, on the test patients."""
    pipeline = load(order.out)
    answers = []
    for example in tested:
        result = pipeline.run(example.read().study)
        likely = max(map(_likely, result.findings))
        answers.append(Answer(example.patient, _label(example), likely >= 0.5, likely))
    name = CONCEPT.meaning
    return [
        (name, "sensitivity", sensitivity(answers)),
        (name, "specificity", specificity(answers)),
        (name, "area below the ROC curve", roc(answers).area),
    ]


def _likely(finding: Finding) -> float:
    confidence = finding.confidence or 0.0
    return 1.0 - confidence if finding.presence is Presence.ABSENT else confidence


def _stated(order: Order) -> dict[str, Any]:
    return {
        "title": order.name,
        "task": "waveform",
        "input": {
            "match": dict(order.match) or {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.9.1.?"},
        },
        "output": {"activation": "sigmoid"},
        "waveform": {"leads": ["II"], "sampling_hz": RATE_HZ, "seconds": WINDOW / SAMPLING_HZ},
        "labels": [
            {
                "index": 0,
                "label": CONCEPT.meaning,
                "category": codes.MORPHOLOGICALLY_ABNORMAL,
                "property": CONCEPT,
            }
        ],
    }


def _label(example: Example) -> bool:
    """Return whether a recording fibrillates.

    Raises:
        Unsuitable: Nobody says.
    """
    for concept, there in example.labels.items():
        if concept.casefold() in (CONCEPT.value, CONCEPT.meaning.casefold()):
            return there
    raise Unsuitable(f"A recording has no line '{CONCEPT.meaning}' with yes or no in truth.csv.")


def _annotated(example: Example) -> Annotated:
    study = example.read().study
    if not isinstance(study, Waveform):
        raise Unsuitable("A study is no recording.")
    try:
        lead = readable_leads(study)[0]
    except CouldNotLook as error:
        raise Unsuitable(f"A recording cannot be learned from: {error.reason}") from error
    if lead.number != LEAD_II or lead.group.duration_s < WINDOW / SAMPLING_HZ:
        raise Unsuitable("A recording has no lead II of ten seconds.")
    samples = lead.group.samples[lead.channel - 1]
    everywhere = np.full(samples.shape[0], _label(example))
    return annotated(example.patient, samples, lead.group.sampling_hz, everywhere)
