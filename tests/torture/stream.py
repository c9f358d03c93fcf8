"""A scanner that never gives up: it sends each instance until that is answered with Success."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.peers.scanner import Rejected, associate
from tests.torture import harm, oracle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pydicom import Dataset

    from tests.torture.oracle import Sent

PAUSE_S = 0.1
"""Before calling again a node that does not answer, or that failed to store."""


@dataclass
class Stream:
    """What a scanner has sent.

    Attributes:
        acknowledged: Every instance that was answered with Success.
        sent_at: Study Instance UID -> when its last instance was (seconds since the epoch).
        broken: How many associations ended before all was answered.
    """

    port: int
    acknowledged: list[Sent] = field(default_factory=list)
    sent_at: dict[str, float] = field(default_factory=dict)
    broken: int = 0

    def scan(self, study: Sequence[Dataset], *, timeout_s: float = 120.0) -> None:
        """Send a study, and again what was not acknowledged of it, until all is.

        Raises:
            TimeoutError: The node has not taken it for so long.
        """
        waiting = list(study)
        end = time.monotonic() + timeout_s
        while waiting:
            done = self._acknowledged(waiting)
            self.acknowledged += map(oracle.sent, waiting[:done])
            waiting = waiting[done:]
            if waiting:
                self.broken += 1
                if time.monotonic() > end:
                    raise TimeoutError(f"The node has stored nothing for {timeout_s:g} s.")
                time.sleep(PAUSE_S)
        self.sent_at[str(study[0].StudyInstanceUID)] = time.time()

    def _acknowledged(self, instances: Sequence[Dataset]) -> int:
        """Send on one association; how many were answered with Success before it broke."""
        count = 0
        try:
            with associate(self.port, timeout_s=20.0) as scanner:
                for one in instances:
                    if scanner.store(one).status != 0x0000:
                        break
                    count += 1
        except (Rejected, OSError):
            pass  # a TimeoutError is an OSError, too
        return count


@contextmanager
def streaming(
    port: int, name: str, *, pace_s: float, study: Callable[[str], Sequence[Dataset]] = harm.study
) -> Iterator[Stream]:
    """Send studies, a new one every ``pace_s``, until the block ends; the last is sent whole.

    Args:
        port: Of the node.
        name: What all UIDs derive from.
        pace_s: Between the beginnings of two studies.
        study: Makes one of what its UIDs derive from.
    """
    stream, end = Stream(port), threading.Event()
    failures: list[Exception] = []

    def run() -> None:
        number, due = 0, time.monotonic()
        while not end.wait(max(0.0, due - time.monotonic())):
            number += 1
            due = max(due + pace_s, time.monotonic())
            try:
                stream.scan(study(f"{name} {number}"))
            except Exception as error:
                failures.append(error)
                return

    thread = threading.Thread(target=run, name="scanner")
    thread.start()
    try:
        yield stream
    finally:
        end.set()
        thread.join()
    if failures:
        raise failures[0]
