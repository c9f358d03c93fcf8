"""The inference process: whatever a model does to it, the worker gets a sentence and goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from node.errors import GpuTooSmall, ModelFailed
from node.gpus import Seat, gpus
from node.inference import InferenceProcess
from node.settings import Work
from tests.peers import REPOSITORY, wait_until
from tests.peers.bright_spot import ct_series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENT = "Phantom^Bright"
GIGABYTE = 1_000_000_000

SOURCE = '''\
"""Everything a model may do to the process it runs in."""

import os
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

from pipelines.contract import Model, Result


class Harmless:
    version = "1"
    title = "Test"
    input = {"Modality": "CT"}
    report = "measurement_report"
    model = Model("none", "1", "radnode tests", "0" * 64, "nothing")
    parameters = {}
    deadline_s = 60.0
    name = "harmless"

    def warm_up(self):
        pass

    def run(self, ct):
        return Result()


class Crashes(Harmless):
    def run(self, ct):
        os.kill(os.getpid(), signal.SIGSEGV)


class Exits(Harmless):
    def run(self, ct):
        sys.exit(3)


class Hangs(Harmless):
    def run(self, ct):
        time.sleep(600)


class Computes(Harmless):
    def run(self, ct):
        subprocess.run([sys.executable, "-c", "while True: pass"])


class Raises(Harmless):
    def run(self, ct):
        raise RuntimeError("Phantom^Bright has no head")


class Eats(Harmless):
    def run(self, ct):
        kept = [np.empty(50_000_000) for _ in range(100)]
        return Result(notes=(str(len(kept)),))


class Prints(Harmless):
    def run(self, ct):
        print("{}", flush=True)
        os.system("echo [1,")
        sys.stdout.write("no line end")
        return Result()


class Starts(Harmless):
    """Leaves a process behind, as a data loader might, then hangs."""

    def run(self, ct):
        helper = subprocess.Popen(["sleep", "600"])
        with open(os.environ["HELPER"], "w") as file:
            file.write(str(helper.pid))
        time.sleep(600)


class Awaits(Harmless):
    """Waits for a program that waits itself, as docker's does while a container computes."""

    def run(self, ct):
        subprocess.run(["sleep", "4"])
        return Result()


class Scribbles(Harmless):
    """Leaves images in a temporary file, as a program of a site might, then crashes."""

    def run(self, ct):
        tempfile.NamedTemporaryFile(prefix="images", delete=False).write(ct.voxels.tobytes())
        subprocess.run([sys.executable, "-c", "import tempfile; tempfile.mkstemp('', 'images')"])
        os.kill(os.getpid(), signal.SIGKILL)


class Closes(Harmless):
    """Closes what it should not know of, then hangs."""

    def run(self, ct):
        os.closerange(3, 1000)
        time.sleep(600)


class Keeps(Harmless):
    """Large weights, that stay warm."""

    def warm_up(self):
        self.weights = np.empty(1_800_000_000, np.uint8)


class Needs(Harmless):
    """Fits into a process of its own."""

    def run(self, ct):
        return Result(notes=(str(np.empty(1_200_000_000, np.uint8).nbytes),))


class Large(Harmless):
    name = "large"
    gpu_memory_bytes = 9_000_000_000_000


class IsCold(Harmless):
    def warm_up(self):
        raise OSError("Weights of Phantom^Bright are gone")
