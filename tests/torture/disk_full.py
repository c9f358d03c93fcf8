"""A disk that is full, read-only, or out of inodes: under the spool, and under the database.

The two are file systems of 64 MB of their own. Nobody can remount a disk read-only under a database
that is open; so strace makes the kernel refuse what the listener writes there.
"""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import time
import uuid
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from node.settings import Listen, Settings, Spool
from node.store.migrate import migrate
from tests.peers import free_port, require, scanner
from tests.torture.listeners import HOST, started
from tests.torture.subject import Figure, Size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.torture.listeners import Listeners

DISK_MB = 64
INODES = 2_000
OUT_OF_RESOURCES = 0xA700
TEMPORARY = (0x02, 0x03)
"""Result and source of an A-ASSOCIATE-RJ that says: try again later."""
HEALED_GOAL_S = 5.0
GIVEN_UP_S = 30.0
WAYS = 6


@dataclass
class Told:
    """What senders were told while there was no room, and what came of it.

    Attributes:
        way: How the room was lost.
        acknowledged: Digests of what got 0x0000, before and after.
        improper: Answers that are neither success nor a refusal that says: later.
        lost: Of what was acknowledged, and damaged files.
        healed_s: Until an instance was stored again.
    """

    way: str = ""
    tried: int = 0
    lost: int = 0
    healed_s: float = 0.0
    refused: int = 0
    acknowledged: list[str] = field(default_factory=list)
    improper: list[str] = field(default_factory=list)


def measure(seed: int, size: Size, folder: Path) -> list[Figure]:
    """Take the room away in six ways, send, give it back, and see how long it takes."""
    del seed  # nothing here is left to chance
    each = size.choose(quick=4, submission=20, long=200)
    if os.getuid() != 0:
        note = "file systems are mounted: run it as root"
        return [Figure("ways to lose the room that were tried", 0, WAYS, at_least=WAYS, note=note)]
    outcomes = []
    with _disks(folder) as settings, started(settings, folder) as listening:
        data, spool = settings.data, settings.spool_folder
        cases: dict[str, AbstractContextManager[None]] = {
            "spool full": _filled(spool),
            "spool read-only": _read_only(spool),
            "spool without inodes": _without_inodes(spool),
            "database full": _filled(data),
            "database read-only": _refusing(listening, data),
            "database without inodes": _without_inodes(data),
        }
        _send(listening, 0, Told())
        for number, (name, without_room) in enumerate(cases.items(), start=1):
            told = Told(name)
            with without_room:
                _send_all(listening, number * 10_000, each, told)
            told.healed_s = _healed_s(listening, number * 10_000 + 9_000, told)
            told.lost = len(listening.lost(told.acknowledged)) + len(listening.damaged())
            outcomes.append(told)
        left, dead = listening.left(), listening.dead()
    tried, refused = sum(one.tried for one in outcomes), sum(one.refused for one in outcomes)
    improper = [f"{one.way}: {answer}" for one in outcomes for answer in one.improper]
    slowest = max(outcomes, key=lambda one: one.healed_s)
    return [
        Figure(
            "answers that are neither 0xA700, A-ASSOCIATE-RJ, nor true",
            len(improper),
            tried,
            at_most=0,
            note="; ".join(improper[:3]),
        ),
        Figure("refused", refused, tried, note=_taken(outcomes)),
        Figure("lost or truncated", sum(one.lost for one in outcomes), tried, at_most=0),
        Figure(
            "until an instance is stored again, longest (s)",
            round(slowest.healed_s, 2),
            len(outcomes),
            at_most=HEALED_GOAL_S,
            note=slowest.way,
        ),
        Figure("listener processes that died", dead, at_most=0),
        Figure("parts, and open associations, that stay", len(left), at_most=0),
    ]


def _taken(outcomes: list[Told]) -> str:
    """Return where instances could be stored all the same."""
    ways = [one.way for one in outcomes if one.tried > one.refused + len(one.improper)]
    return f"stored all the same, as it should be: {', '.join(ways)}" if ways else ""


# --- senders ---------------------------------------------------------------------------------


