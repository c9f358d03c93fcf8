"""The schema: from nothing to the present, by whoever asks first, and what the ledger promises."""

from __future__ import annotations

import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, text
from sqlalchemy.exc import IntegrityError

from node.errors import ConfigError
from node.store import bells, workers
from node.store.ledger import Ledger
from node.store.migrate import migrate
from node.store.tables import job, metadata, study
from tests.node.ledger_rows import plan, planned, rows
from tests.peers import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from node.settings import Settings
    from tests.peers.postgres import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database without a schema."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'ledger.sqlite'}"
        return
    server: Postgres = request.getfixturevalue("postgresql")
    name = f"empty_{uuid.uuid4().hex}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield server.url(name).replace("postgresql:", "postgresql+psycopg:")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def differences(ledger: Ledger) -> list[object]:
    with ledger.write() as db:
        return list(compare_metadata(MigrationContext.configure(db), metadata))


def test_the_migrations_make_the_schema_that_the_code_uses(empty: str) -> None:
    migrate(empty)
    ledger = Ledger.open(empty)
    assert differences(ledger) == []
    ledger.close()


def test_migrating_again_changes_nothing(ledger: Ledger, settings: Settings) -> None:
    plan(ledger, planned())
    migrate(settings.database_url)
    assert differences(ledger) == []
    assert len(rows(ledger, job)) == 1


def test_an_upgrade_leaves_the_studies_of_before_as_they_are(empty: str) -> None:
    """Pipelines that need several series start with what comes, not with last year's studies."""
    config = Config()
    config.set_main_option("script_location", str(REPOSITORY / "node/store/migrations"))
    with Ledger.open(empty) as ledger:
        with ledger.write() as db:
            config.attributes["connection"] = db
            command.upgrade(config, "0001")
        for uid, state in (("1.2", "complete"), ("1.3", "receiving")):
            row = {"study_uid": uid, "state": state, "revision": 2}
            with ledger.write() as db:
                db.execute(
                    text(
                        "INSERT INTO study (study_uid, state, revision, received_at,"
                        " last_instance_at) VALUES (:study_uid, :state, :revision, 0.0, 0.0)"
                    ),
                    row,
                )
    migrate(empty)
    with Ledger.open(empty) as ledger:
        assert {row.study_uid: row.routed_revision for row in rows(ledger, study)} == {
            "1.2": 2,
            "1.3": 0,
        }


FIRST_STATES = {
    "study": "complete",
    "series": "complete",
    "job": "scheduled",
    "delivery": "pending",
    "pipeline_mode": "shadow",
}


def fill(db: Connection) -> dict[str, dict[str, Any]]:
    """Insert one row into every table that there is; return them by table."""
    there = MetaData()
    there.reflect(db)
    filled: dict[str, dict[str, Any]] = {}
    for table in there.sorted_tables:
        if table.name == "alembic_version":
            continue
        row: dict[str, Any] = {}
        for column in table.columns:
            kind = column.type.python_type
            row[column.name] = "1.2" if kind is str else kind(1)
            if column.name in ("state", "mode"):
                row[column.name] = FIRST_STATES[table.name]
        if table.name == "outbox":
            row["sent_at"] = None
        db.execute(table.insert().values(row))
        filled[table.name] = row
    return filled


@pytest.mark.parametrize("before", ["0001", "0004"])
def test_an_upgrade_keeps_every_row(empty: str, before: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(REPOSITORY / "node/store/migrations"))
    with Ledger.open(empty) as ledger, ledger.write() as db:
        config.attributes["connection"] = db
        command.upgrade(config, before)
        filled = fill(db)
    migrate(empty)
    with Ledger.open(empty) as ledger:
        assert differences(ledger) == []
        for name, row in filled.items():
            (kept,) = rows(ledger, metadata.tables[name])
            assert {column: kept._mapping[column] for column in row} == row
        with ledger.read() as db:
            assert bells.unrung(db) == ((1, "1.2"),)


def test_every_role_of_a_new_node_may_migrate_at_once(empty: str) -> None:
    code = "import sys; from node.store.migrate import migrate; migrate(sys.argv[1])"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, empty], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    assert [(one.communicate()[1], one.returncode) for one in started] == [("", 0)] * 4


def test_a_ledger_of_a_later_version_is_refused_in_words(empty: str) -> None:
    migrate(empty)
    with Ledger.open(empty) as ledger, ledger.write() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="later version"):
        migrate(empty)


# --- the ledger ------------------------------------------------------------------------------


def test_an_error_of_the_database_quotes_no_value(ledger: Ledger) -> None:
    secret = {"study_uid": "1.2.3.4.5", "revision": 0, "received_at": 0.0, "last_instance_at": 0.0}
    with pytest.raises(IntegrityError) as raised, ledger.write() as db:
        db.execute(study.insert().values(**secret, state="lost"))
    assert "hidden" in str(raised.value)
    assert "1.2.3.4.5" not in str(raised.value).split("[SQL", 1)[1]


def test_a_read_sees_what_was_committed_a_moment_ago(ledger: Ledger) -> None:
    with ledger.read() as db:
        assert workers.silent_s(db, "worker") is None
        with ledger.write() as other:
            workers.touch_worker(other, "worker", None)
        assert workers.silent_s(db, "worker") is not None


def test_a_reader_holds_up_no_writer(ledger: Ledger) -> None:
    plan(ledger, planned("read"))
    with ledger.read() as db:
        result = db.execute(job.select())
        assert plan(ledger, planned("written meanwhile")) == [True]
        assert len(result.all()) == 1


def test_writers_wait_for_each_other_and_none_fails(ledger: Ledger) -> None:
    def write(number: int) -> None:
        for _ in range(10):
            with ledger.write() as db:
                workers.touch_worker(db, f"worker-{number}", None)
                workers.touch_worker(db, "shared", str(number))

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(write, number) for number in range(8)]:
            done.result()
