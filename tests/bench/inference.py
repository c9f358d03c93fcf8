"""Inference: our sliding window beside MONAI's, and how busy a queue of studies keeps a card.

The sliding window runs on a graphics card where there is one (512 x 512 x 300, the goal's size),
else on the CPU with a smaller volume. The queue's network is a pause, as a card looks from
the host: what is measured is how well loading and encoding hide behind it.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import torch
from monai.inferers import SlidingWindowInferer, sliding_window_inference
from monai.networks.nets import UNet
from rich.console import Console
from rich.table import Table

from node.inference import InferenceProcess
from node.settings import Work
from pipelines.runtimes.monai_inferer import slide
from pipelines.runtimes.sliding_window import SlidingNetwork
from tests.bench.goals import at_least, at_most, table
from tests.peers.bright_spot import ct_series

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RUNS = 5
ROI, OVERLAP, BATCH = (96, 96, 96), 0.25, 4
ON_CARD, ON_HOST = (512, 512, 300), (192, 192, 96)
STUDIES, SLICES, CARD_S = 20, 150, 1.0

STAND_IN = """\
import time
from pipelines.contract import Model, Result


class Pause:
    name = "pause"
    version = title = "1"
    input = {"Modality": "CT"}
    report = "measurement_report"
    model = Model("none", "1", "radnode tests", "0" * 64, "nothing")
    parameters = {}
    deadline_s = 600.0

    def warm_up(self):
        pass

    def run(self, ct):
        time.sleep(%s)
        return Result()
"""


def measure(console: Console) -> dict[str, Any]:
    """Measure, print, and return what JSON can hold."""
    windows, queue = sliding(), queues()
    _print(console, windows, queue)
    alike = 1e-3 if windows["device"] == "cuda" else 1e-5
    goals = [
        at_most("sliding window: farthest from MONAI's answer", windows["difference"], alike),
        at_least("device busy, 20 studies, 2 processes", queue["2"], 0.9),
    ]
    if windows["device"] == "cuda":
        faster = windows["monai_s"] / windows["best_s"]
        goals.append(at_least("sliding window, times MONAI's", faster, 1.5))
    return {"sliding_window": windows, "device_busy": queue, "goals": goals}


def sliding() -> dict[str, Any]:
    """Return the median seconds of each way, and how far ours is from MONAI's answer."""
    on = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = ON_CARD if on.type == "cuda" else ON_HOST
    torch.manual_seed(0)
    network = UNet(3, 1, 3, channels=(16, 32, 64, 128), strides=(2, 2, 2), num_res_units=2)
    network = network.to(on).eval()
    image = torch.rand((1, *shape))
    inferer = SlidingWindowInferer(ROI, BATCH, OVERLAP)
    precisions = ("float32", "bfloat16", "float16") if on.type == "cuda" else ("float32",)

    def as_documented() -> torch.Tensor:
        with torch.no_grad():
            answer: Any = sliding_window_inference(image[None].to(on), ROI, BATCH, network, OVERLAP)
        return torch.as_tensor(answer[0]).cpu()

    ways: dict[str, Callable[[], torch.Tensor]] = {"monai": as_documented}
    for precision in precisions:
        ours = SlidingNetwork(network, on, precision)
        ways[precision] = lambda ours=ours: slide(inferer, image, ours)  # type: ignore[misc]
    expected = as_documented()
    off = {way: float((answer() - expected).abs().max()) for way, answer in ways.items()}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(RUNS):
        for way, answer in ways.items():
            begun = time.perf_counter()
            answer()
            seconds[way].append(time.perf_counter() - begun)
    medians = {way: statistics.median(each) for way, each in seconds.items()}
    within = [way for way in precisions if off[way] <= 1e-3]
    best = min(within or precisions, key=medians.__getitem__)
    return {
        "device": on.type,
        "shape": shape,
        "seconds": medians,
        "differences": off,
        "monai_s": medians["monai"],
        "best": best,
        "best_s": medians[best],
        "difference": off[best],
    }


def queues() -> dict[str, float]:
    """Return which share of the time the stand-in ran, by the number of processes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _install(folder)
        paths = []
        for number, image in enumerate(ct_series("queue", slices=SLICES)):
            pixels = image.pixel_array.repeat(16, axis=0).repeat(16, axis=1)
            image.Rows, image.Columns = pixels.shape
            image.PixelData = pixels.tobytes()
            paths.append(str(folder / f"{number}.dcm"))
            image.save_as(paths[-1], enforce_file_format=True)
        return {str(n): _busy(folder, paths, n) for n in (1, 2)}


def _install(folder: Path) -> None:
    """Have a host with one graphics card, and the stand-in installed on it."""
    record = folder / "pause-1.dist-info"
    record.mkdir()
    (folder / "pause.py").write_text(STAND_IN % CARD_S)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: pause\nVersion: 1\n")
    (record / "entry_points.txt").write_text("[radnode.pipelines]\npause = pause:Pause\n")
    driver = folder / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text("#!/bin/sh\necho 0, GPU-1, 80000\n")
    driver.chmod(0o755)
    os.environ["PYTHONPATH"] = str(folder)
    os.environ["PATH"] = f"{driver.parent}{os.pathsep}{os.environ['PATH']}"


def _busy(folder: Path, paths: Sequence[str], processes: int) -> float:
    work = Work(processes=processes)
    inferences = [
        InferenceProcess(work, folder / "models", folder / "gpus") for _ in range(processes)
    ]
    waiting: SimpleQueue[int] = SimpleQueue()
    for number in range(STUDIES):
        waiting.put(number)
    card_s: list[float] = []

    def drain(inference: InferenceProcess) -> None:
        while True:
            try:
                number = waiting.get_nowait()
            except Empty:
                return
            answer = inference.ask(_request(folder, paths, number), deadline_s=600.0, tick=_nothing)
            card_s.append(answer["seconds"]["model"])

    for inference in inferences:
        inference.ask({"warm": ["pause"]}, deadline_s=600.0, tick=_nothing)
    threads = [threading.Thread(target=drain, args=(one,)) for one in inferences]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = time.perf_counter() - begun
    for inference in inferences:
        inference.kill()
    return sum(card_s) / took_s


def _request(folder: Path, paths: Sequence[str], number: int) -> dict[str, Any]:
    return {
        "job_id": f"{number:08x}",
        "pipeline": "pause",
        "inputs": {"": paths},
        "superseded": [],
        "rejected": [],
        "roles": ["sr"],
        "analysed_at": 1_700_000_000.0,
        "folder": str(folder / f"out-{number}"),
        "scratch": str(folder / f"scratch-{number}"),
    }


def _nothing() -> None:
    """Nobody has to be told that we wait."""


def _print(console: Console, windows: dict[str, Any], queue: dict[str, float]) -> None:
    drawn = Table(title=f"Sliding window on {windows['device']}, {windows['shape']}", box=None)
    for column in ("", "s, median", "times MONAI's", "farthest from it"):
        drawn.add_column(column, justify="right" if column else "left")
    for way, median_s in windows["seconds"].items():
        ratio, off = windows["monai_s"] / median_s, windows["differences"][way]
        drawn.add_row(way, f"{median_s:.2f}", f"{ratio:.2f}", f"{off:.1e}")
    console.print(drawn)
    for processes, share in queue.items():
        console.print(
            f"{STUDIES} studies of {SLICES} slices, {CARD_S:g} s of the device each, {processes} "
            f"process(es): busy {share:.0%} of the time."
        )


if __name__ == "__main__":
    Console().print(table(measure(Console())["goals"]))
    sys.exit(0)
