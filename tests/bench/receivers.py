"""Who receives: the node's listeners, and the peers, each as processes of its own in a new folder.

DCMTK and Orthanc run with ``TCP_NODELAY=1``: without it they wait for the sender's delayed
acknowledgement, some 40 ms an instance.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import psutil
import pytest

from node.settings import Listen, Settings, Spool
from node.store.migrate import migrate
from node.supervise import SUPERVISED
from tests.peers import REPOSITORY, accepts, dcmtk, free_port, require, running
from tests.peers.orthanc import orthanc
from tests.peers.radnode import write_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_ASSOCIATIONS = 100
DCMTK_PDU_BYTES = 131_072
"""The longest that DCMTK takes."""

_WIDE_STORESCP = f"""
from pynetdicom.apps.storescp import storescp
class Wide(storescp.AE):
    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        self.maximum_associations = {MOST_ASSOCIATIONS}
storescp.AE = Wide
storescp.main()
"""
"""``python -m pynetdicom storescp``, but that it takes more associations than ten."""


@dataclass(frozen=True)
class Receiver:
    """A running server.

    Attributes:
        port: It listens on.
        ae_title: It is called by.
        processes: That listen.
        held: Says how many instances it has.
        files: Finds the files of what it received.
    """

    port: int
    ae_title: str
    processes: tuple[psutil.Process, ...]
    held: Callable[[], int]
    files: Callable[[], Iterator[Path]]

    def cpu_s(self) -> float:
        """Return the processor time of all its processes so far, those that ended included."""
        total = 0.0
        for process in self.processes:
            own = process.cpu_times()
            total += own.user + own.system + own.children_user + own.children_system
            for child in process.children(recursive=True):
                with suppress(psutil.NoSuchProcess):  # it ended meanwhile: the next look counts it
                    times = child.cpu_times()
                    total += times.user + times.system
        return total

    def largest_resident_bytes(self) -> int:
        """Return the most memory that one listening process has held since its start."""
        return max(_peak_resident_bytes(process) for process in self.processes)

    def remove_files(self) -> None:
        """Remove what it received, so that nothing of it is written back in another's time."""
        for path in self.files():
            path.unlink()


@contextmanager
def radnode(folder: Path) -> Iterator[Receiver]:
    """Run the listeners of a node, as many and as the supervisor starts them."""
    settings = Settings(
        data=folder / "data",
        listen=Listen(
            host="127.0.0.1",
            port=free_port(),
            maximum_associations=MOST_ASSOCIATIONS,
        ),
        spool=Spool(minimum_free_bytes=0),
    )
    settings.data.mkdir(parents=True)
    migrate(settings.database_url)
    config = write_config(settings, folder / "radnode.toml")
    log = folder / "node.log"
    log.touch()
    listeners = range(1, settings.listen.process_count + 1)

    def all_listen() -> bool:
        return log.read_text().count("listening") >= len(listeners)

    with _started() as processes, ExitStack() as stack:
        for number in listeners:
            command = [sys.executable, "-m", "node.cli", "listen", "--number", str(number)]
            stack.enter_context(
                running(
                    [*command, "--config", config],
                    ready=all_listen if number == len(listeners) else lambda: True,
                    log=log,
                    cwd=REPOSITORY,
                    stdin=subprocess.PIPE,
                    env=os.environ | {SUPERVISED: "1"},
                )
            )
        database = settings.data / "ledger.sqlite"
        yield Receiver(
            settings.listen.port,
            settings.listen.ae_title,
            processes(),
            lambda: _rows_with_their_file(database, settings.spool_folder),
            lambda: settings.spool_folder.glob("*/*.dcm"),
        )


@contextmanager
def dcmtk_storescp(folder: Path) -> Iterator[Receiver]:
    """Run DCMTK's ``storescp``: a process an association; it answers without fsync."""
    options = ("--fork", "--promiscuous", "--max-pdu", str(DCMTK_PDU_BYTES))
    with _started() as processes, dcmtk.storescp(folder, *options) as scp:
        yield Receiver(
            scp.port, scp.ae_title, processes(), lambda: len(scp.files()), scp.folder.iterdir
        )


@contextmanager
def orthanc_server(folder: Path) -> Iterator[Receiver]:
    """Run Orthanc, which fsyncs each file unless told otherwise, with threads for all who call."""
    nodelay = mock.patch.dict(os.environ, TCP_NODELAY="1")
    with nodelay, _started() as processes, orthanc(folder, threads=MOST_ASSOCIATIONS) as server:
        yield Receiver(
            server.port,
            server.ae_title,
            processes(),
            server.count,
            lambda: (folder / "storage").glob("*/*/*"),
        )


@contextmanager
def pynetdicom_storescp(folder: Path) -> Iterator[Receiver]:
    """Run pynetdicom's application ``storescp``: it answers without fsync."""
    received = folder / "received"
    received.mkdir(parents=True)
    port = free_port()
    command = [sys.executable, "-c", _WIDE_STORESCP, str(port), "-od", str(received), "-q"]
    log = folder / "storescp.log"
    with _started() as processes, running(command, ready=lambda: accepts(port), log=log):
        yield Receiver(
            port,
            "STORESCP",
            processes(),
            lambda: sum(1 for _ in received.iterdir()),
            received.iterdir,
        )


SERVERS = {
    "radnode": radnode,
    "DCMTK": dcmtk_storescp,
    "Orthanc": orthanc_server,
    "pynetdicom": pynetdicom_storescp,
}
_PROGRAMS = {"DCMTK": "storescp", "Orthanc": "Orthanc"}


def installed(name: str) -> bool:
    """Whether a server can be started here."""
    try:
        require(_PROGRAMS.get(name, sys.executable))
    except pytest.skip.Exception:
        return False
    return True


@contextmanager
def started(name: str, folder: Path) -> Iterator[Receiver]:
    """Run the server ``name`` in a new folder below ``folder``, which goes with it."""
    own = folder / f"bench-{name.lower()}-{os.getpid()}"
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    try:
        with SERVERS[name](own) as receiver:
            yield receiver
            for process in receiver.processes:  # nobody needs what a polite end would write
                process.kill()
    finally:
        shutil.rmtree(own, ignore_errors=True)


@contextmanager
def _started() -> Iterator[Callable[[], tuple[psutil.Process, ...]]]:
    """Give a function that says which processes were started since."""
    me = psutil.Process()
    before = set(me.children())
    yield lambda: tuple(set(me.children()) - before)


def _rows_with_their_file(database: Path, spool: Path) -> int:
    """Count the instances of the ledger whose file is in the spool."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        paths = [path for (path,) in db.execute("SELECT path FROM instance")]
    db.close()
    return sum((spool / path).exists() for path in paths)


def _peak_resident_bytes(process: psutil.Process) -> int:
    """Return what Linux calls VmHWM."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return int(process.memory_info().rss)
