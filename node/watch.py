"""The overview that an admin leaves open in a terminal, and the logs it is about."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from node.domain import DeliveryState, JobState
from node.log import short
from node.store import listing

if TYPE_CHECKING:
    from pathlib import Path

    from node.store.ledger import Ledger

NEEDS_A_PERSON = (JobState.QUARANTINED.value, DeliveryState.REFUSED.value)
EVENTS_SHOWN = 15


def run(ledger: Ledger, every_s: float) -> None:
    """Redraw the overview every ``every_s`` until Ctrl-C."""
    with suppress(KeyboardInterrupt), Live(overview(ledger), auto_refresh=False) as live:
        while True:
            time.sleep(every_s)
            live.update(overview(ledger), refresh=True)


def overview(ledger: Ledger) -> Group:
    """Return the state of everything, as it is now."""
    with ledger.read() as db:
        counts = listing.counts(db)
        workers = listing.workers(db)
        events = listing.recent_events(db, EVENTS_SHOWN)
    states = Table(box=None, show_header=False, pad_edge=False)
    for name, by_state in counts.items():
        line = Text()
        for state, number in sorted(by_state.items()):
            red = state in NEEDS_A_PERSON and number > 0
            line.append(f"{number} {state}   ", style="bold red" if red else "")
        states.add_row(name, line)
    states.add_row("", Text("What is over is counted for a day.", style="dim"))
    for worker in workers:
        silent_s = time.time() - worker["seen_at"]
        job = worker["job_id"][:12] if worker["job_id"] else "idle"
        states.add_row(worker["name"], f"{job}, seen {silent_s:.0f} s ago")
    happened = Table(box=None, show_header=False, pad_edge=False)
    for event in events:
        at = datetime.fromtimestamp(event["at"], UTC).astimezone().strftime("%H:%M:%S")
        study = short(event["study_uid"]) if event["study_uid"] else ""
        happened.add_row(at, event["kind"], study, event["subject"], event["detail"])
    return Group(states, Text(), happened)


def read_new_lines(folder: Path, role: str, seen: dict[str, int]) -> list[str]:
    """Return log lines not read before, in the order of their time stamps.

    Args:
        folder: Of the logs.
        role: Name of one log, or ``*``.
        seen: How far each file was read; moved on.
    """
    lines: list[tuple[str, str]] = []
    for path in sorted(folder.glob(f"{role}.log")):
        with path.open("rb") as file:
            start = seen.get(path.name, 0)
            if path.stat().st_size < start:
                start = 0  # rotated
            file.seek(start)
            whole, _, _ = file.read().rpartition(b"\n")
        seen[path.name] = start + len(whole) + (1 if whole else 0)
        for raw in whole.decode(errors="replace").splitlines():
            with suppress(json.JSONDecodeError, KeyError, TypeError):
                lines.append((json.loads(raw)["timestamp"], raw))
    return [line for _, line in sorted(lines)]
