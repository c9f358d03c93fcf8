"""Named points at which a test may kill the process, as a power cut would.

``RADNODE_CRASH_AT="publish.row_written:2"`` makes the process send itself SIGKILL the second
time it reaches that point; ``RADNODE_CRASH_BY=SIGSTOP`` freezes it instead. Without the
variable, reaching a point costs one comparison.
"""

from __future__ import annotations

import os
import signal
import threading

_NAME, _, _HIT = os.environ.get("RADNODE_CRASH_AT", "").partition(":")
_SIGNAL = signal.Signals[os.environ.get("RADNODE_CRASH_BY", "SIGKILL")]
_lock = threading.Lock()
_hits_left = int(_HIT or 1)


def reach(name: str) -> None:
    """Die here if this is the point, and the hit, that a test asked for."""
    global _hits_left  # noqa: PLW0603 - one countdown per process is the point
    if name != _NAME:
        return
    with _lock:
        _hits_left -= 1
        if _hits_left == 0:
            os.kill(os.getpid(), _SIGNAL)
