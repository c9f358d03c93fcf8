"""Publish: through the gate, onto the disk, into the ledger. From then on the bytes are fixed.

An object that an earlier attempt has already made durable is kept as it is; only what is
missing is added.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

from pydicom import dcmread

from node import publish_gate
from node.crashpoint import reach
from node.domain import Artifact, Lease, Outcome
from node.spool import fsync_directory
from node.store import deliveries, jobs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pydicom import Dataset

    from node.store.ledger import Ledger


def publish(  # noqa: PLR0913 - one result and everything that its fate depends on
    ledger: Ledger,
    lease: Lease,
    *,
    outcome: Outcome,
    made: Mapping[str, Path],
    sources: Sequence[Dataset],
    folder: Path,
    seconds: Mapping[str, float],
) -> tuple[Artifact, ...]:
    """Make the objects of one job durable, and plan their deliveries.

    Args:
        ledger: Where rows go.
        lease: Of the job; every write checks that it still holds.
        outcome: What the job says.
        made: Role -> file of each object that this attempt made.
        sources: Headers of the instances that were analysed.
        folder: Of all artifacts.
        seconds: Stage -> duration, for the record.

    Raises:
        GateClosed: The objects contradict the source or each other; none was published.
        LeaseLost: The job belongs to another worker; what this one made is discarded.
    """
    kept = folder / lease.job.id
    kept.mkdir(parents=True, exist_ok=True)
    chosen = {
        role: durable if (durable := kept / f"{role}.dcm").exists() else path
        for role, path in made.items()
    }
    publish_gate.verify([dcmread(path) for path in chosen.values()], sources)
    reach("publish.gate_passed")
    artifacts = []
    for role, path in chosen.items():
        target = kept / f"{role}.dcm"
        if path != target:
            _make_durable(path, target)
        reach("publish.file_written")
        artifact = _describe(target, role, lease)
        with ledger.write() as db:
            jobs.renew(db, lease)
            deliveries.write_artifact(db, artifact)
        reach("publish.row_written")
        artifacts.append(artifact)
    with ledger.write() as db:
        jobs.finish(db, lease, outcome, json.dumps(dict(seconds)))
        deliveries.plan_deliveries(db, artifacts, lease.job.send_to)
    reach("publish.finished")
    return tuple(artifacts)


def _make_durable(path: Path, target: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    path.replace(target)
    fsync_directory(target.parent)
    fsync_directory(target.parent.parent)


def _describe(path: Path, role: str, lease: Lease) -> Artifact:
    header = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Artifact(
        sop_instance_uid=str(header.SOPInstanceUID),
        sop_class_uid=str(header.SOPClassUID),
        study_uid=lease.job.study_uid,
        job_id=lease.job.id,
        role=role,
        path=f"{lease.job.id}/{path.name}",
        digest=digest,
        size_bytes=path.stat().st_size,
    )
