"""The schema: every table, its owner, its states. Times are seconds since the epoch.

Text that identifies a patient is in no column. Each stage owns one table and writes no other
stage's; ``event`` is written by all and changed by none.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    false,
    text,
)

from node.domain import DeliveryState, JobState, Mode, StudyState

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    }
)

Sequence = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows only in an INTEGER primary key."""


def _one_of(
    column: str, states: type[StudyState | JobState | DeliveryState | Mode]
) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(s.value) for s in states)})", name=column)


def _only(name: str, *columns: str, where: str) -> Index:
    """Return an index of few of many rows. A query uses it that says ``where`` in these words."""
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


# --- receive (store.receiving, store.studies) ------------------------------------------------

association = Table(  # an open DICOM association that may still bring instances
    "association",
    metadata,
    Column("id", Text, primary_key=True),
    Column("listener", Text, nullable=False),  # process that holds it
    Column("calling_ae", Text, nullable=False),
    Column("opened_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),  # moved every 15 s; older than 60 s: gone
)

instance = Table(  # one SOP instance, durable in the spool since before its 0x0000
    "instance",
    metadata,
    Column("sop_instance_uid", Text, primary_key=True),
    Column("sop_class_uid", Text, nullable=False),
    Column("study_uid", Text, nullable=False),
    Column("series_uid", Text, nullable=False),
    Column("transfer_syntax_uid", Text, nullable=False),
    Column("digest", Text, nullable=False),  # SHA-256 of the data set without file meta
    Column("path", Text, nullable=False),  # relative to the spool
    Column("size_bytes", BigInteger, nullable=False),
    Column("calling_ae", Text, nullable=False),
    Column("association_id", Text, nullable=False),
    Column("own_result", Boolean, nullable=False),  # our own object came back: never analysed
    Column("resends", Integer, nullable=False, default=0),
    Column("received_at", Double, nullable=False),  # last time, if it was sent again
    # Its primary key alone costs each instance a page of its own: no other index may.
    Index(None, "study_uid", "series_uid"),
    Index(  # of few
        "ix_instance_own",
        "received_at",
        sqlite_where=text("own_result = 1"),
        postgresql_where=text("own_result"),
    ),
)

conflict = Table(  # same SOP Instance UID, other bytes: kept aside for a person
    "conflict",
    metadata,
    Column("sop_instance_uid", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("path", Text, nullable=False),
    Column("calling_ae", Text, nullable=False),
    Column("received_at", Double, nullable=False),
)

study = Table(
    "study",
    metadata,
    Column("study_uid", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("revision", Integer, nullable=False),  # counts completions; 0 before the first
    Column("received_at", Double, nullable=False),
    Column("last_instance_at", Double, nullable=False),  # the quiet time runs from here
    Column("completed_at", Double),
    # Last revision whose series were put together for pipelines that need several of them.
    Column("routed_revision", Integer, nullable=False, server_default="0"),
    Column("route_at", Double),  # not before; NULL: at once
    # Last revision whose files were removed: with a later one it has come again.
    Column("released_revision", Integer, nullable=False, server_default="0"),
    _one_of("state", StudyState),
    Index(None, "state", "last_instance_at"),
    _only("ix_study_unrouted", "completed_at", where="routed_revision < revision"),
    _only("ix_study_kept", "last_instance_at", where="released_revision < revision"),
)

series = Table(  # completes on its own, so that its jobs need not wait for the study
    "series",
    metadata,
    Column("study_uid", Text, ForeignKey("study.study_uid"), primary_key=True),
    Column("series_uid", Text, primary_key=True),
    Column("modality", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("last_instance_at", Double, nullable=False),
    Column("completed_at", Double),
    Column("routed_revision", Integer, nullable=False),  # last revision that routing has seen
    Column("route_at", Double),  # not before; NULL: at once
    # The most that were ever removed at once: with fewer than these it is not whole.
    Column("released_instances", Integer, nullable=False, server_default="0"),
    _one_of("state", StudyState),
    Index(None, "state", "last_instance_at"),
    _only("ix_series_unrouted", "completed_at", where="routed_revision < revision"),
)

# --- plan, relay, worker (store.plans, store.jobs) -------------------------------------------

job = Table(  # one pipeline on one series, recording or study, as it was at one revision
    "job",
    metadata,
    Column("id", Text, primary_key=True),  # derived: planning twice is planning once
    Column("study_uid", Text, nullable=False),
    Column("series_uid", Text, nullable=False),  # the one judged; "": those in job_input
    Column("sop_instance_uid", Text, nullable=False),  # the one judged; "": the whole series
    Column("revision", Integer, nullable=False),
    Column("pipeline", Text, nullable=False),
    Column("pipeline_version", Text, nullable=False),
    Column("model_sha256", Text, nullable=False),
    Column("parameters", Text, nullable=False),
    Column("input_digest", Text, nullable=False),
    Column("send_to", Text, nullable=False),  # names of destinations, joined by spaces
    Column("priority", Integer, nullable=False),  # domain.Priority: STAT before routine
    Column("deadline_s", Double, nullable=False),
    Column("state", Text, nullable=False),
    Column("outcome", Text),  # domain.Outcome, once completed
    Column("supersedes", Text),  # completed job whose result this one replaces
    Column("attempts", Integer, nullable=False, default=0),  # counted before work starts
    Column("next_attempt_at", Double, nullable=False),
    Column("lease_token", Text),  # stands on every write of the worker that holds the job
    Column("lease_until", Double),
    Column("worker", Text),
    Column("what", Text),  # last failure: what happened ...
    Column("do", Text),  # ... and what to do
    Column("planned_at", Double, nullable=False),
    Column("first_started_at", Double),  # content date of its objects, on every attempt
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("timings", Text),  # JSON: stage -> seconds, as the worker measured them
    Column("withheld", Boolean, nullable=False, server_default=false()),  # completed, never sent
    _one_of("state", JobState),
    Index(None, "state", "planned_at"),
    Index(None, "study_uid", "series_uid", "pipeline"),
    _only(
        "ix_job_open",
        "priority",
        "next_attempt_at",
        "id",
        where="state NOT IN ('completed', 'canceled', 'quarantined')",
    ),
)

job_input = Table(  # the series that a job takes for each input; none came for one without a row
    "job_input",
    metadata,
    Column("job_id", Text, ForeignKey("job.id"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("series_uid", Text, nullable=False),
    Column("fitting", Integer, nullable=False),  # series of the study that it was chosen among
)

pipeline_mode = Table(  # what a person decided on a pipeline; without a row: its own default
    "pipeline_mode",
    metadata,
    Column("pipeline", Text, primary_key=True),
    Column("mode", Text, nullable=False),
    Column("changed_at", Double, nullable=False),
    _one_of("mode", Mode),
)

outbox = Table(  # bells to ring; written only with its job, in one transaction
    "outbox",
    metadata,
    Column("sequence", Sequence, primary_key=True),
    Column("job_id", Text, ForeignKey("job.id"), nullable=False),
    Column("sent_at", Double),  # NULL: not yet handed to the broker
    _only("ix_outbox_unsent", "sequence", where="sent_at IS NULL"),
)

worker = Table(  # one process that runs jobs; the supervisor restarts a silent one
    "worker",
    metadata,
    Column("name", Text, primary_key=True),
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("job_id", Text),
)

# --- publish, deliver, commit (store.deliveries) ---------------------------------------------

artifact = Table(  # one result object; its file was durable before this row
    "artifact",
    metadata,
    Column("sop_instance_uid", Text, primary_key=True),  # derived from the job
    Column("sop_class_uid", Text, nullable=False),
    Column("study_uid", Text, nullable=False),
    Column("job_id", Text, ForeignKey("job.id"), nullable=False),
    Column("role", Text, nullable=False),  # seg, sr
    Column("path", Text, nullable=False),  # relative to the artifact folder
    Column("digest", Text, nullable=False),  # SHA-256 of the file
    Column("size_bytes", BigInteger, nullable=False),
    Column("written_at", Double, nullable=False),
    Column("released_at", Double),  # its file is no longer there
    Index(None, "job_id"),
    _only("ix_artifact_kept", "written_at", where="released_at IS NULL"),
    _only("ix_artifact_rejection", "job_id", where="role = 'rejection'"),
)

delivery = Table(  # one object on its way to one destination
    "delivery",
    metadata,
    Column("sop_instance_uid", Text, ForeignKey("artifact.sop_instance_uid"), primary_key=True),
    Column("destination", Text, primary_key=True),
    Column("study_uid", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", Double, nullable=False),  # also the lease of the deliverer at work
    Column("status", Integer),  # last DIMSE status, if one came
    Column("what", Text),
    Column("do", Text),
    Column("planned_at", Double, nullable=False),
    Column("sent_at", Double),
    Column("committed_at", Double),
    Column("transaction_uid", Text),  # commitment asked for, not yet answered
    _one_of("state", DeliveryState),
    Index(None, "destination", "state", "next_attempt_at"),
    Index(None, "state", "planned_at"),
)

commitment = Table(  # one N-ACTION; written before it is sent (PS3.4 J.3.2)
    "commitment",
    metadata,
    Column("transaction_uid", Text, primary_key=True),
    Column("destination", Text, nullable=False),
    Column("requested_at", Double, nullable=False),
    Column("answered_at", Double),
)

pledge = Table(  # one N-ACTION of a peer: what this node shall answer for (store.pledges)
    "pledge",
    metadata,
    Column("transaction_uid", Text, primary_key=True),
    Column("calling_ae", Text, primary_key=True),
    Column("objects", Text, nullable=False),  # JSON: [[SOP class, SOP instance], ...]
    Column("requested_at", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", Double, nullable=False),  # also the lease of who calls back
    Column("answered_at", Double),
    _only("ix_pledge_open", "next_attempt_at", where="answered_at IS NULL"),
)

safekeeping = Table(  # studies that a peer may have deleted, because this node answers for them
    "safekeeping",
    metadata,
    Column("study_uid", Text, primary_key=True),
    Column("since", Double, nullable=False),
)

# --- retain, reconcile (store.retention, store.reading) --------------------------------------

removal = Table(  # a file that no row stands for any more, until it is gone
    "removal",
    metadata,
    Column("path", Text, primary_key=True),  # in the spool; or the id of a job, its folder
    Column("sop_instance_uid", Text, nullable=False),  # "": the folder of a job
    Column("size_bytes", BigInteger, nullable=False),
    Column("aside_at", Double),  # moved out of the way; NULL: not yet
)

reading = Table(  # how far someone has come who reads every file again
    "reading",
    metadata,
    Column("name", Text, primary_key=True),
    Column("begun_at", Double, nullable=False),
    Column("area", Text, nullable=False),  # instances, results
    Column("after", Text, nullable=False),  # JSON: the key of the last one read
    Column("files", Integer, nullable=False),  # read since it began
    Column("faults", Integer, nullable=False),  # found since it began
)

# --- all -------------------------------------------------------------------------------------

event = Table(  # append-only: what changed, when, why
    "event",
    metadata,
    Column("sequence", Sequence, primary_key=True),
    Column("at", Double, nullable=False),
    Column("kind", Text, nullable=False),
    Column("study_uid", Text),
    Column("job_id", Text),
    Column("subject", Text),  # destination, SOP class, listener ...
    Column("detail", Text, nullable=False),
    Index(None, "study_uid"),
)
