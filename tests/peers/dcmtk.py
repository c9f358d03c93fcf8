"""DCMTK's tools: the reference implementation on the other side of every association."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom import dcmread

from tests.peers import accepts, free_port, require, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pydicom import Dataset

# Without it DCMTK waits 40 ms for the peer's delayed ACK in every exchange (Nagle).
_ENVIRONMENT = os.environ | {"TCP_NODELAY": "1"}


@dataclass(frozen=True)
class StoreScp:
    """A running ``storescp``. ``folder`` holds what it received, one file an instance."""

    port: int
    folder: Path
    ae_title: str = "STORESCP"

    def files(self) -> tuple[Path, ...]:
        """Return what it holds."""
        return tuple(sorted(self.folder.iterdir()))

    def datasets(self) -> tuple[Dataset, ...]:
        """Return what it holds, read."""
        return tuple(dcmread(path) for path in self.files())


@contextmanager
def storescp(folder: Path, *options: str) -> Iterator[StoreScp]:
    """Run DCMTK's ``storescp``; accepts every storage SOP class and transfer syntax."""
    program = require("storescp")
    received = folder / "received"
    received.mkdir(parents=True, exist_ok=True)
    scp = StoreScp(free_port(), received)
    with running(
        [program, "-aet", scp.ae_title, "-od", received, "+xa", *options, str(scp.port)],
        ready=lambda: accepts(scp.port),
        log=folder / "storescp.log",
        env=_ENVIRONMENT,
    ):
        yield scp


def storescu(
    port: int,
    paths: Sequence[Path],
    *options: str,
    calling_ae: str = "CT1",
    called_ae: str = "RADNODE",
) -> subprocess.CompletedProcess[str]:
    """Send files with ``storescu``; folders are searched. Exit status 0: all were accepted."""
    return _send("storescu", port, [*options, "+sd", "+r"], paths, calling_ae, called_ae)


def dcmsend(
    port: int,
    paths: Sequence[Path],
    *options: str,
    calling_ae: str = "CT1",
    called_ae: str = "RADNODE",
) -> subprocess.CompletedProcess[str]:
    """Send files with ``dcmsend``; folders are searched. Compressed files go as they are."""
    return _send("dcmsend", port, [*options, "+sd", "+r"], paths, calling_ae, called_ae)


def echoscu(
    port: int, *, calling_ae: str = "CT1", called_ae: str = "RADNODE"
) -> subprocess.CompletedProcess[str]:
    """Ask with C-ECHO. Exit status 0: it answered Success."""
    return _send("echoscu", port, [], [], calling_ae, called_ae)


def dcmdump(path: Path, *options: str) -> str:
    """Return ``dcmdump``'s text; fails the test where it cannot parse the file."""
    return _read("dcmdump", path, options)


def dsrdump(path: Path, *options: str) -> str:
    """Return ``dsrdump``'s text of an SR; fails the test where it finds an error."""
    return _read("dsrdump", path, options)


def _send(
    program: str,
    port: int,
    options: Sequence[str],
    paths: Sequence[Path],
    calling_ae: str,
    called_ae: str,
) -> subprocess.CompletedProcess[str]:
    peer = ["-aet", calling_ae, "-aec", called_ae, "127.0.0.1", str(port)]
    return subprocess.run(
        [require(program), *options, *peer, *paths],
        check=False,
        capture_output=True,
        text=True,
        env=_ENVIRONMENT,
        timeout=240,
    )


def _read(program: str, path: Path, options: Sequence[str]) -> str:
    finished = subprocess.run(
        [require(program), *options, path],
        check=False,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout
