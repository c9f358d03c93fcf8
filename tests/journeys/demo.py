"""The demo: two studies in, their reports and an overlay back in a PACS. Run by ``make demo``.

Everything it leaves is in ``build/demo``, or in the folder that ``--out`` names.

The node runs as ``radnode up`` runs it, with its embedded broker and SQLite; the PACS is the
tests' double, in a process of its own. Everything between them are DICOM associations.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import (
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    SecondaryCaptureImageStorage,
)
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from node.configuration import load_settings
from node.domain import DeliveryState, JobState, StudyState
from node.store import listing
from node.store.ledger import Ledger, open_ledger
from sr_templates.text import as_text
from tests.journeys import pictures
from tests.peers import REPOSITORY, accepts, free_port
from tests.peers.head_phantom import head_phantom, to_mr_series
from tests.peers.scanner import send

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydicom import Dataset

    from node.settings import Settings
    from tests.journeys.pictures import Mask

BUILD = REPOSITORY / "build" / "demo"
PATIENCE_S = 170.0
LEAST_DICE = 0.95

CONFIG = """\
data = "data"

[listen]
host = "127.0.0.1"
port = {node_port}
accept_from = {{ ECG1 = "127.0.0.1", MR1 = "127.0.0.1" }}

[spool]
minimum_free_bytes = 100000000

[complete]
series_s = 2.0
study_s = 3.0

[destinations.pacs]
kind = "dimse"
ae_title = "PACS"
host = "127.0.0.1"
port = {pacs_port}
objects = ["seg", "sr", "viewer-sr", "text-sr", "sc", "pdf"]

[[routes]]
name = "every ECG"
match = {{ Modality = "ECG" }}
run = ["ecg-atrial-fibrillation"]
send_to = ["pacs"]

[[routes]]
name = "T1 heads"
match = {{ Modality = "MR", BodyPartExamined = ["HEAD", "BRAIN"] }}
run = ["brain-mr-volumetry"]
send_to = ["pacs"]
"""


@dataclass(frozen=True)
class Sent:
    """One study that goes in."""

    name: str
    calling_ae: str
    pipeline: str
    instances: Sequence[Dataset]

    @property
    def study_uid(self) -> str:
        """Of all its instances."""
        return str(self.instances[0].StudyInstanceUID)


def main(build: Path) -> int:
    """Run the demo in ``build``; the exit status is 0 only if everything came back as it must."""
    console = Console()
    started = time.monotonic()
    pacs_folder = build / "pacs"
    again = pacs_folder.is_dir() and any(pacs_folder.iterdir())
    pacs_folder.mkdir(parents=True, exist_ok=True)
    console.print("Making a T1 head with known truth, and taking an ECG from pydicom.")
    voxels, truth, grid = head_phantom()
    head = to_mr_series(voxels, grid)
    electrocardiogram = dcmread(str(get_testdata_file("waveform_ecg.dcm")))
    studies = (
        Sent("ECG", "ECG1", "ecg-atrial-fibrillation", [electrocardiogram]),
        Sent("T1 head MR", "MR1", "brain-mr-volumetry", head),
    )
    node_port, pacs_port = free_port(), free_port()
    (build / "radnode.toml").write_text(CONFIG.format(node_port=node_port, pacs_port=pacs_port))
    settings = load_settings(build / "radnode.toml")
    with _node(build, settings), _pacs(build, pacs_port, node_port):
        console.print(f"radnode listens on port {node_port}, the PACS on port {pacs_port}.")
        with open_ledger(settings) as ledger:
            back = _send_twice(console, build, settings, ledger, studies, again=again)
    if not back:
        return 1
    return _judge(console, build, studies, truth, started)


def _send_twice(
    console: Console,
    build: Path,
    settings: Settings,
    ledger: Ledger,
    studies: Sequence[Sent],
    *,
    again: bool,
) -> bool:
    """Send everything, and send it again; whether one set of results came back."""
    before = _stored(build)
    if not _send_and_wait(settings, ledger, studies):
        console.print(f"[red]Not every result came back in time; see {build / 'node.log'}.[/red]")
        return False
    first = _stored(build)
    if again and first != before:
        console.print("[red]Sending again changed what the PACS holds.[/red]")
        return False
    _send_and_wait(settings, ledger, studies)
    if _stored(build) != first:
        console.print("[red]A second sending made a second result.[/red]")
        return False
    console.print(f"Sent twice; the PACS holds {len(first)} objects, one set of results a study.")
    return True


def _judge(
    console: Console, build: Path, studies: Sequence[Sent], truth: Mask, since: float
) -> int:
    """Read back what the PACS holds: pictures, reports, and the Dice against the truth."""
    objects = [dcmread(path) for path in sorted((build / "pacs").glob("*.dcm"))]
    electrocardiogram, head = studies
    (segmentation,) = [o for o in objects if o.Modality == "SEG"]
    mask = pictures.mask_of(segmentation, head.instances)
    pictures.draw_overlay(head.instances, mask, build / "overlay.png")
    pictures.draw_strip(electrocardiogram.instances[0], build / "ecg.png")
    for study in studies:
        of_study = {o.SOPClassUID: o for o in objects if o.StudyInstanceUID == study.study_uid}
        readable = as_text(of_study[EnhancedSRStorage])
        (build / f"{study.pipeline}.txt").write_text(readable)
        picture = of_study[SecondaryCaptureImageStorage]
        image.imsave(build / f"{study.pipeline}.png", picture.pixel_array)
        document = of_study[EncapsulatedPDFStorage]
        pdf = document.EncapsulatedDocument[: document.EncapsulatedDocumentLength]
        (build / f"{study.pipeline}.pdf").write_bytes(pdf)
        console.rule(study.name)
        console.print(readable, highlight=False, markup=False)
    dice = 2.0 * np.count_nonzero(mask & truth) / (np.count_nonzero(mask) + truth.sum())
    console.rule()
    console.print(f"Brain mask against its known truth: Dice {dice:.3f} (must be {LEAST_DICE}).")
    console.print(f"Results, pictures and reports: {build}/", soft_wrap=True)
    console.print(f"Done in {time.monotonic() - since:.0f} s.")
    return 0 if dice >= LEAST_DICE else 1


def _stored(build: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (build / "pacs").glob("*.dcm")}


def _send_and_wait(settings: Settings, ledger: Ledger, studies: Sequence[Sent]) -> bool:
    """Send every study and wait until its results are committed. False if that takes too long."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[stage]}"),
        TimeElapsedColumn(),
    )
    stages = ("sending", "receiving", "scheduled", "analysing", "delivering", "committed")
    with Progress(*columns) as progress:
        bars = [progress.add_task(s.name, total=len(stages) - 1, stage="") for s in studies]
        for study, bar in zip(studies, bars, strict=True):
            progress.update(bar, stage="sending")
            send(settings.listen.port, study.instances, calling_ae=study.calling_ae)
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            reached = [_stage(ledger, study) for study in studies]
            for bar, stage in zip(bars, reached, strict=True):
                progress.update(bar, completed=stages.index(stage), stage=stage)
            if all(stage == "committed" for stage in reached):
                return True
            time.sleep(0.2)
    return False


