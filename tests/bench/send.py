"""``python -m tests.bench.send``: how fast results go out, beside other senders in one run.

Everyone sends the same files, on tmpfs, on one association a time. "Plain" is ``sendall`` of bytes
that were made before the clock starts: the limit of the wire. The "sink" keeps nothing and answers
at once; DCMTK's storescp writes to the disk or to tmpfs and syncs nothing. Times are from opening
the first file to the end of the association; storescu's without what it needs to start.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, _config
from pynetdicom.presentation import build_context
from rich.console import Console
from rich.table import Table

from node.dimse import meta, sender
from node.dimse.receive import part10_header
from node.dimse.wire import pdus, store_request
from node.settings import DimseDestination, Settings
from tests.bench import goals
from tests.bench.instances import KINDS, encoded, uid
from tests.peers import REPOSITORY, by_hand, dcmtk, require

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = REPOSITORY / "build" / "bench"
MEMORY = Path("/dev/shm")
HOST = "127.0.0.1"
INSTANCES = {"CT": 300, "multi-frame": 1}
PDU_BYTES = 131_072
"""The longest that DCMTK takes, and so the sink's."""

OURS, PLAIN, STORESCU, PYNETDICOM = "radnode", "plain", "storescu", "pynetdicom"
Send = Callable[[int, list[Path]], float | None]
"""Sends files to a port and returns the seconds; None: not all arrived."""


@dataclass(frozen=True)
class Target:
    """Who receives.

    Attributes:
        name: As it is shown.
        port: On loopback.
        senders: Who sends to it.
    """

    name: str
    port: int
    senders: tuple[str, ...]


