"""``python -m tests.bench.end_to_end``: from the end of the quiet time to the result in the PACS.

The node runs as ``radnode up`` runs it; every study is new to it. Times are the ledger's own
columns and the worker's own clocks, so nothing is measured by polling. The model's own time is
shown and left out of the latency. Then what the node costs while nothing comes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from pydicom import dcmread
from pydicom.data import get_testdata_file
from rich.console import Console
from rich.table import Table

from node.domain import DeliveryState, Outcome
from node.settings import Complete, DimseDestination, Listen, Route, Settings, Spool
from node.store import listing
from node.store.ledger import open_ledger
from node.uids import derived_uid
from tests.bench import five_regions, goals
from tests.peers import REPOSITORY, free_port, running, wait_until
from tests.peers.head_phantom import head_phantom, to_mr_series
from tests.peers.orthanc import orthanc
from tests.peers.radnode import write_config
from tests.peers.scanner import send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pydicom import Dataset

    from node.store.ledger import Ledger

HOST = "127.0.0.1"
QUIET_S = 1.0
PATIENCE_S = 120.0
SETTLE_S = 10.0
IDLE_PERCENT = 2.0

STAGES = ("complete", "plan", "claim", "load", "model", "encode", "publish", "deliver")


@dataclass(frozen=True)
class Case:
    """One kind of study.

    Attributes:
        make: Returns the ``n``-th study.
        goal_s: From the end of the quiet time to the last object stored, without the model.
    """

    name: str
    make: Callable[[int], Sequence[Dataset]]
    goal_s: float


@dataclass(frozen=True)
class Running:
    """A node that runs, and how to look into its ledger."""

    settings: Settings
    ledger: Ledger
    process_id: int


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


def measure(console: Console, studies: int = 6, idle_s: float = 20.0) -> dict[str, Any]:
    """Measure and print.

    Args:
        console: Where tables go.
        studies: Of each kind; the first is cold, and not in the median.
        idle_s: How long the idle node is watched.

    Returns:
        ``seconds``: case -> stage -> seconds, of each study; ``idle_percent``: role -> percent of
        one core; ``goals``: of the medians of the warm ones, and of the idle node.
    """
    cts = Case("300 CT slices", five_regions.studies(), 0.5)
    small = (Case("ECG", electrocardiograms(), 1.0), Case("T1 head MR", heads(), 3.0))
    seconds: dict[str, list[dict[str, float]]] = {}
    goal_s: dict[str, float] = {}
    for pacs, cases in ((_double, (cts, *small)), (_orthanc, (cts,))):
        with pacs() as (name, destination, port), _node(destination, port) as node:
            if not seconds:
                idle = _idle_percent(node, idle_s)
            for case in cases:
                row = f"{case.name} to {name}"
                goal_s[row] = case.goal_s
                seconds[row] = [_one(node, case.make(n)) for n in range(studies)]
                console.print(f"{row}: {_middle(seconds[row], 'latency'):.2f} s without the model.")
    console.print(_table(seconds))
    said = ", ".join(f"{role} {percent:.2f}" for role, percent in idle.items())
    console.print(f"Idle, percent of one core: {said}.")
    judged = [
        goals.at_most(f"{row}: seconds without the model", _middle(runs, "latency"), goal_s[row])
        for row, runs in seconds.items()
    ]
    idle_goal = goals.at_most("idle node: percent of one core", sum(idle.values()), IDLE_PERCENT)
    return {"seconds": seconds, "idle_percent": idle, "goals": [*judged, idle_goal]}


@contextmanager
def _double() -> Iterator[tuple[str, DimseDestination, int]]:
    """Run the PACS of the tests, in a process of its own: name, destination, the node's port."""
    port = free_port()
    pacs_port = free_port()
    command = [sys.executable, "-m", "tests.peers.pacs", "--port", str(pacs_port)]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "pacs.log"
        options = ["--folder", f"{folder}/pacs", "--answer-to", f"RADNODE@{HOST}:{port}"]
        with running(
            [*command, *options], ready=lambda: bool(log.read_text()), log=log, cwd=REPOSITORY
        ):
            to_pacs = DimseDestination(kind="dimse", ae_title="PACS", host=HOST, port=pacs_port)
            yield "a test double", to_pacs, port


