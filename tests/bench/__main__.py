"""``make bench``: from the end of the quiet time to the result stored in the PACS, by stage.

The node runs as ``radnode up`` runs it; every study is new to it. Times are the ledger's own
columns and the worker's own clocks, so nothing is measured by polling. The model's own time is
shown and left out of the latency. Then how long a large segmentation takes to encode.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydicom import dcmread
from pydicom.data import get_testdata_file
from rich.console import Console
from rich.table import Table

from node.domain import DeliveryState
from node.settings import Complete, DimseDestination, Listen, Route, Settings, Spool
from node.store import listing
from node.store.ledger import open_ledger
from node.uids import derived_uid
from tests.bench import encode
from tests.peers import REPOSITORY, free_port, running, wait_until
from tests.peers.head_phantom import head_phantom, to_mr_series
from tests.peers.pacs import pacs as pacs_double
from tests.peers.radnode import write_config
from tests.peers.scanner import send

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydicom import Dataset

    from node.store.ledger import Ledger

HOST = "127.0.0.1"
QUIET_S = 1.0
PATIENCE_S = 120.0
GOAL_S = {"ECG": 1.0, "T1 head MR": 3.0}

STAGES = ("complete", "plan", "claim", "load", "model", "encode", "publish", "deliver")


def electrocardiograms() -> Callable[[int], Sequence[Dataset]]:
    """Return a maker of 12-lead ECGs, each a study of its own."""
    path = str(get_testdata_file("waveform_ecg.dcm"))

    def make(number: int) -> Sequence[Dataset]:
        dataset = dcmread(path)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(dataset, keyword, derived_uid("bench", keyword, str(number)))
        return [dataset]

    return make


def heads() -> Callable[[int], Sequence[Dataset]]:
    """Return a maker of T1 heads, each a study of its own."""
    voxels, _, grid = head_phantom()
    return lambda number: to_mr_series(voxels, grid, root=f"bench-{number}")


def main() -> int:
    """Measure, print, and write build/bench/bench.json."""
    parser = argparse.ArgumentParser(description="Latency by stage.")
    parser.add_argument("--studies", type=int, default=7, help="of each kind; the first is cold")
    given = parser.parse_args()
    console = Console()
    kinds = {"ECG": electrocardiograms(), "T1 head MR": heads()}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        settings, ledger = _node(Path(folder), stack)
        measured = {
            kind: [_one(settings, ledger, make(n)) for n in range(given.studies)]
            for kind, make in kinds.items()
        }
    warm = {kind: runs[1:] for kind, runs in measured.items()}
    console.print(_table(warm))
    _write(measured)
    faster = encode.measure(console)
    console.print(
        f"Encoding: {faster:.1f} times as fast as highdicom; the goal is {encode.GOAL:.0f}."
    )
    late = [kind for kind, runs in warm.items() if _latency_s(runs) > GOAL_S[kind]]
    for kind, runs in warm.items():
        ratio = _latency_s(runs) / GOAL_S[kind]
        console.print(f"{kind}: {_latency_s(runs):.2f} s, {ratio:.2f} of the goal.")
    return 1 if late or faster < encode.GOAL else 0


def _node(folder: Path, stack: ExitStack) -> tuple[Settings, Ledger]:
    port = free_port()
    pacs = stack.enter_context(pacs_double(folder / "pacs", answer_to=("RADNODE", HOST, port)))
    to_pacs = DimseDestination(kind="dimse", ae_title="PACS", host=HOST, port=pacs.port)
    settings = Settings(
        data=folder / "data",
        listen=Listen(host=HOST, port=port),
        spool=Spool(minimum_free_bytes=0),
        complete=Complete(series_s=QUIET_S, study_s=QUIET_S),
        destinations={"pacs": to_pacs},
        routes=(
            Route(match={"Modality": "ECG"}, run=("ecg-atrial-fibrillation",), send_to=("pacs",)),
            Route(match={"Modality": "MR"}, run=("brain-mr-volumetry",), send_to=("pacs",)),
        ),
    )
    config = write_config(settings, folder / "radnode.toml")
    command = [sys.executable, "-m", "node.cli", "up", "--config", str(config)]
    log = REPOSITORY / "build" / "bench" / "node.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    stack.enter_context(
        running(
            command,
            ready=lambda: "worker_ready" in log.read_text(),
            log=log,
            timeout_s=PATIENCE_S,
            cwd=REPOSITORY,
        )
    )
    return settings, stack.enter_context(open_ledger(settings))


def _one(settings: Settings, ledger: Ledger, study: Sequence[Dataset]) -> dict[str, float]:
    """Send one study and return the seconds of each stage of its way."""
    study_uid = str(study[0].StudyInstanceUID)
    answers = send(settings.listen.port, study)
    if any(answer.status for answer in answers):
        raise SystemExit("The node refused a study of the benchmark.")

    def rows() -> list[dict[str, Any]]:
        with ledger.read() as db:
            return [r for r in listing.deliveries(db, 1000) if r["study_uid"] == study_uid]

    def committed() -> bool:
        states = {row["state"] for row in rows()}
        return states == {DeliveryState.COMMITTED.value}

    wait_until(committed, timeout_s=PATIENCE_S, what="The commitment of a result")
    with ledger.read() as db:
        (series,) = listing.series_states(db, study_uid)
        (job,) = [row for row in listing.jobs(db, 1000) if row["study_uid"] == study_uid]
    sent_at = max(row["sent_at"] for row in rows())
    own = json.loads(job["timings"])
    quiet_end = series["last_instance_at"] + QUIET_S
    worked_s = job["finished_at"] - job["started_at"]
    stages = {
        "complete": series["completed_at"] - quiet_end,
        "plan": job["planned_at"] - series["completed_at"],
        "claim": job["started_at"] - job["planned_at"],
        **own,
        "publish": worked_s - sum(own.values()),
        "deliver": sent_at - job["finished_at"],
    }
    return {**stages, "latency": sent_at - quiet_end - own["model"]}


def _latency_s(runs: Sequence[dict[str, float]]) -> float:
    return statistics.median(run["latency"] for run in runs)


def _table(warm: dict[str, list[dict[str, float]]]) -> Table:
    studies = min(len(runs) for runs in warm.values())
    table = Table(title=f"Seconds, median of {studies} (lowest to highest)", box=None)
    table.add_column("stage")
    for kind in warm:
        table.add_column(kind, justify="right")
    for stage in (*STAGES, "latency"):
        cells = []
        for runs in warm.values():
            values = [run[stage] for run in runs]
            middle = statistics.median(values)
            cells.append(f"{middle:.2f} ({min(values):.2f} to {max(values):.2f})")
        table.add_row("without the model" if stage == "latency" else stage, *cells)
    return table


def _write(measured: dict[str, list[dict[str, float]]]) -> None:
    path = REPOSITORY / "build" / "bench" / "bench.json"
    machine = {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    path.write_text(json.dumps({"machine": machine, "seconds": measured}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
