"""Publish: through the gate, onto the disk, into the ledger. From then on the bytes are fixed.

What an earlier attempt has already made durable is kept as it is; a later one only adds the
rows that are missing.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from node import part10, profiles, publish_gate
from node.crashpoint import reach
from node.domain import Artifact, Lease, Outcome, Role
from node.spool import fsync_directory
from node.store import deliveries, jobs, modes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from pydicom import Dataset

    from node.store.ledger import Ledger


_AFTER_UIDS = 0x00080019
"""Follows SOP Class UID and SOP Instance UID."""


def publish(  # noqa: PLR0913 - one result and everything that its fate depends on
    ledger: Ledger,
    lease: Lease,
    *,
    outcome: Outcome,
    made: Mapping[str, Path],
    sources: Sequence[Dataset],
    beside: Sequence[Dataset] = (),
    superseded: Sequence[Dataset],
    folder: Path,
    send_to: Mapping[str, Collection[Role]],
    seconds: Mapping[str, float],
    tick: Callable[[], None],
) -> tuple[Artifact, ...]:
    """Make the objects of one job durable, and plan their deliveries.

    Args:
        ledger: Where rows go.
        lease: Of the job; every write checks that it still holds.
        outcome: What the job says.
        made: Role -> file of each object that this attempt made, all in one folder.
        sources: Headers of the instances that were analysed.
        beside: Those of other series that were analysed together with them.
        superseded: Headers of the objects of the result that this one replaces.
        folder: Of all artifacts.
        send_to: Destination -> which objects it gets.
        seconds: Stage -> duration, for the record.
        tick: Called between steps that take long; keeps the lease.

    Raises:
        GateClosed: The objects contradict the source or each other; none was published.
        LeaseLost: The job belongs to another worker; what this one made is discarded.
    """
    kept = folder / lease.job.id
    digests: Mapping[str, str] = {}
    if not kept.exists():
        # The disk and the hash need no interpreter, which the gate keeps busy.
        with ThreadPoolExecutor(max_workers=1) as thread:
            synced = thread.submit(_synced, made)
            objects = [part10.read(path) for path in made.values()]
            publish_gate.verify(objects, sources, superseded, tick, beside=beside)
            tick()
            reach("publish.gate_passed")
        settled = synced.result()
        if _make_durable(ledger, lease, made, kept):
            digests = settled
    reach("publish.files_moved")
    artifacts = []
    for path in sorted(kept.glob("*.dcm"), key=lambda path: profiles.rank(path.stem)):
        tick()
        artifact = _describe(path, path.stem, lease, digests.get(path.stem))
        with ledger.write() as db:
            jobs.renew(db, lease)
            deliveries.write_artifact(db, artifact)
        reach("publish.row_written")
        artifacts.append(artifact)
    with ledger.write() as db:
        jobs.finish(db, lease, outcome, json.dumps(dict(seconds)))
        recipients = {} if modes.withhold(db, lease) else send_to
        for name, wanted in recipients.items():
            roles = profiles.to_send([one.role for one in artifacts], wanted)
            sent = [one for one in artifacts if one.role in roles]
            deliveries.plan_deliveries(db, sent, name)
    reach("publish.finished")
    return tuple(artifacts)


def _synced(made: Mapping[str, Path]) -> dict[str, str]:
    """Put the files of an attempt onto the disk; return the digest of each."""
    digests = {}
    for role, path in made.items():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            digests[role] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _make_durable(ledger: Ledger, lease: Lease, made: Mapping[str, Path], kept: Path) -> bool:
    """Move the whole set of one attempt into place, or leave the set that is there.

    In one step, so that objects of two attempts never mix: a model need not be reproducible to
    the last bit on another device.

    Returns:
        Whether it was moved; False if a set is there.
    """
    (staged,) = {path.parent for path in made.values()}
    fsync_directory(staged)
    with ledger.write() as db:
        jobs.renew(db, lease)
    kept.parent.mkdir(parents=True, exist_ok=True)
    try:
        staged.rename(kept)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        moved = False
    else:
        moved = True
    fsync_directory(kept.parent)
    return moved


def _describe(path: Path, role: str, lease: Lease, digest: str | None) -> Artifact:
    header = part10.read(path, stop_at=_AFTER_UIDS)
    if digest is None:
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
