"""One subject of the torture, in a process of its own, which spawning must find by name."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.bench import machine
from tests.torture import goals

if TYPE_CHECKING:
    from tests.torture.subject import Size


def measured(name: str, seed: int, size: Size, lane: int) -> dict[str, Any]:
    """Measure one subject.

    Args:
        name: Of the module.
        seed: Of all its chances.
        size: How much is tried.
        lane: Of those that run at once: each has ports of its own.

    Returns:
        What JSON can hold: ``figures``; ``failed`` says why there are none. What a subject that
        missed a goal has written stays in ``folder``.
    """
    os.environ["PYTEST_XDIST_WORKER"] = f"gw{lane}"  # tests.peers.free_port heeds it
    subject = importlib.import_module(f"tests.torture.{name}")
    folder = Path(tempfile.mkdtemp(prefix=f"radnode-torture-{name}-"))
    folder.chmod(0o755)  # servers of other users find their place below
    begun, at = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    figures, failed = [], ""
    try:
        figures = [goals.to_json(figure) for figure in subject.measure(seed, size, folder)]
    except (Exception, pytest.fail.Exception, pytest.skip.Exception) as error:
        failed = f"{type(error).__name__}: {error}"
    met = not failed and all(figure["met"] for figure in figures)
    if met:
        shutil.rmtree(folder, ignore_errors=True)
    result = {
        "at": at,
        "machine": machine.describe(),
        "seed": seed,
        "size": size.value,
        "took_s": round(time.monotonic() - begun, 1),
        "figures": figures,
        "failed": failed,
        "met": met,
        "folder": "" if met else str(folder),
    }
    as_read: dict[str, Any] = json.loads(json.dumps(result))
    return as_read
