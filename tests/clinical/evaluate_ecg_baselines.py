"""Train the ECG baselines and measure them, each patient judged by networks that never met it.

    python -m tests.clinical.evaluate_ecg_baselines --data DIR [--write]
    python -m tests.clinical.evaluate_ecg_baselines --data DIR --ship cnn

DIR holds ``cpsc2021`` and ``cinc2021_georgia`` as WFDB records. Each network is trained once for
every patient of CPSC2021, without that patient, and judges that patient only; the Georgia
strips, which none is trained on, are judged by the shipped network, which is trained on all.
``--write`` puts the figures into the model card. ``--ship`` trains that network instead and
writes its weights.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.torch import save_file

from pipelines import ecg_baselines
from pipelines.ecg_baselines.codec import BaselineCodec
from pipelines.ecg_baselines.pipeline import EcgAtrialFibrillationCnn, EcgAtrialFibrillationLstm
from pipelines.ecg_baselines.training import annotated, train
from pipelines.evaluation.report import write_card
from pipelines.training.checkpoint import copy_of
from tests.clinical.evaluate_ecg import (
    Annotated,
    Outcome,
    Reader,
    accuracy_rows,
    cpsc2021,
    georgia,
    patient_rows,
    strip_outcome,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from pipelines.ecg_baselines import training

FOLDER = Path(ecg_baselines.__file__).parent
PIPELINES = {"cnn": EcgAtrialFibrillationCnn, "lstm": EcgAtrialFibrillationLstm}


def leads_of(records: Sequence[Annotated]) -> list[training.Annotated]:
    """Return every lead of the recordings as training takes it."""
    return [
        annotated(
            record.patient,
            lead.astype(np.float32),
            record.recording.sampling_hz,
            record.fibrillation,
        )
        for record in records
        for lead in record.recording.samples_mv
    ]


def reader_of(kind: str, network: torch.nn.Module) -> Reader:
    """Return the shipped pipeline with another network in it."""
    pipeline = PIPELINES[kind]()
    pipeline.load = lambda: BaselineCodec(network)  # type: ignore[method-assign]
    return Reader(pipeline)


def left_out(
    kind: str, records: Sequence[Annotated], leads: Sequence[training.Annotated]
) -> tuple[list[Outcome], list[Outcome]]:
    """Return the outcomes of all strips in lead II and in lead I, one patient left out a time."""
    lead_ii, lead_i = [], []
    for patient in sorted({record.patient for record in records}):
        network, _ = train(kind, [lead for lead in leads if lead.patient != patient])
        reader = reader_of(kind, network)
        for record in records:
            if record.patient != patient:
                continue
            for strip in record.strips():
                if strip.truth is None:
                    continue
                lead_ii.append(strip_outcome(reader, strip))
                only_i = strip.recording.only("I")
                part = Annotated(
                    patient, only_i, strip.sop_class, strip.fibrillation, strip.beats_s
                )
                lead_i.append(strip_outcome(reader, part))
    return lead_ii, lead_i


def ship(kind: str, data: Path) -> None:
    """Train a network on all patients, write its weights and print their digest."""
    network, _ = train(kind, leads_of(cpsc2021(data / "cpsc2021")))
    path = FOLDER / f"{kind}.safetensors"
    save_file(copy_of(network), path)
    print(kind, hashlib.sha256(path.read_bytes()).hexdigest(), f"{path.stat().st_size} bytes")


def lines(data: Path) -> Iterator[str]:
    """Yield the figures as the model card has them."""
    records = cpsc2021(data / "cpsc2021")
    leads = leads_of(records)
    american = georgia(data / "cinc2021_georgia")
    tables = []
    yield (
        "| network, data | | strips | 95 % of strips (Wilson) | 95 % of patients (bootstrap) "
        "| patients | no answer |"
    )
    yield "|---|---|---|---|---|---|---|"
    for kind, pipeline in PIPELINES.items():
        lead_ii, lead_i = left_out(kind, records, leads)
        shipped = Reader(pipeline())
        others = [strip_outcome(shipped, strip) for strip in american]
        yield from accuracy_rows(f"{kind}: CPSC2021, lead II", lead_ii)
        yield from accuracy_rows(f"{kind}: CPSC2021, lead I only", lead_i)
        yield from accuracy_rows(f"{kind}: Georgia, 12-lead", others)
        tables.append((kind, lead_ii))
    for kind, outcomes in tables:
        yield ""
        yield f"Per patient, {kind}, 10 s strips, lead II, that patient left out of training:"
        yield ""
        yield (
            "| patient | fibrillation: found | missed | no answer "
            "| none: false alarm | correct | no answer |"
        )
        yield "|---|---|---|---|---|---|---|"
        yield from patient_rows(outcomes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder with the WFDB records")
    parser.add_argument("--write", action="store_true", help="put the figures into the card")
    parser.add_argument("--ship", choices=list(PIPELINES), help="train and write these weights")
    options = parser.parse_args()
    if options.ship:
        ship(options.ship, options.data)
        return
    measured = "\n".join(lines(options.data))
    print(measured)
    if options.write:
        write_card(FOLDER / "card.md", measured)


if __name__ == "__main__":
    main()