def _stage(ledger: Ledger, study: Sent) -> str:
    """Return how far a study is."""
    with ledger.read() as db:
        jobs = [j for j in listing.jobs(db, 100) if j["study_uid"] == study.study_uid]
        if not jobs:
            return "receiving"
        if jobs[0]["state"] != JobState.COMPLETED:
            return "analysing" if jobs[0]["state"] == JobState.IN_PROGRESS else "scheduled"
        states = {row["state"] for row in listing.deliveries_of_job(db, jobs[0]["id"])}
        (whole,) = [row for row in listing.studies(db, 100) if row["study_uid"] == study.study_uid]
    # Not before the study is closed: until then another result of it may be on its way.
    done = whole["state"] == StudyState.COMPLETE and states == {DeliveryState.COMMITTED}
    return "committed" if done else "delivering"


@contextmanager
def _process(command: list[str], port: int, log: Path) -> Iterator[None]:
    """Run a program until the block ends; the block begins when ``port`` answers."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        end = time.monotonic() + PATIENCE_S
        while not accepts(port):
            if process.poll() is not None or time.monotonic() > end:
                sys.exit(f"{command[2]} did not start; see {log}.")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextmanager
def _node(build: Path, settings: Settings) -> Iterator[None]:
    """Run ``radnode up``."""
    command = [sys.executable, "-m", "node.cli", "up", "--config", str(build / "radnode.toml")]
    with _process(command, settings.listen.port, build / "node.log"):
        yield


@contextmanager
def _pacs(build: Path, port: int, node_port: int) -> Iterator[None]:
    answer_to = f"RADNODE@127.0.0.1:{node_port}"
    folder = str(build / "pacs")
    options = ["--port", str(port), "--folder", folder, "--answer-to", answer_to]
    command = [sys.executable, "-m", "tests.peers.pacs", *options]
    with _process(command, port, build / "pacs.log"):
        yield


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Two studies in, their results back in a PACS.")
    parser.add_argument("--out", type=Path, default=BUILD, help="default: %(default)s")
    given = parser.parse_args()
    sys.exit(main(given.out.resolve()))