def measure(console: Console, folder: Path = FOLDER, *, rounds: int = 5) -> dict[str, Any]:
    """Measure every sender to every receiver with every kind of object, and print.

    Args:
        console: Where the table goes.
        folder: On the disk that storescp writes to.
        rounds: In each, everyone sends once; each time another one begins.

    Returns:
        ``cases``: "receiver, kind" -> sender -> ``MB_per_s`` (the median) and ``rounds`` in which
            everything arrived;
        ``goals``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        scratch = MEMORY if MEMORY.is_dir() else folder
        files = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=scratch)))
        kept = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        kinds = {kind: _write(files / kind, kind, count) for kind, count in INSTANCES.items()}
        size_mb = {kind: sum(p.stat().st_size for p in kinds[kind]) / 1e6 for kind in kinds}
        targets = list(_targets(stack, files, kept))
        for turn in range(rounds):
            for target in targets:
                for kind, paths in kinds.items():
                    case = seconds.setdefault(f"{target.name}, {kind}", {})
                    print(f"round {turn + 1} of {rounds}: {target.name}, {kind}", flush=True)
                    for place in range(len(target.senders)):
                        name = target.senders[(turn + place) % len(target.senders)]
                        took_s = SENDERS[name](target.port, paths)
                        case.setdefault(name, []).extend([took_s] if took_s else [])
    cases = {
        case: {
            name: {
                "MB_per_s": size_mb[case.rpartition(", ")[2]] / statistics.median(times),
                "rounds": [size_mb[case.rpartition(", ")[2]] / one for one in times],
            }
            for name, times in senders.items()
            if times
        }
        for case, senders in seconds.items()
    }
    measured = {"cases": cases, "rounds": rounds, "goals": judged(cases)}
    console.print(table(measured))
    return measured


def judged(cases: dict[str, Any]) -> list[goals.Goal]:
    """Return the goals: not slower than storescu, whoever receives."""
    return [
        goals.at_least(
            f"Send, {case}: times storescu", one[OURS]["MB_per_s"] / one[STORESCU]["MB_per_s"], 1.0
        )
        for case, one in cases.items()
    ]


def table(measured: dict[str, Any]) -> Table:
    """Return speed and ratio, a line a case and sender."""
    drawn = Table(title=f"Send: medians of {measured['rounds']} rounds", box=None)
    for column in ("", "MB/s", "lowest", "highest", "radnode is"):
        drawn.add_column(column, justify="right" if column else "left")
    for name, case in measured["cases"].items():
        drawn.add_row(f"[bold]{name}[/]")
        for sender_name, one in case.items():
            ratio = case[OURS]["MB_per_s"] / one["MB_per_s"]
            low, high = min(one["rounds"]), max(one["rounds"])
            speeds = [f"{speed:.0f}" for speed in (one["MB_per_s"], low, high)]
            drawn.add_row(f"  {sender_name}", *speeds, f"{ratio:.2f} x")
    return drawn


def _write(folder: Path, kind: str, count: int) -> list[Path]:
    """Write instances of one kind, each with a UID of its own."""
    folder.mkdir()
    first = encoded(kind)
    paths = []
    for number in range(count):
        own = uid(0, 1, number + 2)
        header = part10_header(KINDS[kind].sop_class_uid, own, ExplicitVRLittleEndian, "BENCH")
        paths.append(folder / f"{number:03d}.dcm")
        paths[-1].write_bytes(header + first.replace(uid(0, 0, 2).encode(), own.encode()))
    return paths


def _targets(stack: ExitStack, in_memory: Path, on_disk: Path) -> Iterator[Target]:
    everyone = (OURS, STORESCU, PYNETDICOM)
    yield Target("sink", stack.enter_context(_sink()), (*everyone, PLAIN))
    for name, folder in (("storescp on disk", on_disk), ("storescp on tmpfs", in_memory)):
        scp = stack.enter_context(dcmtk.storescp(folder, "--bit-preserving"))
        yield Target(name, scp.port, everyone)


@contextmanager
def _sink() -> Iterator[int]:
    command = [sys.executable, "-m", "tests.bench.sink", "--pdu-bytes", str(PDU_BYTES)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def _with_radnode(port: int, paths: list[Path]) -> float:
    destination = DimseDestination(kind="dimse", ae_title="BENCH", host=HOST, port=port)
    began = time.perf_counter()
    outcomes = list(sender.send(Settings(), destination, {path.stem: path for path in paths}))
    took_s = time.perf_counter() - began
    if any(outcome != 0 for _, outcome in outcomes) or len(outcomes) != len(paths):
        raise SystemExit("The node did not deliver what it should send.")
    return took_s


def _with_pynetdicom(port: int, paths: list[Path]) -> float | None:
    """Return None where it lost an answer: its threads may take it from each other."""
    _config.STORE_SEND_CHUNKED_DATASET = True
    calling = AE(ae_title="BENCH")
    began = time.perf_counter()
    sop_class_uid = meta.read(paths[0]).sop_class_uid
    calling.dimse_timeout = 5.0
    association = calling.associate(
        HOST, port, contexts=[build_context(sop_class_uid, ExplicitVRLittleEndian)]
    )
    delivered = all(
        association.is_established and association.send_c_store(path).get("Status") == 0
        for path in paths
    )
    association.release()
    return time.perf_counter() - began if delivered else None


def _with_storescu(port: int, paths: list[Path]) -> float:
    program, environment = require("storescu"), os.environ | {"TCP_NODELAY": "1"}
    peer = ["-aec", "BENCH", HOST, str(port)]
    took_s = []
    for command in ([program, "--version"], [program, *peer, *map(str, paths)]):
        began = time.perf_counter()
        subprocess.run(command, check=True, env=environment, capture_output=True)
        took_s.append(time.perf_counter() - began)
    return took_s[1] - took_s[0]


def _plain(port: int, paths: list[Path]) -> float:
    """Send the message of the first file as often as there are files."""
    it = meta.read(paths[0])
    data_set = BytesIO(paths[0].read_bytes()[it.offset :])
    command = store_request(1, it.sop_class_uid, it.sop_instance_uid)
    buffer = memoryview(bytearray(1 << 20))
    pieces = pdus(buffer, command, data_set, context_id=1, maximum_bytes=PDU_BYTES)
    message = b"".join(bytes(piece) for piece in pieces)
    began = time.perf_counter()
    with by_hand.call(port, it.sop_class_uid) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in paths:
            connection.sendall(message)
            connection.recv(4096)
        connection.sendall(by_hand.header(by_hand.RELEASE_RQ) + bytes(4))
        by_hand.pdu(connection)
    return time.perf_counter() - began


SENDERS: dict[str, Send] = {
    OURS: _with_radnode,
    STORESCU: _with_storescu,
    PYNETDICOM: _with_pynetdicom,
    PLAIN: _plain,
}


def main() -> int:
    """Measure what the command line says, and print it; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description="Speed of sending, beside peers.")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write what was measured")
    given = parser.parse_args()
    console = Console(width=goals.WIDTH)
    measured = measure(console, given.folder, rounds=given.rounds)
    if given.json:
        given.json.write_text(json.dumps(measured, indent=2) + "\n")
    console.print(goals.table(measured["goals"]))
    return 0 if goals.met(measured["goals"]) else 1


if __name__ == "__main__":
    sys.exit(main())
