"""Results that wait to be delivered: real Part 10 files, real rows."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    SegmentationStorage,
    generate_uid,
)
from sqlalchemy import insert, select

from node.clock import database_now
from node.domain import Artifact, JobState
from node.store import deliveries
from node.store.tables import delivery, event, job

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from node.settings import Settings
    from node.store.ledger import Ledger

ROLES = {
    "seg": SegmentationStorage,
    "labelmap": "1.2.840.10008.5.1.4.1.1.66.7",
    "sr": Comprehensive3DSRStorage,
    "labelmap-sr": Comprehensive3DSRStorage,
    "comprehensive-sr": ComprehensiveSRStorage,
    "rejection": KeyObjectSelectionDocumentStorage,
}


def waiting_result(
    settings: Settings,
    ledger: Ledger,
    send_to: Sequence[str],
    *,
    name: str = "study",
    roles: Sequence[str] = ("seg", "sr"),
    held: Sequence[str] = (),
    supersedes: str | None = None,
) -> tuple[Artifact, ...]:
    """Write the objects of one study's result and plan their deliveries, as a worker does.

    Args:
        settings: Where the files go.
        ledger: Where the rows go.
        send_to: Names of destinations.
        name: What its UIDs and its job are derived from.
        roles: What is sent.
        held: What is made, but not sent.
        supersedes: Name of the result that this one replaces, in the same study.
    """
    study_uid = generate_uid(entropy_srcs=[supersedes or name])
    folder = settings.artifact_folder
    made = tuple(_artifact(folder, name, study_uid, role) for role in (*roles, *held))
    sent = made[: len(roles)]
    with ledger.write() as db:
        db.execute(insert(job).values(**_job(name, study_uid, send_to), supersedes=supersedes))
        for one in made:
            deliveries.write_artifact(db, one)
        for destination in send_to:
            deliveries.plan_deliveries(db, sent, destination)
    return made


def rows(ledger: Ledger, destination: str | None = None) -> list[Any]:
    """Return the delivery rows, oldest first."""
    wanted = select(delivery).order_by(delivery.c.planned_at, delivery.c.sop_instance_uid)
    if destination is not None:
        wanted = wanted.where(delivery.c.destination == destination)
    with ledger.read() as db:
        return list(db.execute(wanted))


def states(ledger: Ledger, destination: str | None = None) -> list[str]:
    """Return the state of every delivery."""
    return [row.state for row in rows(ledger, destination)]


def happened(ledger: Ledger, kind: str) -> list[Any]:
    """Return the events of one kind."""
    with ledger.read() as db:
        return list(db.execute(select(event).where(event.c.kind == kind)))


def make_due(ledger: Ledger) -> None:
    """Let the time of every next attempt come."""
    with ledger.write() as db:
        db.execute(delivery.update().values(next_attempt_at=database_now()))


def data_set_digest(path: Path) -> str:
    """Return the SHA-256 of the data set of a Part 10 file, without its meta group."""
    content = path.read_bytes()
    length = int.from_bytes(content[140:144], "little")  # (0002,0000), always the first element
    return hashlib.sha256(content[144 + length :]).hexdigest()


def _artifact(folder: Path, name: str, study_uid: str, role: str) -> Artifact:
    dataset = Dataset()
    dataset.SOPClassUID = ROLES[role]
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[name, role])
    dataset.PatientID, dataset.PatientName = "P1", "Doe^Jane"
    dataset.StudyInstanceUID = study_uid
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[name, role, "series"])
    dataset.Modality, dataset.InstanceNumber = "SEG" if role == "seg" else "SR", 1
    dataset.ContentLabel = "RESULT"
    if role == "seg":
        rng = np.random.default_rng(7)
        dataset.Rows = dataset.Columns = 64
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.NumberOfFrames, dataset.BitsAllocated, dataset.BitsStored = 8, 8, 8
        dataset.HighBit, dataset.PixelRepresentation = 7, 0
        dataset.PixelData = rng.integers(0, 2, 64 * 64 * 8, dtype=np.uint8).tobytes()
        dataset["PixelData"].VR = "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = folder / name / f"{role}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, dataset, enforce_file_format=True)
    content = path.read_bytes()
    return Artifact(
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        study_uid=study_uid,
        job_id=name,
        role=role,
        path=str(path.relative_to(folder)),
        digest=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
    )


def _job(name: str, study_uid: str, send_to: Sequence[str]) -> dict[str, Any]:
    return {
        "id": name,
        "study_uid": study_uid,
        "series_uid": f"{study_uid}.1",
        "sop_instance_uid": "",
        "revision": 1,
        "pipeline": "bright-spot",
        "pipeline_version": "1.0.0",
        "model_sha256": "0" * 64,
        "parameters": "{}",
        "input_digest": "0" * 64,
        "send_to": " ".join(send_to),
        "priority": 5,
        "deadline_s": 60.0,
        "state": JobState.COMPLETED.value,
        "attempts": 1,
        "next_attempt_at": database_now(),
        "planned_at": database_now(),
    }
