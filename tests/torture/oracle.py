"""The oracle: what must be true once all is quiet, whatever was done to the node before.

It reads the ledger's tables, the spool and the PACS by itself, and asks none of the code that it
judges. One series a study, one pipeline, one destination: what the torture sends.

a  Every instance answered with 0x0000 is in the ledger and on the disk, with the bytes sent.
b  Each study has one completed job on exactly what was acknowledged of it, and one object of
   each kind of this job in the PACS, with the bytes that the ledger knows; and none has two.
c  Every job and every delivery is in one terminal state.
d  What was sent again under one UID had the same bytes.
e  Neither a part file nor a work folder is left.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydicom import dcmread
from pynetdicom.dsutils import split_dataset
from sqlalchemy import select

from node.domain import DeliveryState, JobState
from node.store.tables import artifact, delivery, instance, job
from tests.peers import scanner

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pydicom import Dataset
    from sqlalchemy import Row

    from node.settings import Settings
    from node.store.ledger import Ledger
    from tests.peers.pacs import Pacs

KINDS = ("seg", "sr")


@dataclass(frozen=True)
class Sent:
    """An instance that a scanner was told is stored.

    Attributes:
        digest: SHA-256 of the data set as it went out (hex).
    """

    sop_instance_uid: str
    study_uid: str
    digest: str


def sent(image: Dataset) -> Sent:
    """Return what there is to remember of an acknowledged instance."""
    digest = hashlib.sha256(scanner.encode(image)).hexdigest()
    return Sent(str(image.SOPInstanceUID), str(image.StudyInstanceUID), digest)


@dataclass(frozen=True)
class Verdict:
    """What was found to be wrong; each a list of whom it concerns.

    Attributes:
        instances: Acknowledged.
        studies: That they belong to.
        lost_instances: Acknowledged, and not in the ledger or not on the disk as sent.
        lost_results: Studies without their result, neither in the PACS nor set aside aloud.
        doubled_results: Second objects of one kind for one input.
        strange_results: Objects in the PACS that the ledger does not know.
        changed_results: UIDs that went out, or lie in the PACS, with two contents.
        unfinished: Jobs and deliveries in no terminal state.
        left_behind: Part files and work folders.
    """

    instances: int
    studies: int
    lost_instances: tuple[str, ...]
    lost_results: tuple[str, ...]
    doubled_results: tuple[str, ...]
    strange_results: tuple[str, ...]
    changed_results: tuple[str, ...]
    unfinished: tuple[str, ...]
    left_behind: tuple[str, ...]

    @property
    def lost(self) -> int:
        """Instances and results that are not where they were promised to be."""
        return len(self.lost_instances) + len(self.lost_results) + len(self.unfinished)

    @property
    def doubled(self) -> int:
        """Results that are there twice, or with two contents, or without a reason."""
        return len(self.doubled_results) + len(self.strange_results) + len(self.changed_results)

    @property
    def note(self) -> str:
        """Which rules were broken; empty if none was."""
        named = {
            "instances lost": self.lost_instances,
            "results lost": self.lost_results,
            "unfinished": self.unfinished,
            "results doubled": self.doubled_results,
            "results unknown": self.strange_results,
            "contents changed": self.changed_results,
            "left behind": self.left_behind,
        }
        return "; ".join(
            f"{len(which)} {what}: {which[0]}" for what, which in named.items() if which
        )


def verify_ledger(
    settings: Settings,
    ledger: Ledger,
    acknowledged: Iterable[Sent],
    pacs: Pacs,
    *,
    quarantined: frozenset[str] = frozenset(),
) -> Verdict:
    """Judge a node at which nothing is on its way any more.

    Args:
        settings: Of the node.
        ledger: Of the node.
        acknowledged: All that scanners were told is stored.
        pacs: Where the results went.
        quarantined: UIDs of studies whose job must have been set aside for a person.
    """
    by_study: defaultdict[str, list[Sent]] = defaultdict(list)
    everything = {one.sop_instance_uid: one for one in acknowledged}
    for one in everything.values():
        by_study[one.study_uid].append(one)
    with ledger.read() as db:
        instances = {row.sop_instance_uid: row for row in db.execute(select(instance))}
        jobs = [*db.execute(select(job))]
        artifacts = {row.sop_instance_uid: row for row in db.execute(select(artifact))}
        deliveries = [*db.execute(select(delivery))]
    lost_instances = [
        uid
        for uid, one in everything.items()
        if uid not in instances
        or instances[uid].digest != one.digest
        or data_set_digest(settings.spool_folder / instances[uid].path) != one.digest
    ]
    held = {path.name.removesuffix(".dcm"): path for path in pacs.files()}
    by_input = {
        (one.study_uid, one.input_digest): one for one in jobs if one.state != JobState.CANCELED
    }
    lost_results = []
    for study_uid, of_study in by_study.items():
        done = by_input.get((study_uid, input_digest(of_study)))
        wanted = JobState.QUARANTINED if study_uid in quarantined else JobState.COMPLETED
        if done is None or done.state != wanted:
            lost_results.append(study_uid)
        elif wanted == JobState.COMPLETED:
            kinds = [
                row.role for uid, row in artifacts.items() if row.job_id == done.id if uid in held
            ]
            if not set(KINDS) <= set(kinds):
                lost_results.append(study_uid)
    return Verdict(
        len(everything),
        len(by_study),
        tuple(lost_instances),
        tuple(lost_results),
        tuple(_doubled(held, artifacts, jobs)),
        tuple(uid for uid in held if uid not in artifacts and ".other" not in uid),
        tuple(_changed(settings, held, artifacts, pacs)),
        tuple(
            [one.id for one in jobs if one.state in {JobState.SCHEDULED, JobState.IN_PROGRESS}]
            + [one.sop_instance_uid for one in deliveries if one.state != DeliveryState.COMMITTED]
        ),
        tuple(
            path.name
            for folder, pattern in (
                (settings.spool_folder / "tmp", "*.part"),
                (settings.work_folder, "*-*"),
            )
            for path in folder.glob(pattern)
        ),
    )


def input_digest(of_study: Iterable[Sent]) -> str:
    """Return what a job on these instances, and no others, has for its input digest (hex)."""
    lines = sorted(f"{one.sop_instance_uid} {one.digest}\n" for one in of_study)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def data_set_digest(part10: Path) -> str:
    """Return the SHA-256 of the data set of a file; empty if there is none."""
    try:
        _, data_offset = split_dataset(part10)
        with part10.open("rb") as file:
            file.seek(data_offset)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _doubled(
    held: Mapping[str, Path], artifacts: Mapping[str, Row[Any]], jobs: Iterable[Row[Any]]
) -> list[str]:
    """Return UIDs of a second object of one kind, or on instances of another study."""
    inputs = {one.id: (one.study_uid, one.input_digest, one.pipeline) for one in jobs}
    counted: Counter[tuple[object, ...]] = Counter()
    doubled = []
    for uid in held:
        row = artifacts.get(uid)
        if row is None:
            continue
        key = (*inputs[row.job_id], row.role)
        counted[key] += 1
        if counted[key] > 1:
            doubled.append(uid)
    return doubled


def _changed(
    settings: Settings, held: Mapping[str, Path], artifacts: Mapping[str, Row[Any]], pacs: Pacs
) -> set[str]:
    """Return UIDs that were sent, or are kept, with other bytes than those that were made."""
    digests: defaultdict[str, set[str]] = defaultdict(set)
    for entry in pacs.journal("store"):
        digests[entry["sop_instance_uid"]].add(entry["digest"])
    for uid, row in artifacts.items():
        if uid in digests:
            digests[uid].add(data_set_digest(settings.artifact_folder / row.path))
    changed = {uid for uid, seen in digests.items() if len(seen) > 1}
    changed |= {uid for uid in held if ".other" in uid}
    changed |= {uid for uid, path in held.items() if dcmread(path).SOPInstanceUID != uid}
    return changed
