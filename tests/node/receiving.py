"""A running listener: in this process, or as a process of its own that tests may kill."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydicom.filereader import dcmread
from pynetdicom.dsutils import split_dataset
from sqlalchemy import create_engine, select

from node.dimse import listener
from node.settings import Settings
from node.spool import Spool
from node.store.ledger import Ledger, open_ledger
from node.store.tables import association, conflict, event, instance
from tests.peers import REPOSITORY, accepts, running

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sqlalchemy import Table


@contextmanager
def listening(settings: Settings, ledger: Ledger, *, name: str = "listener-1") -> Iterator[int]:
    """Run a listener in threads of this process; yields its port."""
    stop, ready = threading.Event(), threading.Event()
    thread = threading.Thread(
        target=listener.serve,
        args=(settings, ledger),
        kwargs={"stop": stop, "ready": lambda _: ready.set(), "name": name},
    )
    thread.start()
    try:
        assert ready.wait(30)
        yield settings.listen.port
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


@contextmanager
def ledger_of_one_connection(settings: Settings) -> Iterator[Ledger]:
    """Open the ledger for one thread at a time; the next one gives up at once."""
    engine = create_engine(settings.database_url, pool_size=1, max_overflow=0, pool_timeout=0.01)
    ledger = Ledger(engine)
    yield ledger
    ledger.close()


@contextmanager
def listener_process(
    settings: Settings,
    log: Path,
    *,
    name: str = "listener-1",
    before: Sequence[str] = (),
    **environment: str,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a listener as a process of its own.

    Args:
        settings: Of the node.
        log: File that gets its output.
        name: Of the listener in the ledger.
        before: A program that starts it.
        environment: More of it, such as RADNODE_CRASH_AT.
    """
    command = [*before, sys.executable, "-m", "tests.node.receiving", name]
    with running(
        [*command, settings.model_dump_json()],
        ready=lambda: accepts(settings.listen.port),
        log=log,
        cwd=REPOSITORY,
        env=os.environ | environment,
    ) as process:
        yield process


def rows(ledger: Ledger, table: Table) -> list[dict[str, Any]]:
    """Return a table's rows."""
    with ledger.read() as db:
        return [dict(row) for row in db.execute(select(table)).mappings()]


def instances(ledger: Ledger) -> list[dict[str, Any]]:
    """Return the instance rows."""
    return rows(ledger, instance)


def conflicts(ledger: Ledger) -> list[dict[str, Any]]:
    """Return the conflict rows."""
    return rows(ledger, conflict)


def open_associations(ledger: Ledger) -> list[dict[str, Any]]:
    """Return the associations that the ledger believes to be open."""
    return rows(ledger, association)


def event_kinds(ledger: Ledger) -> list[str]:
    """Return what the event log says happened."""
    return [row["kind"] for row in rows(ledger, event)]


def event_rows(ledger: Ledger, kind: str) -> list[dict[str, Any]]:
    """Return the events of one kind, oldest first."""
    found = [row for row in rows(ledger, event) if row["kind"] == kind]
    return sorted(found, key=lambda row: row["sequence"])


def stored(settings: Settings) -> dict[str, bytes]:
    """Return SOP Instance UID -> data set without file meta, of everything in the spool."""
    spool = Spool(settings.spool_folder)
    found = {}
    for path in map(spool.absolute, spool.files()):
        _, offset = split_dataset(path)
        dataset = dcmread(path, stop_before_pixels=True)
        found[str(dataset.SOPInstanceUID)] = path.read_bytes()[offset:]
    return found


def parts(settings: Settings) -> list[Path]:
    """Return what is being received, or was left behind."""
    return sorted((settings.spool_folder / "tmp").glob("*"))


def _main() -> None:
    settings = Settings.model_validate_json(sys.argv[2])
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    ledger = open_ledger(settings)
    listener.serve(settings, ledger, stop=stop, name=sys.argv[1])
    ledger.close()


if __name__ == "__main__":
    _main()
