"""Ledgers with years behind them: every study received, judged, sent and committed to.

Written by SQL straight into SQLite. Keys are spread evenly over all that are possible, so that a
random new one falls between any two, and onto a page that is full: the worst case for an index.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

from sqlalchemy import create_engine

from node.store.migrate import migrate
from node.store.tables import instance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INSTANCES_OF_STUDY = 100
SERIES_OF_STUDY = 2
EVENTS_OF_STUDY = 14
DESTINATION = "pacs"
PIPELINE = "bright-spot"

Columns = dict[str, str]
"""What a column gets, in SQL; ``n`` counts the rows from 0."""

CT = "'1.2.840.10008.5.1.4.1.1.2'"
LONG_AGO = "(julianday('now') - 2440587.5) * 86400.0 - 1e6"


def build(path: Path, instances: int) -> None:
    """Make a ledger of so many instances at ``path``; one that is there gets the present schema."""
    if path.exists():
        migrate(f"sqlite:///{path}")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    migrate(f"sqlite:///{unfinished}")
    engine = create_engine(f"sqlite:///{unfinished}")
    for index in instance.indexes:  # made at the end, in one go
        index.drop(engine)
    engine.dispose()
    ledger = sqlite3.connect(unfinished, isolation_level=None)
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -262144"):
        ledger.execute(f"PRAGMA {pragma}")
    ledger.execute("BEGIN")
    for table, rows, columns in _tables(instances):
        ledger.execute(
            "WITH RECURSIVE counted(n) AS"  # noqa: S608 - our own words
            " (SELECT 0 UNION ALL SELECT n + 1 FROM counted WHERE n + 1 < :rows)"
            f" INSERT INTO {table} ({', '.join(columns)})"
            f" SELECT {', '.join(columns.values())} FROM counted",
            {"rows": rows},
        )
    ledger.execute("COMMIT")
    ledger.close()
    for index in instance.indexes:
        index.create(engine)
    engine.dispose()
    os.sync()
    unfinished.rename(path)


def _tables(instances: int) -> Iterator[tuple[str, int, Columns]]:
    """Yield the name of each table, its rows, and what is in them."""
    studies = instances // INSTANCES_OF_STUDY
    series = studies * SERIES_OF_STUDY
    of_instance = f"n / {INSTANCES_OF_STUDY // SERIES_OF_STUDY}"
    of_series = f"n / {SERIES_OF_STUDY}"

    def study_uid(number: str) -> str:
        return _uid(1, number, studies)

    def series_uid(number: str) -> str:
        return _uid(2, number, series)

    job_id = f"printf('%016x%016x', n * {2**62 // series}, n)"
    received = {"received_at": LONG_AGO}
    complete = {
        "state": "'complete'",
        "revision": "1",
        "routed_revision": "1",
        "last_instance_at": f"{LONG_AGO} + n * 0.001",
        "completed_at": LONG_AGO,
    }
    yield "study", studies, {"study_uid": study_uid("n"), **received, **complete}
    its_series = {"study_uid": study_uid(of_series), "series_uid": series_uid("n")}
    yield "series", series, {**its_series, "modality": "'CT'", **complete}
    yield (
        "instance",
        instances,
        {
            "sop_instance_uid": _uid(3, "n", instances),
            "sop_class_uid": CT,
            "study_uid": study_uid(f"n / {INSTANCES_OF_STUDY}"),
            "series_uid": series_uid(of_instance),
            "transfer_syntax_uid": "'1.2.840.10008.1.2.1'",
            "digest": "lower(hex(randomblob(32)))",
            "path": "lower(hex(randomblob(1)) || '/' || hex(randomblob(32))) || '.dcm'",
            "size_bytes": "526000",
            "calling_ae": "'CT1'",
            "association_id": f"printf('%032x', {of_instance})",
            "own_result": "0",
            "resends": "0",
            **received,
        },
    )
    times = ("next_attempt_at", "first_started_at", "started_at", "finished_at")
    yield (
        "job",
        series,
        {
            "id": job_id,
            **its_series,
            "sop_instance_uid": "''",
            "revision": "1",
            "pipeline": f"'{PIPELINE}'",
            "pipeline_version": "'1.0.0'",
            "model_sha256": f"'{'0' * 64}'",
            "parameters": "'{}'",
            "input_digest": "lower(hex(randomblob(32)))",
            "send_to": f"'{DESTINATION}'",
            "priority": "5",
            "deadline_s": "60.0",
            "state": "'completed'",
            "outcome": "'found'",
            "attempts": "1",
            "planned_at": f"{LONG_AGO} + n * 0.001",
            **dict.fromkeys(times, LONG_AGO),
            "timings": "'{}'",
        },
    )
    yield "outbox", series, {"job_id": job_id, "sent_at": LONG_AGO}
    transaction_uid = {"transaction_uid": _uid(4, "n", series)}
    asked = dict.fromkeys(("requested_at", "answered_at"), LONG_AGO)
    yield "commitment", series, {**transaction_uid, "destination": f"'{DESTINATION}'", **asked}
    for kind, role in ((5, "seg"), (6, "sr")):
        its_object = {
            "sop_instance_uid": _uid(kind, "n", series),
            "study_uid": study_uid(of_series),
        }
        yield (
            "artifact",
            series,
            {
                **its_object,
                "sop_class_uid": CT,
                "job_id": job_id,
                "role": f"'{role}'",
                "path": f"{job_id} || '/{role}.dcm'",
                "digest": "lower(hex(randomblob(32)))",
                "size_bytes": "40000",
                "written_at": LONG_AGO,
            },
        )
        times = ("next_attempt_at", "planned_at", "sent_at", "committed_at")
        yield (
            "delivery",
            series,
            {
                **its_object,
                "destination": f"'{DESTINATION}'",
                "state": "'committed'",
                "attempts": "1",
                **dict.fromkeys(times, LONG_AGO),
                **transaction_uid,
            },
        )
    yield (
        "event",
        studies * EVENTS_OF_STUDY,
        {
            "at": LONG_AGO,
            "kind": "'sent'",
            "study_uid": study_uid(f"n / {EVENTS_OF_STUDY}"),
            "subject": f"'{DESTINATION}'",
            "detail": "''",
        },
    )


def _uid(kind: int, number: str, of: int) -> str:
    """Return the UID, in SQL, of the ``number``-th of ``of`` things; it is so in their order."""
    step = 9 * 10**18 // of
    return f"('2.25.{kind}' || printf('%019d%019d', ({number}) * {step}, {number}))"
