"""The worker's side of the inference process: start it, ask it, kill it when it is late."""

from __future__ import annotations

import json
import math
import os
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from node.errors import GateClosed, GpuTooSmall, ModelFailed, disk_failed
from node.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from node.settings import Work

log = get_logger(__name__)

TICK_S = 1.0
GRACE_S = 5.0
"""How long a process that has closed its pipe may take to end."""
STILL_S = 30.0
"""A process that has used no processor for this long hangs: it is frozen, or waits for itself."""
_READ_BYTES = 65_536
_PROCESSES = Path("/proc")
_WAITS, _GOES_ON = b'{"waits": true}', b'{"waits": false}'
"""Lines that are no answer: the process waits for a graphics card, or waits no more."""
_THREADS = ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
"""What numpy, torch and our ONNX sessions heed, and SimpleITK."""


@dataclass(frozen=True)
class _Child:
    process: subprocess.Popen[bytes]
    requests: IO[bytes]
    answers: IO[bytes]
    pending: bytearray = field(default_factory=bytearray)


class InferenceProcess:
    """One child process with warm models. Started when first asked, replaced after a crash."""

    def __init__(self, work: Work, *folders: Path) -> None:
        """Start nothing yet.

        Args:
            work: What the process may use.
            folders: Where added models are, and where processes share the graphics cards.
        """
        self._work = work
        self._folders = folders
        self._child: _Child | None = None
        self._jobs = 0

    def ask(
        self, request: Mapping[str, Any], *, deadline_s: float, tick: Callable[[], None]
    ) -> dict[str, Any]:
        """Send one request and wait for its answer.

        Args:
            request: As ``inference_child`` understands it.
            deadline_s: After this long the process is killed; not counting how long it waits for
                a graphics card that others use.
            tick: Called about once a second; whatever it raises ends the process, too.

        Raises:
            ModelFailed: The process crashed, hangs, was late, or says that it failed.
            GateClosed: The result contradicts itself: it could not even be encoded.
            GpuTooSmall: The model needs more memory than there is.
            DiskFailed: A file could not be read or written.
        """
        answer = self._answered(request, deadline_s, tick)
        # What earlier jobs left warm may be what was in the way: a job gets all of the memory once
        # before its attempt counts as failed.
        if answer.get("memory") and self._jobs:
            log.warning("models_dropped", pipeline=request.get("pipeline"), jobs=self._jobs)
            self.kill()
            answer = self._answered(request, deadline_s, tick)
        if "errno" in answer:
            raise disk_failed(OSError(answer["errno"], answer["strerror"]))
        if "problems" in answer:
            raise GateClosed(tuple(answer["problems"]))
        if "too_large" in answer:
            raise GpuTooSmall(answer["too_large"])
        if "error" in answer:
            self.kill()  # a failed model may hold memory or a broken device
            raise ModelFailed(answer["error"], do="Read the pipeline's model card for its limits.")
        self._recycle()
        return answer

    def _answered(
        self, request: Mapping[str, Any], deadline_s: float, tick: Callable[[], None]
    ) -> dict[str, Any]:
        child = self._running()
        try:
            child.requests.write(json.dumps(request).encode() + b"\n")
            child.requests.flush()
            line = _read_answer(child, deadline_s, tick)
        except BrokenPipeError:
            line = b""
        except BaseException:
            self.kill()
            raise
        if not line:
            raise ModelFailed(f"The inference process {self._end()}.", do="Read the worker's log.")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _running(self) -> _Child:
        if self._child is None or self._child.process.poll() is not None:
            self.kill()
            self._child = _start(self._work, self._folders)
            self._jobs = 0
        return self._child

    def _recycle(self) -> None:
        self._jobs += 1
        if self._jobs >= self._work.jobs_per_process:
            self.kill()

    def _end(self) -> str:
        """Return how the process ended that has closed its pipe; end it if it has not."""
        how = "closed its pipe"
        if self._child is not None:
            with suppress(subprocess.TimeoutExpired):
                status = self._child.process.wait(GRACE_S)
                how = f"was killed by signal {-status}" if status < 0 else f"ended with {status}"
        self.kill()
        return how

    def kill(self) -> None:
        """End the process and all that it started; the next request starts another."""
        if self._child is None:
            return
        child, self._child = self._child, None
        with suppress(ProcessLookupError, PermissionError):  # none is left; macOS: only zombies
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
        child.answers.close()
        with suppress(BrokenPipeError):
            child.requests.close()


def _start(work: Work, folders: Sequence[Path]) -> _Child:
    threads = work.threads
    if not threads and work.processes > 1:
        threads = max(1, (os.cpu_count() or 1) // work.processes)
    given = {} if not threads else dict.fromkeys(_THREADS, str(threads))
    process = subprocess.Popen(
        [sys.executable, "-m", "node.inference_child", str(work.memory_bytes), *map(str, folders)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **given},
        start_new_session=True,  # a group of its own, to be killed with what the model starts
    )
    if process.stdin is None or process.stdout is None:
        raise AssertionError("Both are pipes, as asked for.")
    log.info("inference_started", pid=process.pid)
    return _Child(process, process.stdin, process.stdout)


class _Pulse:
    """Whether a process does anything at all."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._ticks: int | None = None
        self._changed_at = time.monotonic()

    def still_s(self) -> float:
        """Return for how long it has used no processor, as far as was looked."""
        ticks, now = _processor_ticks(self._process), time.monotonic()
        if ticks is None or ticks != self._ticks:
            self._ticks, self._changed_at = ticks, now
        return now - self._changed_at


def _processor_ticks(process: int) -> int | None:
    """Return the processor time of a process; None where that says nothing.

    Nobody tells on macOS; and who has started a program waits for it, while that may compute in a
    container, whose engine starts it outside of every process that can be seen from here.
    """
    ticks = None
    for stat in _PROCESSES.glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            # After the name, which may hold anything: state, parent ... (proc(5)).
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == process:
                return None
            if stat.parent.name == str(process):
                ticks = sum(map(int, fields[11:15]))
    return ticks


def _read_answer(child: _Child, deadline_s: float, tick: Callable[[], None]) -> bytes:
    """Read the line that answers a request. Empty if the process closed its end."""
    deadline = time.monotonic() + deadline_s
    while True:
        line = _read_line(child, deadline, tick)
        if line == _WAITS:
            since = time.monotonic()
            line = _read_line(child, math.inf, tick)
            deadline += time.monotonic() - since
        if line != _GOES_ON:
            return line


def _read_line(child: _Child, deadline: float, tick: Callable[[], None]) -> bytes:
    """Read one line, unbuffered. Empty if the process closed its end."""
    descriptor = child.answers.fileno()
    pulse = _Pulse(child.process.pid)
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while b"\n" not in child.pending:
            if time.monotonic() > deadline:
                raise ModelFailed(
                    "The model did not finish before its deadline.",
                    do="Raise the pipeline's deadline, or give the worker a faster device.",
                )
            if selector.select(TICK_S):
                chunk = os.read(descriptor, _READ_BYTES)
                if not chunk:
                    return b""
                child.pending.extend(chunk)
            else:
                tick()
                if deadline < math.inf and pulse.still_s() > STILL_S:
                    raise ModelFailed(
                        f"The model hangs: it has computed nothing for {STILL_S:.0f} s.",
                        do="Try it on this study with 'radnode run'; see what it waits for.",
                    )
    line, _, rest = bytes(child.pending).partition(b"\n")
    child.pending[:] = rest
    return line
