"""One part of the bench, measured in a process of its own, which spawning must find by name."""

from __future__ import annotations

import importlib
import json
import time
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from tests.bench import goals, machine


def measured(name: str) -> dict[str, Any]:
    """Measure one part.

    Each part is a module with ``measure(console)``, which prints its tables and returns what JSON
    can hold, with ``goals``.
    """
    part = importlib.import_module(f"tests.bench.{name}")
    console = Console(record=True, width=goals.WIDTH)
    begun = time.perf_counter()
    at = datetime.now(UTC).isoformat(timespec="seconds")
    measured: dict[str, Any] = part.measure(console)
    whole = {
        "at": at,
        "machine": machine.describe(),
        **measured,
        "took_s": time.perf_counter() - begun,
        "printed": console.export_text(),
    }
    as_read: dict[str, Any] = json.loads(json.dumps(whole))
    return as_read