'''
NAMES = {
    "harmless": "Harmless",
    "crashes": "Crashes",
    "exits": "Exits",
    "hangs": "Hangs",
    "computes": "Computes",
    "awaits": "Awaits",
    "raises": "Raises",
    "eats": "Eats",
    "prints": "Prints",
    "starts": "Starts",
    "closes": "Closes",
    "scribbles": "Scribbles",
    "is-cold": "IsCold",
    "large": "Large",
    "keeps": "Keeps",
    "needs": "Needs",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package and its entry points, as ``pip install`` lays it out."""
    folder = tmp_path_factory.mktemp("site-packages")
    (folder / "misbehaving.py").write_text(SOURCE)
    record = folder / "misbehaving-1.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: misbehaving\nVersion: 1\n")
    lines = [f"{name} = misbehaving:{one}" for name, one in NAMES.items()]
    (record / "entry_points.txt").write_text("\n".join(["[radnode.pipelines]", *lines]))
    return folder


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    found = []
    for image in ct_series("inference", spot=False):
        path = tmp_path / f"{image.InstanceNumber}.dcm"
        image.save_as(path, enforce_file_format=True)
        found.append(str(path))
    return found


@pytest.fixture
def inference(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InferenceProcess]:
    monkeypatch.setenv("PYTHONPATH", str(installed))
    monkeypatch.chdir(REPOSITORY)
    process = InferenceProcess(Work(threads=1, memory_bytes=2 * GIGABYTE))
    yield process
    process.kill()


class Model:
    """Asks for one series after the other."""

    def __init__(self, inference: InferenceProcess, paths: list[str], folder: Path) -> None:
        self.inference, self._paths, self._folder = inference, paths, folder

    def run(
        self, name: str, deadline_s: float = 60.0, tick: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        request = {
            "job_id": "0123abcd",
            "pipeline": name,
            "inputs": {"": self._paths},
            "superseded": [],
            "rejected": [],
            "roles": ["seg", "sr"],
            "analysed_at": 1_700_000_000.0,
            "folder": str(self._folder / "out"),
            "scratch": str(self._folder / "scratch"),
        }
        return self.inference.ask(request, deadline_s=deadline_s, tick=tick)

    def fails(self, name: str, deadline_s: float = 60.0) -> str:
        with pytest.raises(ModelFailed) as raised:
            self.run(name, deadline_s)
        assert PATIENT not in str(raised.value)
        assert raised.value.do
        return raised.value.what

    @property
    def process(self) -> subprocess.Popen[bytes]:
        child = self.inference._child
        assert child is not None
        return child.process

    @property
    def pid(self) -> int:
        return self.process.pid


@pytest.fixture
def model(inference: InferenceProcess, paths: list[str], tmp_path: Path) -> Model:
    return Model(inference, paths, tmp_path)


def test_what_a_model_writes_for_itself_lies_where_the_worker_removes_it(
    model: Model, tmp_path: Path
) -> None:
    assert "was killed by signal 9" in model.fails("scribbles")
    assert len(list((tmp_path / "scratch").glob("*images*"))) == 2
    model.run("harmless")
    assert not (tmp_path / "scratch").exists()


def test_models_stay_warm_from_job_to_job(model: Model) -> None:
    assert model.inference.ask({"warm": ["harmless"]}, deadline_s=60.0, tick=lambda: None)
    pid = model.pid
    for _ in range(2):
        answer = model.run("harmless")
        assert answer["outcome"] == "nothing_found"
        assert set(answer["files"]) == {"sr"}
    assert model.pid == pid


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("crashes", "The inference process was killed by signal 11."),
        ("exits", "The inference process ended with 3."),
        ("raises", "It failed: RuntimeError at misbehaving.py:"),
        ("eats", "It ran out of memory."),
        ("is-cold", "It failed: OSError at misbehaving.py:"),
    ],
)
def test_a_model_that_fails_is_told_in_a_sentence_and_the_next_job_works(
    model: Model, name: str, what: str
) -> None:
    assert model.fails(name).startswith(what)
    assert model.run("harmless")["outcome"] == "nothing_found"


def test_a_job_gets_the_memory_that_earlier_models_keep_warm(
    model: Model, paths: list[str], tmp_path: Path
) -> None:
    inference = InferenceProcess(Work(threads=1, memory_bytes=3 * GIGABYTE))
    crowded = Model(inference, paths, tmp_path)
    assert crowded.run("keeps")["outcome"] == "nothing_found"
    pid = crowded.pid
    assert crowded.run("needs")["outcome"] == "nothing_found"
    assert crowded.pid != pid
    inference.kill()


def test_a_model_past_its_deadline_is_killed_with_all_that_it_started(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "helper"
    monkeypatch.setenv("HELPER", str(helper))
    assert model.fails("starts", deadline_s=3.0) == "The model did not finish before its deadline."
    gone(int(helper.read_text()))
    assert model.run("harmless")["outcome"] == "nothing_found"


def test_the_wait_for_a_card_is_not_the_models_time_and_its_turn_is_told(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _driver(tmp_path, monkeypatch)
    seats = tmp_path / "gpus"
    inference = InferenceProcess(Work(threads=1), tmp_path / "models", seats)
    waiting = Model(inference, model._paths, tmp_path)
    assert "wait" in waiting.run("harmless")["seconds"]
    other = ExitStack()
    other.enter_context(Seat(seats, gpus()).turn(SimpleNamespace(name="other"), lambda _: None))
    given_back_at = time.monotonic() + 6.0

    def give_back_after_the_deadline() -> None:
        if time.monotonic() > given_back_at:
            other.close()

    answer = waiting.run("harmless", deadline_s=5.0, tick=give_back_after_the_deadline)
    inference.kill()
    assert answer["outcome"] == "nothing_found"


def test_a_model_larger_than_the_card_is_told_as_such(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _driver(tmp_path, monkeypatch)
    inference = InferenceProcess(Work(threads=1), tmp_path / "models", tmp_path / "gpus")
    with pytest.raises(GpuTooSmall, match=r"large needs 9000.0 GB"):
        Model(inference, model._paths, tmp_path).run("large")
    inference.kill()


def _driver(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this host own a graphics card of 1 GB, as far as its driver's command says."""
    program = folder / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 0, GPU-1, 1000\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1")


def test_a_model_that_closes_the_pipe_and_hangs_holds_up_nobody(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.inference.GRACE_S", 0.1)
    assert model.fails("closes") == "The inference process closed its pipe."
    assert model.run("harmless")["outcome"] == "nothing_found"


def test_a_model_that_waits_for_ever_is_found_long_before_its_deadline(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.run("harmless")
    monkeypatch.setattr("node.inference.STILL_S", 1.0)
    assert model.fails("hangs").startswith("The model hangs:")
    assert model.run("harmless")["outcome"] == "nothing_found"


def test_a_model_that_computes_is_not_called_hanging(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.run("harmless")
    monkeypatch.setattr("node.inference.STILL_S", 2.0)
    assert (
        model.fails("computes", deadline_s=5.0) == "The model did not finish before its deadline."
    )


def test_a_model_that_computes_where_nobody_sees_it_is_not_called_hanging(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.inference.STILL_S", 1.0)
    assert model.run("awaits")["outcome"] == "nothing_found"


def test_a_model_may_print_what_it_likes(model: Model) -> None:
    assert model.run("prints")["outcome"] == "nothing_found"
    assert model.run("harmless")["outcome"] == "nothing_found"


def test_whatever_the_worker_raises_while_it_waits_ends_the_process(model: Model) -> None:
    class LeaseIsLost(Exception):
        pass

    def lose_the_lease() -> None:
        raise LeaseIsLost

    model.run("harmless")
    pid = model.pid
    with pytest.raises(LeaseIsLost):
        model.run("hangs", tick=lose_the_lease)
    gone(pid)
    assert model.run("harmless")["outcome"] == "nothing_found"


def test_a_process_killed_between_two_jobs_is_replaced(model: Model) -> None:
    model.run("harmless")
    os.kill(model.pid, signal.SIGKILL)
    model.process.wait()
    assert model.run("harmless")["outcome"] == "nothing_found"


def test_the_process_is_replaced_after_its_share_of_jobs(
    model: Model, paths: list[str], tmp_path: Path
) -> None:
    inference = InferenceProcess(Work(threads=1, jobs_per_process=2))
    recycled = Model(inference, paths, tmp_path)
    pids = []
    for _ in range(3):
        recycled.run("harmless")
        pids.append(None if inference._child is None else recycled.pid)
    inference.kill()
    assert pids[0] is not None
    assert pids[1] is None
    assert pids[2] not in {None, pids[0]}


def test_processes_of_one_host_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.inference.os.cpu_count", lambda: 8)
    for processes, threads, expected in ((1, 0, None), (2, 0, "4"), (16, 0, "1"), (2, 3, "3")):
        inference = InferenceProcess(Work(processes=processes, threads=threads))
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        child = psutil.Process(inference._running().process.pid)
        # For a moment of its exec a process has no environment at all.
        wait_until(child.environ, what="The start of the child")
        given = child.environ()
        inference.kill()
        assert given.get("OMP_NUM_THREADS") == expected


def gone(pid: int) -> None:
    def is_gone() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    wait_until(is_gone, what=f"The end of process {pid}")


WORKER = """
import os, sys
from node import log
from node.inference import InferenceProcess
from node.settings import Work

log.configure("work")  # to standard error
inference = InferenceProcess(Work(threads=1))
inference.ask({"warm": ["harmless"]}, deadline_s=60.0, tick=lambda: None)
print(inference._child.process.pid, flush=True)
request = dict(job_id="0", pipeline="starts", inputs={"": sys.argv[1:]}, superseded=[],
               rejected=[], roles=["seg", "sr"], analysed_at=0.0,
               folder=os.environ["HELPER"] + ".out", scratch=os.environ["HELPER"] + ".scratch")
inference.ask(request, deadline_s=600.0, tick=lambda: None)
"""


def test_it_ends_in_the_middle_of_a_job_when_its_worker_is_killed(
    installed: Path, paths: list[str], tmp_path: Path
) -> None:
    helper = tmp_path / "helper"
    environment = {**os.environ, "PYTHONPATH": str(installed), "HELPER": str(helper)}
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, *paths],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    pid = int(worker.stdout.readline())
    wait_until(lambda: helper.exists() and helper.read_text(), what="The model's own process")
    worker.kill()
    worker.wait()
    worker.stdout.close()
    gone(pid)
    gone(int(helper.read_text()))