def _send_all(listening: Listeners, first: int, count: int, told: Told) -> None:
    """Send half of the instances on one association, and half each on its own."""
    with suppress(scanner.Rejected), _associate(listening) as sender:
        for number in range(first, first + count // 2):
            _store(sender, number, told)
    while told.tried < count:
        _send(listening, first + told.tried, told)


def _send(listening: Listeners, number: int, told: Told) -> None:
    try:
        with _associate(listening) as sender:
            _store(sender, number, told)
    except scanner.Rejected as rejection:
        told.tried += 1
        told.refused += rejection.why[:2] == TEMPORARY
        if rejection.why[:2] != TEMPORARY:
            told.improper.append(str(rejection))


def _associate(listening: Listeners) -> AbstractContextManager[scanner.Scanner]:
    return scanner.associate(listening.port, called_ae=listening.called_ae)


def _store(sender: scanner.Scanner, number: int, told: Told) -> None:
    dataset = scanner.ct_slice()
    dataset.SOPInstanceUID = f"1.2.3.4.{number}"
    dataset.PixelData = bytes(100_000)
    encoded = scanner.encode(dataset)
    told.tried += 1
    try:
        status = sender.store(dataset).status
    except ConnectionError:
        status = None
    if status == 0x0000:
        told.acknowledged.append(hashlib.sha256(encoded).hexdigest())
    elif status == OUT_OF_RESOURCES:
        told.refused += 1
    else:
        told.improper.append("no answer" if status is None else f"0x{status:04X}")


def _healed_s(listening: Listeners, number: int, told: Told) -> float:
    """Return how long it takes until an instance is stored again."""
    began = time.monotonic()
    before = len(told.acknowledged)
    while time.monotonic() - began < GIVEN_UP_S:
        attempt = Told()
        _send(listening, number, attempt)
        told.acknowledged += attempt.acknowledged
        if len(told.acknowledged) > before:
            break
        time.sleep(0.1)
    return time.monotonic() - began


# --- disks -----------------------------------------------------------------------------------


@contextmanager
def _disks(folder: Path) -> Iterator[Settings]:
    """Lend a migrated node whose data folder, and whose spool, are small disks."""
    settings = Settings(
        data=folder / "data",
        listen=Listen(host=HOST, port=free_port(), ae_title="PACS", processes=1),
        spool=Spool(minimum_free_bytes=0),
    )
    with ExitStack() as stack:
        for path in (settings.data, settings.spool_folder):
            path.mkdir()
            options = f"size={DISK_MB}m,nr_inodes={INODES}"
            _run("mount", "-t", "tmpfs", "-o", options, "none", str(path))
            stack.callback(_run, "umount", "--lazy", str(path))
        migrate(settings.database_url)
        yield settings


@contextmanager
def _filled(disk: Path) -> Iterator[None]:
    """Write until nothing goes on the disk any more."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        _until_full(lambda: file.write(bytes(4096)))
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def _without_inodes(disk: Path) -> Iterator[None]:
    """Make files until there can be no more."""
    folder = disk / "fillers"
    folder.mkdir()

    def one_more() -> None:
        (folder / uuid.uuid4().hex).touch()

    _until_full(one_more)
    try:
        yield
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _until_full(grow: Callable[[], object]) -> None:
    while True:
        try:
            grow()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return


@contextmanager
def _read_only(disk: Path) -> Iterator[None]:
    _run("mount", "-o", "remount,ro", str(disk))
    try:
        yield
    finally:
        _run("mount", "-o", "remount,rw", str(disk))


@contextmanager
def _refusing(listening: Listeners, disk: Path) -> Iterator[None]:
    """Let every write of the listener to its database fail with EROFS."""
    refused = "pwrite64,pwritev,write,ftruncate"
    command = [require("strace"), "-qq", "-f", "-o", "/dev/null"]
    command += ["-e", f"trace={refused}", "-e", f"inject={refused}:error=EROFS"]
    for name in ("ledger.sqlite", "ledger.sqlite-wal"):
        command += ["-P", str(disk / name)]
    for process in listening.processes:
        command += ["-p", str(process.pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as tracer:
        _wait_for_tracer(listening)
        try:
            yield
        finally:
            tracer.terminate()


def _wait_for_tracer(listening: Listeners) -> None:
    """Return once the kernel says that someone traces the listener."""
    end = time.monotonic() + GIVEN_UP_S
    while any(_tracer_of(process.pid) == "0" for process in listening.processes):
        if time.monotonic() > end:
            raise TimeoutError("strace does not attach")
        time.sleep(0.01)


def _tracer_of(pid: int) -> str:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(line.split()[1] for line in status.splitlines() if line.startswith("TracerPid"))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
