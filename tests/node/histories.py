"""Studies as a ledger may hold them, in any state, with small files; and what is true of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from sqlalchemy import insert, select

from node.clock import database_now
from node.domain import DeliveryState, JobState, StudyState
from node.settings import DimseDestination, FolderDestination
from node.store import events
from node.store.tables import artifact, conflict, delivery, instance, job, series, study
from tests.node.ledger_rows import uid

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from node.settings import Settings
    from node.store.ledger import Ledger

DAY_S = 86_400.0
COMMITTING, PLAIN, FORGOTTEN = "pacs", "share", "old-pacs"
"""A destination that is asked to commit, one that is not, and one that is not configured."""


@dataclass(frozen=True)
class Sent:
    """One object of a result on its way."""

    state: DeliveryState
    destination: str

    @property
    def is_final(self) -> bool:
        if self.state is DeliveryState.SENT:
            return self.destination == PLAIN
        return self.state in {DeliveryState.COMMITTED, DeliveryState.CANCELED}


@dataclass(frozen=True)
class Job:
    """One job on the first series of its study. Only a completed one has made something."""

    state: JobState
    sent: tuple[Sent, ...] = ()

    @property
    def is_final(self) -> bool:
        closed = self.state in {JobState.COMPLETED, JobState.CANCELED}
        return closed and all(one.is_final for one in self.sent)


@dataclass(frozen=True)
class History:
    """What has happened to one study.

    Attributes:
        receiving: Whether instances of it may still come ...
        series_receiving: ... or of its second series.
        unrouted: Whether routing has not seen it yet ...
        series_unrouted: ... or its second series.
        set_aside: Whether another content of one of its instances was.
        age_days: Since anything happened.
    """

    jobs: tuple[Job, ...] = ()
    receiving: bool = False
    series_receiving: bool = False
    unrouted: bool = False
    series_unrouted: bool = False
    set_aside: bool = False
    age_days: float = 0.0

    @property
    def is_final(self) -> bool:
        """The definition once more, in other words than those of the node."""
        expected = self.receiving, self.series_receiving, self.unrouted, self.series_unrouted
        return not any((*expected, self.set_aside)) and all(one.is_final for one in self.jobs)

    @property
    def is_analysed(self) -> bool:
        return any(one.state is JobState.COMPLETED for one in self.jobs)


_SENT = st.builds(
    Sent,
    st.sampled_from([*DeliveryState, DeliveryState.COMMITTED, DeliveryState.COMMITTED]),
    st.sampled_from([COMMITTING, COMMITTING, PLAIN, FORGOTTEN]),
)
_COMPLETED = st.builds(
    Job, st.just(JobState.COMPLETED), st.lists(_SENT, max_size=3, unique_by=str).map(tuple)
)
_OTHER = st.builds(Job, st.sampled_from(JobState).filter(lambda one: one != JobState.COMPLETED))
_SELDOM = st.integers(0, 7).map(lambda number: number == 0)

ANY = st.builds(
    History,
    jobs=st.lists(st.one_of(_COMPLETED, _COMPLETED, _OTHER), max_size=3).map(tuple),
    receiving=_SELDOM,
    series_receiving=_SELDOM,
    unrouted=_SELDOM,
    series_unrouted=_SELDOM,
    set_aside=_SELDOM,
    age_days=st.sampled_from([0.5, 29.0, 31.0, 400.0]),
)
"""Any history; most of them are final."""


def with_destinations(settings: Settings, **other: Any) -> Settings:
    """Return a node that knows ``COMMITTING`` and ``PLAIN``."""
    pacs = DimseDestination(kind="dimse", ae_title="PACS", host="127.0.0.1", port=1)
    share = FolderDestination(kind="folder", path=settings.data / "share")
    changes = {"destinations": {COMMITTING: pacs, PLAIN: share}, **other}
    return settings.model_copy(update=changes)


def happen(settings: Settings, ledger: Ledger, name: str, history: History) -> str:
    """Write the rows and files of one study; its UID. It has two series of two instances."""
    study_uid = uid("study", name)
    with ledger.write() as db:
        at = db.execute(select(database_now())).scalar_one() - history.age_days * DAY_S
        common = {"last_instance_at": at, "completed_at": at, "revision": 1}
        of_study = _state(receiving=history.receiving, unrouted=history.unrouted)
        row = {"study_uid": study_uid, "received_at": at}
        db.execute(insert(study).values(**row, **common, **of_study))
        for number in (1, 2):
            second = _state(
                receiving=history.series_receiving and number == 2,
                unrouted=history.series_unrouted and number == 2,
            )
            of_series = {"study_uid": study_uid, "series_uid": uid(name, number), "modality": "CT"}
            db.execute(insert(series).values(**of_series, **common, **second))
            for slice_number in (1, 2):
                path = _keep(settings, f"{name} {number} {slice_number}")
                one = {"sop_instance_uid": uid(name, number, slice_number), **_file(path)}
                values = {"study_uid": study_uid, "series_uid": uid(name, number), **one}
                db.execute(insert(instance).values(**_INSTANCE, **values, received_at=at))
        if history.set_aside:
            path = _keep(settings, f"{name} set aside")
            beside = {"sop_instance_uid": uid(name, 1, 1), "path": path, "digest": path[3:-4]}
            db.execute(insert(conflict).values(**beside, calling_ae="CT1", received_at=at))
        for number, planned in enumerate(history.jobs):
            _job(settings, db, name, f"{name}x{number}", planned, at)
        events.record(db, "no_route", study_uid=study_uid, subject="CT")
    return study_uid


def kept(settings: Settings, name: str) -> int:
    """Return how many of the four received files of a study are in their place."""
    numbers = [(series, one) for series in (1, 2) for one in (1, 2)]
    paths = [_path(f"{name} {number} {one}") for number, one in numbers]
    return sum((settings.spool_folder / path).exists() for path in paths)


_INSTANCE = {
    "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
    "transfer_syntax_uid": "1.2.840.10008.1.2.1",
    "calling_ae": "CT1",
    "association_id": "gone",
    "own_result": False,
}


def _state(*, receiving: bool, unrouted: bool) -> dict[str, Any]:
    state = StudyState.RECEIVING if receiving else StudyState.COMPLETE
    return {"state": state.value, "routed_revision": 0 if unrouted else 1}


def _file(path: str) -> dict[str, Any]:
    return {"path": path, "digest": path[3:-4], "size_bytes": 1000}


def _path(content: str) -> str:
    digest = hashlib.sha256(content.encode()).hexdigest()
    return f"{digest[:2]}/{digest}.dcm"


def _keep(settings: Settings, content: str) -> str:
    path = settings.spool_folder / _path(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="ascii")
    return _path(content)


def _job(
    settings: Settings, db: Connection, name: str, job_id: str, planned: Job, at: float
) -> None:
    is_open = planned.state in {JobState.SCHEDULED, JobState.IN_PROGRESS}
    values = planned_row(job_id, uid("study", name), uid(name, 1)) | {
        "state": planned.state.value,
        "send_to": " ".join(dict.fromkeys(one.destination for one in planned.sent)),
        "planned_at": at,
        "finished_at": None if is_open else at,
    }
    db.execute(insert(job).values(**values))
    if planned.state is not JobState.COMPLETED:
        return
    folder = settings.artifact_folder / job_id
    folder.mkdir(parents=True)
    for number in range(max(1, len(planned.sent))):
        made = {"sop_instance_uid": uid(job_id, number), "study_uid": uid("study", name)}
        path = folder / f"sr-{number}.dcm"
        path.write_text(f"{job_id} {number}", encoding="ascii")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        row = {"job_id": job_id, "role": "sr", "path": f"{job_id}/{path.name}", "digest": digest}
        db.execute(
            insert(artifact).values(
                **made, **row, sop_class_uid="1.2.3", size_bytes=1000, written_at=at
            )
        )
        for one in planned.sent[number : number + 1]:
            is_sent = one.state in {DeliveryState.SENT, DeliveryState.COMMITTED}
            db.execute(
                insert(delivery).values(
                    **made,
                    destination=one.destination,
                    state=one.state.value,
                    attempts=1,
                    next_attempt_at=at,
                    planned_at=at,
                    sent_at=at if is_sent else None,
                    committed_at=at if one.state is DeliveryState.COMMITTED else None,
                )
            )


def planned_row(job_id: str, study_uid: str, series_uid: str) -> dict[str, Any]:
    """Return a row of ``job``, without its state."""
    return {
        "id": job_id,
        "study_uid": study_uid,
        "series_uid": series_uid,
        "sop_instance_uid": job_id,
        "revision": 1,
        "pipeline": "bright-spot",
        "pipeline_version": "1.0.0",
        "model_sha256": "0" * 64,
        "parameters": "{}",
        "input_digest": "1" * 64,
        "priority": 5,
        "deadline_s": 60.0,
        "attempts": 1,
        "next_attempt_at": 0.0,
    }
