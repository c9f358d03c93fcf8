"""The worker's side of the inference process: start it, ask it, kill it when it is late."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from node.errors import ModelFailed
from node.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from node.settings import Work

log = get_logger(__name__)

TICK_S = 1.0
_READ_BYTES = 65_536


class InferenceProcess:
    """One child process with warm models. Started when first asked, replaced after a crash."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._process: subprocess.Popen[bytes] | None = None
        self._jobs = 0

    def ask(
        self, request: Mapping[str, Any], *, deadline_s: float, tick: Callable[[], None]
    ) -> dict[str, Any]:
        """Send one request and wait for its answer.

        Args:
            request: As ``inference_child`` understands it.
            deadline_s: After this long the process is killed.
            tick: Called about once a second; whatever it raises ends the process, too.

        Raises:
            ModelFailed: The process crashed, was late, or says that it failed.
        """
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            line = self._read_line(process, time.monotonic() + deadline_s, tick)
        except BrokenPipeError:
            line = b""
        except BaseException:
            self.kill()
            raise
        if not line:
            status = process.wait()
            self.kill()
            how = f"was killed by signal {-status}" if status < 0 else f"ended with {status}"
            raise ModelFailed(f"The inference process {how}.", do="Read the worker's log.")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            self.kill()  # a failed model may hold memory or a broken device
            raise ModelFailed(answer["error"], do="Read the pipeline's model card for its limits.")
        self._recycle()
        return answer

    def _read_line(
        self, process: subprocess.Popen[bytes], deadline: float, tick: Callable[[], None]
    ) -> bytes:
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        line = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if time.monotonic() > deadline:
                    raise ModelFailed(
                        "The model did not finish before its deadline.",
                        do="Raise the pipeline's deadline, or give the worker a faster device.",
                    )
                if selector.select(TICK_S):
                    chunk = os.read(descriptor, _READ_BYTES)
                    if not chunk:
                        return b""
                    line += chunk
                else:
                    tick()
        return bytes(line)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            environment = dict(os.environ)
            if self._work.threads:
                environment["OMP_NUM_THREADS"] = str(self._work.threads)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "node.inference_child", str(self._work.memory_bytes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )
            self._jobs = 0
            log.info("inference_started", pid=self._process.pid)
        return self._process

    def _recycle(self) -> None:
        self._jobs += 1
        if self._jobs >= self._work.jobs_per_process:
            self.kill()

    def kill(self) -> None:
        """End the process; the next request starts another."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process = None