@contextmanager
def _orthanc() -> Iterator[tuple[str, DimseDestination, int]]:
    """Run Orthanc; as ``_double``."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, orthanc(Path(folder)) as peer:
        peer.register("RADNODE", port)
        to_pacs = DimseDestination(kind="dimse", ae_title=peer.ae_title, host=HOST, port=peer.port)
        yield "Orthanc", to_pacs, port


@contextmanager
def _node(destination: DimseDestination, port: int) -> Iterator[Running]:
    """Run a whole node, a listener per core, whose results go to ``destination``."""
    routed = {
        "CT": five_regions.NAME,
        "ECG": "ecg-atrial-fibrillation",
        "MR": "brain-mr-volumetry",
    }
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        settings = Settings(
            data=folder / "data",
            listen=Listen(host=HOST, port=port, processes=os.cpu_count() or 1),
            spool=Spool(minimum_free_bytes=0),
            complete=Complete(series_s=QUIET_S, study_s=QUIET_S),
            destinations={"pacs": destination},
            routes=tuple(
                Route(match={"Modality": modality}, run=(pipeline,), send_to=("pacs",))
                for modality, pipeline in routed.items()
            ),
        )
        config = write_config(settings, folder / "radnode.toml")
        log = REPOSITORY / "build" / "bench" / "node.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        process = stack.enter_context(
            running(
                [sys.executable, "-m", "node.cli", "up", "--config", str(config)],
                ready=lambda: "worker_ready" in log.read_text(),
                log=log,
                timeout_s=PATIENCE_S,
                cwd=REPOSITORY,
                env={**os.environ, **five_regions.install(folder / "site-packages")},
            )
        )
        ledger = stack.enter_context(open_ledger(settings))
        yield Running(settings, ledger, process.pid)


def _idle_percent(node: Running, seconds: float) -> dict[str, float]:
    """Return what each role of a node costs to which nothing comes, in percent of one core."""
    time.sleep(SETTLE_S)
    supervisor = psutil.Process(node.process_id)
    processes = [supervisor, *supervisor.children(recursive=True)]
    before = {process: _cpu_s(process) for process in processes}
    started = time.monotonic()
    time.sleep(seconds)
    elapsed_s = time.monotonic() - started
    percent: dict[str, float] = {}
    for process, cpu_s in before.items():
        role = _role(process)
        percent[role] = percent.get(role, 0.0) + 100.0 * (_cpu_s(process) - cpu_s) / elapsed_s
    return percent


def _cpu_s(process: psutil.Process) -> float:
    """Return the CPU time of a process, to the nanosecond; ``cpu_times`` counts in 10 ms."""
    spent_ns = 0
    for thread in Path(f"/proc/{process.pid}/task").iterdir():
        spent_ns += int((thread / "schedstat").read_text().split()[0])
    return spent_ns / 1e9


def _role(process: psutil.Process) -> str:
    command = process.cmdline()
    if "node.cli" in command:
        return command[command.index("node.cli") + 1]
    return "inference" if "node.inference_child" in command else "broker"


def _one(node: Running, study: Sequence[Dataset]) -> dict[str, float]:
    """Send one study and return the seconds of each stage of its way."""
    study_uid = str(study[0].StudyInstanceUID)
    answers = send(node.settings.listen.port, study)
    if any(answer.status for answer in answers):
        raise SystemExit("The node refused a study of the benchmark.")

    def rows() -> list[dict[str, Any]]:
        with node.ledger.read() as db:
            return [r for r in listing.deliveries(db, 1000) if r["study_uid"] == study_uid]

    def committed() -> bool:
        states = {row["state"] for row in rows()}
        return states == {DeliveryState.COMMITTED.value}

    wait_until(committed, timeout_s=PATIENCE_S, what="The commitment of a result")
    with node.ledger.read() as db:
        (series,) = listing.series_states(db, study_uid)
        (job,) = [row for row in listing.jobs(db, 1000) if row["study_uid"] == study_uid]
    if job["outcome"] == Outcome.COULD_NOT_LOOK:
        raise SystemExit("The node could not judge a study of the benchmark.")
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


def _middle(runs: Sequence[dict[str, float]], stage: str) -> float:
    """Return the median of the warm runs: all but the first."""
    return statistics.median(run[stage] for run in runs[1:])


def _table(seconds: dict[str, list[dict[str, float]]]) -> Table:
    studies = min(len(runs) for runs in seconds.values()) - 1
    table = Table(title=f"Seconds, median of {studies} (the longest)", box=None)
    table.add_column("stage")
    for row in seconds:
        table.add_column(row, justify="right")
    for stage in (*STAGES, "latency"):
        cells = [
            f"{_middle(runs, stage):.3f} ({max(run[stage] for run in runs[1:]):.3f})"
            for runs in seconds.values()
        ]
        table.add_row("without the model" if stage == "latency" else stage, *cells)
    return table


def main() -> int:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description="Latency by stage, and idle CPU.")
    parser.add_argument("--studies", type=int, default=6, help="of each kind; the first is cold")
    parser.add_argument("--idle-s", type=float, default=20.0, help="seconds to watch it idle")
    given = parser.parse_args()
    console = Console()
    judged = measure(console, given.studies, given.idle_s)["goals"]
    console.print(goals.table(judged))
    return 0 if goals.met(judged) else 1


if __name__ == "__main__":
    sys.exit(main())
