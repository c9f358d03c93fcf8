"""The node's listeners as ``radnode up`` starts them, and what they may be held to.

Everything here is said of running processes from outside: by what they answer, by what lies in the
spool and the ledger, and by what the kernel knows of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from node.settings import Listen, Settings, Spool
from node.spool import Spool as SpoolFolder
from node.store.ledger import Ledger
from node.store.migrate import migrate
from node.supervise import SUPERVISED
from tests.node.receiving import instances, open_associations, parts
from tests.node.results import data_set_digest
from tests.peers import REPOSITORY, free_port, running
from tests.peers.radnode import write_config

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

HOST = "127.0.0.1"
SETTLE_S = 10.0
"""In which what was in use is given back."""


@dataclass(frozen=True)
class Use:
    """What the listener processes use of the system, all together; the memory is the largest's.

    Descriptors are without those of the ledger: SQLite keeps as many as were ever in use at once.
    """

    threads: int
    descriptors: int
    resident_bytes: int


@dataclass(frozen=True)
class Listeners:
    """Running listener processes of one node.

    Attributes:
        settings: Of the node.
        ledger: For looking into.
        processes: Of Python; each was alive when all listened.
        log: Their output.
    """

    settings: Settings
    ledger: Ledger
    processes: tuple[psutil.Process, ...]
    log: Path

    @property
    def port(self) -> int:
        """Where scanners send to."""
        return self.settings.listen.port

    @property
    def called_ae(self) -> str:
        """What scanners call."""
        return self.settings.listen.ae_title

    def dead(self) -> int:
        """Return how many of the processes are not running any more."""
        return sum(not process.is_running() for process in self.processes)

    def use(self) -> Use:
        """Return what the processes use now."""
        living = [process for process in self.processes if process.is_running()]
        return Use(
            threads=sum(process.num_threads() for process in living),
            descriptors=sum(map(_descriptors, living)),
            resident_bytes=max(process.memory_info().rss for process in living),
        )

    def settled(self, before: Use) -> Use:
        """Wait until threads and descriptors are back to ``before``, or time is up."""
        end = time.monotonic() + SETTLE_S
        while True:
            now = self.use()
            back = now.threads <= before.threads and now.descriptors <= before.descriptors
            if back or time.monotonic() > end:
                return now
            time.sleep(0.1)

    def digests(self) -> set[str]:
        """Return the digests that the ledger has a row for."""
        return {row["digest"] for row in instances(self.ledger)}

    def lost(self, acknowledged: Collection[str]) -> list[str]:
        """Return which digests are not, byte for byte, in the spool, or not in the ledger."""
        indexed = self.digests()
        return [one for one in acknowledged if one not in indexed or not self._kept(one)]

    def damaged(self) -> list[str]:
        """Return the files of the spool whose content is not what their name says."""
        spool = SpoolFolder(self.settings.spool_folder)
        return [path for path in spool.files() if not self._kept(path[3:-4])]

    def left(self) -> list[str]:
        """Return what is still being received, or believed to be, once that ought to have ended."""
        end = time.monotonic() + SETTLE_S
        while True:
            files = [path.name for path in parts(self.settings)]
            files += [row["association_id"] for row in open_associations(self.ledger)]
            if not files or time.monotonic() > end:
                return files
            time.sleep(0.1)

    def _kept(self, digest: str) -> bool:
        path = self.settings.spool_folder / digest[:2] / f"{digest}.dcm"
        try:
            return data_set_digest(path) == digest
        except OSError:
            return False


def _descriptors(process: psutil.Process) -> int:
    of_ledger = [file for file in process.open_files() if "ledger.sqlite" in file.path]
    return process.num_fds() - len(of_ledger)


@contextmanager
def listeners(
    folder: Path,
    *,
    before: Sequence[str | Path] = (),
    environment: Mapping[str, str] | None = None,
    **listen: Any,
) -> Iterator[Listeners]:
    """Run the listeners of a new node, as many as its settings say.

    Args:
        folder: For all that is theirs; it need not exist.
        before: A program that starts each, such as a tracer.
        environment: More of it.
        listen: Changes to the settings of the listener.
    """
    settings = Settings(
        data=folder / "data",
        listen=Listen(**{"host": HOST, "port": free_port(), "ae_title": "PACS", **listen}),
        spool=Spool(minimum_free_bytes=0),
    )
    settings.data.mkdir(parents=True)
    migrate(settings.database_url)
    with started(settings, folder, before=before, environment=environment) as running_ones:
        yield running_ones


@contextmanager
def started(
    settings: Settings,
    folder: Path,
    *,
    before: Sequence[str | Path] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Listeners]:
    """Run the listeners of a node whose ledger is there; see ``listeners``."""
    config = write_config(settings, folder / "radnode.toml")
    log = folder / "listeners.log"
    log.touch()
    numbers = range(1, settings.listen.process_count + 1)

    def all_listen() -> bool:
        return log.read_text().count("listening") >= len(numbers)

    me = psutil.Process()
    earlier = set(me.children(recursive=True))
    with ExitStack() as stack:
        for number in numbers:
            verb = [sys.executable, "-m", "node.cli", "listen", "--number", str(number)]
            process = stack.enter_context(
                running(
                    [*before, *verb, "--config", config],
                    ready=all_listen if number == len(numbers) else lambda: True,
                    log=log,
                    cwd=REPOSITORY,
                    stdin=subprocess.PIPE,
                    env={**os.environ, **(environment or {}), SUPERVISED: "1"},
                )
            )
            if process.stdin is not None:  # its end is theirs, also where a tracer is between
                stack.callback(process.stdin.close)
        new = set(me.children(recursive=True)) - earlier
        ours = tuple(one for one in new if "node.cli" in one.cmdline()[:4])
        with Ledger.open(settings.database_url) as ledger:
            yield Listeners(settings, ledger, ours, log)
