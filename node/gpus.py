"""Turns on graphics cards: what runs at the same time fits into their memory.

Every inference process of a host has a seat: a file that it holds locked for as long as it lives,
and in which it writes what it takes of its card. The kernel opens the lock of a process that was
killed, so a seat that can be locked is empty. A turn is taken after the study was loaded: with
two processes on a card, one loads and encodes while the other infers.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.errors import GpuTooSmall
from pipelines import gpu_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pipelines.contract import AnyPipeline

_MIB = 1 << 20
_ASKING_S = 30.0
_LOOK_S = 0.05
_WHOLE = -1
"""What a run takes that states nothing."""


@dataclass(frozen=True)
class Gpu:
    """A graphics card.

    Attributes:
        uuid: As its driver calls it.
        memory_bytes: All that it has.
    """

    uuid: str
    memory_bytes: int


def gpus() -> tuple[Gpu, ...]:
    """Return the graphics cards of this host that this process may see."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    query = ["--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    with suppress(OSError, ValueError, subprocess.SubprocessError):
        said = subprocess.run(
            [program, *query], capture_output=True, text=True, timeout=_ASKING_S, check=True
        ).stdout
        rows = [line.split(", ") for line in said.splitlines()]
        found = {index: Gpu(name, int(size) * _MIB) for index, name, size in rows}
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            return tuple(found.values())
        named = {**found, **{one.uuid: one for one in found.values()}}
        return tuple(named[name] for name in visible.split(",") if name in named)
    return ()


class Seat:
    """This process's place at one card, from now until it ends."""

    def __init__(self, folder: Path, among: Sequence[Gpu]) -> None:
        """Sit down at the card with the fewest, and let libraries see no other.

        Args:
            folder: Of all seats of this host.
            among: At least one.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._path: Path | None = None
        with self._alone():
            self.gpu = min(among, key=lambda card: len(self._others(card)))
            path = folder / f"{self.gpu.uuid}.{uuid.uuid4().hex}"
            self._own = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._own, fcntl.LOCK_EX)
            self._path = path
            self._write(0, 0)
        os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu.uuid

    def hold(self) -> None:
        """Write down what models that are warm hold of the card."""
        self._write(gpu_memory.held_bytes(), 0)

    @contextmanager
    def turn(self, pipeline: AnyPipeline, waits: Callable[[bool], None]) -> Iterator[None]:
        """Hold what a run of ``pipeline`` takes of the card.

        Args:
            pipeline: Warm: its weights are on the card already.
            waits: Told True when the card is full, False when it no longer is.

        Raises:
            GpuTooSmall: It never will fit.
        """
        stated: int | None = getattr(pipeline, "gpu_memory_bytes", None)
        if stated == 0:
            yield
            return
        held = gpu_memory.held_bytes()
        if stated is not None and stated + held > self.gpu.memory_bytes:
            raise GpuTooSmall(
                f"{pipeline.name} needs {(stated + held) / 1e9:.1f} GB of memory on the graphics "
                f"card, which has {self.gpu.memory_bytes / 1e9:.1f} GB."
            )
        wanted = _WHOLE if stated is None else stated
        if not self._take(held, wanted):
            waits(True)
            while not self._take(held, wanted):
                time.sleep(_LOOK_S)
            waits(False)
        try:
            with gpu_memory.at_most(stated, self.gpu.memory_bytes):
                yield
        finally:
            self.hold()

    def _take(self, held: int, wanted: int) -> bool:
        """Begin a run, if it fits beside those of others."""
        with self._alone():
            others = self._others(self.gpu)
            running = [taken for _, taken in others if taken]
            if wanted == _WHOLE or _WHOLE in running:
                fits = not running
            else:
                weights = held + sum(resident for resident, _ in others)
                # Where nothing runs nothing will make room: the run itself takes what there is.
                fits = not running or weights + sum(running) + wanted <= self.gpu.memory_bytes
            if fits:
                self._write(held, wanted)
            return fits

    def _others(self, card: Gpu) -> list[tuple[int, int]]:
        """Return what the weights and the run of every other process take."""
        found = []
        for path in self._folder.glob(f"{card.uuid}.*"):
            if path == self._path:
                continue
            with path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    resident, _, taken = file.read().partition(b" ")
                    found.append((int(resident), int(taken)))
                else:
                    path.unlink()  # its process is gone
        return found

    def _write(self, resident: int, taken: int) -> None:
        # At once, and of one length: whoever reads it sees the old line or the new one.
        os.pwrite(self._own, f"{resident:020d} {taken:+021d}".encode(), 0)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let no other process of the host decide at the same time."""
        with (self._folder / "lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
