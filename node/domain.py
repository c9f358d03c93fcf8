"""The words of the node: frozen types and the states things go through."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class StudyState(enum.StrEnum):
    """Of a study, and of each of its series."""

    RECEIVING = "receiving"
    """Instances may still come."""
    COMPLETE = "complete"
    """Quiet, and no association feeds it. A late instance: receiving again, next revision."""


class JobState(enum.StrEnum):
    """Of one pipeline on one input. The words of UPS (PS3.4 table CC.1.1-1), and one of ours."""

    SCHEDULED = "scheduled"
    IN_PROGRESS = "in_progress"
    """A worker holds its lease."""
    COMPLETED = "completed"
    """Its objects and their deliveries are in the ledger."""
    CANCELED = "canceled"
    """By a person, or superseded by a later revision before it finished."""
    QUARANTINED = "quarantined"
    """Waits for a person: failed too often, or its result failed the publish gate."""


OPEN_JOB_STATES = (JobState.SCHEDULED, JobState.IN_PROGRESS)


class Outcome(enum.StrEnum):
    """What a completed job says."""

    FOUND = "found"
    NOTHING_FOUND = "nothing_found"
    PROCESSED = "processed"
    """It made images, and nothing was looked for, or found in them."""
    COULD_NOT_LOOK = "could_not_look"


class Mode(enum.StrEnum):
    """How far a pipeline goes on this node."""

    ENABLED = "enabled"
    SHADOW = "shadow"
    """It runs and its results are kept; nothing is sent."""
    DISABLED = "disabled"
    """It is not planned."""


class DeliveryState(enum.StrEnum):
    """Of one object on its way to one destination."""

    PENDING = "pending"
    """Not yet accepted by the destination; tried for ever."""
    SENT = "sent"
    """Accepted (0x0000, a warning, or a duplicate)."""
    COMMITTED = "committed"
    """The destination has taken safekeeping (PS3.4 annex J)."""
    REFUSED = "refused"
    """The destination said no; a person decides."""
    CANCELED = "canceled"
    """A person decided not to send it."""


class Priority(enum.IntEnum):
    """Lower goes first."""

    STAT = 0
    ROUTINE = 5


class Role(enum.StrEnum):
    """Which object of a result it is; also its file name, and its name in ``objects``.

    In the order of sending: none comes before one that it refers to.
    """

    SEG = "seg"
    """Segmentation, binary: drawn by every viewer tried."""
    LABELMAP = "labelmap"
    """Label map segmentation: smaller, refused by many. Falls back to SEG."""
    MAP = "map"
    """Parametric maps: ``map``, ``map-2`` ..."""
    IMAGES = "images"
    """Images made of the source's own: ``images-1-0001`` is the first of the first series."""
    SR = "sr"
    """The complete report, or the one that says why there is none."""
    LABELMAP_SR = "labelmap-sr"
    """The complete report, referring to the label map."""
    COMPREHENSIVE_SR = "comprehensive-sr"
    """The complete report for a PACS that knows no Comprehensive 3D SR."""
    VIEWER_SR = "viewer-sr"
    """Outlines and diameters as coordinates on the images, which viewers draw."""
    TEXT_SR = "text-sr"
    """The whole result in words, which viewers show as text."""
    CAD_SR = "cad-sr"
    """Chest CAD SR (TID 4100)."""
    GSPS = "gsps"
    """Grayscale softcopy presentation state: outlines and labels as graphics."""
    KO = "ko"
    """Key object selection: the images that show the findings."""
    SC = "sc"
    """Secondary capture: pictures of the findings, for a PACS that knows nothing else."""
    PDF = "pdf"
    """The report as a document."""
    REJECTION = "rejection"
    """Rejection note for the objects of the result that this one supersedes (IHE IOCM)."""


@dataclass(frozen=True)
class ReceivedInstance:
    """One instance that passed the gate and is durable in the spool.

    Attributes:
        digest: SHA-256 of the data set as received, without the file meta group (hex).
        path: Of the Part 10 file, relative to the spool.
        own_result: Made by this software (PS3.3 C.12.1.1.1 device UID); never analysed again.
    """

    sop_instance_uid: str
    sop_class_uid: str
    series_uid: str
    study_uid: str
    modality: str
    transfer_syntax_uid: str
    digest: str
    path: str
    size_bytes: int
    calling_ae: str
    association_id: str
    own_result: bool = False


class Receipt(enum.Enum):
    """What the ledger made of a received instance."""

    NEW = "new"
    RESENT = "resent"
    """Same UID, same bytes: nothing to do."""
    CONFLICT = "conflict"
    """Same UID, other bytes: the first is kept, the second set aside for a person."""


@dataclass(frozen=True)
class CompletedSeries:
    """A series the completer has just closed, or that routing looks at again."""

    study_uid: str
    series_uid: str
    modality: str
    revision: int


@dataclass(frozen=True)
class StoredInstance:
    """What later stages need to know of an instance in the spool."""

    sop_instance_uid: str
    sop_class_uid: str
    digest: str
    path: str


@dataclass(frozen=True)
class CompletedStudy:
    """A study whose series are all complete."""

    study_uid: str
    revision: int


@dataclass(frozen=True)
class JobInput:
    """Which series a job takes for one input of a pipeline that has several.

    Attributes:
        name: Of the input.
        fitting: How many series of the study fit it; this one was chosen among them.
    """

    name: str
    series_uid: str
    fitting: int


@dataclass(frozen=True)
class PlannedJob:
    """A job to be: what it is derived from, and where its result goes.

    Attributes:
        id: ``derived_uuid`` of everything that makes the result this result (32 hex digits).
        series_uid: Of the one series that is judged; empty: those of ``inputs``.
        sop_instance_uid: Of the one instance that is judged; empty: the whole series.
        input_digest: SHA-256 over the sorted (SOP Instance UID, digest) of its instances.
        model_sha256: Digest of the model's weights.
        send_to: Names of destinations.
        inputs: Of a pipeline that has several, those that came.
    """

    id: str
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    revision: int
    pipeline: str
    pipeline_version: str
    model_sha256: str
    parameters: str
    input_digest: str
    priority: Priority
    deadline_s: float
    send_to: tuple[str, ...]
    inputs: tuple[JobInput, ...] = ()


@dataclass(frozen=True)
class Lease:
    """A claimed job. Every write about it carries ``token``; a stale one changes nothing.

    Attributes:
        attempt: 1 for the first.
        first_started_at: When its first attempt began, seconds since the epoch; the content
            date of its objects, so that a later attempt makes the same bytes.
        supersedes: Id of the completed job whose result this one replaces, if any.
    """

    job: PlannedJob
    token: str
    attempt: int
    first_started_at: float
    supersedes: str | None


@dataclass(frozen=True)
class Artifact:
    """One result object on disk. Sent byte for byte, never encoded again."""

    sop_instance_uid: str
    sop_class_uid: str
    study_uid: str
    job_id: str
    role: str
    path: str
    digest: str
    size_bytes: int


@dataclass(frozen=True)
class DueDelivery:
    """One object that a destination shall get now."""

    sop_instance_uid: str
    sop_class_uid: str
    study_uid: str
    destination: str
    role: str
    path: str
    digest: str
    attempts: int


@dataclass(frozen=True)
class Commitment:
    """One storage commitment request: its transaction and the objects asked for."""

    transaction_uid: str
    destination: str
    references: tuple[tuple[str, str], ...]
    """(SOP Class UID, SOP Instance UID) of each."""


@dataclass(frozen=True)
class Pledge:
    """What a peer asks this node to answer for: its transaction and the objects."""

    transaction_uid: str
    calling_ae: str
    references: tuple[tuple[str, str], ...]
    """(SOP Class UID, SOP Instance UID) of each."""


@dataclass(frozen=True)
class Verdict:
    """What this node answers for, and what it does not."""

    committed: tuple[tuple[str, str], ...]
    """(SOP Class UID, SOP Instance UID) of each."""
    failed: tuple[tuple[str, str, int], ...]
    """The same, and the Failure Reason (PS3.3 section C.14.1.1)."""


@dataclass(frozen=True)
class Kept:
    """One instance of the ledger: its class, and where in the spool it lies."""

    sop_class_uid: str
    path: str
