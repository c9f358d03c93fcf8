"""Processes that share a graphics card take turns, and the kernel ends the turn of a dead one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from node.errors import GpuTooSmall
from node.gpus import Gpu, Seat, gpus
from tests.peers import REPOSITORY, wait_until

GIGABYTE = 1_000_000_000
CARD = Gpu("GPU-1", 10 * GIGABYTE)
HOLDS = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from node.gpus import Gpu, Seat

stated = SimpleNamespace(name="holder", gpu_memory_bytes=int(sys.argv[2]) or None)
seat = Seat(Path(sys.argv[1]), [Gpu("GPU-1", 10_000_000_000)])
with seat.turn(stated, print):
    print("runs", flush=True)
    sys.stdin.read()
print("done", flush=True)
sys.stdin.close()
time.sleep(600)
"""


def model(gigabytes):
    """Takes so much of a card; None: it does not say."""
    return SimpleNamespace(
        name="m", gpu_memory_bytes=None if gigabytes is None else int(gigabytes * GIGABYTE)
    )


@pytest.fixture
def seat(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield Seat(tmp_path / "gpus", [CARD])
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)


@pytest.fixture
def holder(tmp_path):
    """Return a function that starts a process which runs a model of so many bytes."""
    started = []

    def hold(size_bytes):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDS, str(tmp_path / "gpus"), str(size_bytes)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "runs\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


class Turn(threading.Thread):
    """Takes a turn and says what was told of it."""

    def __init__(self, seat, stated):
        super().__init__(daemon=True)
        self._seat, self._stated = seat, stated
        self.told: list[bool] = []
        self._ran = False

    def run(self):
        with self._seat.turn(self._stated, self.told.append):
            self._ran = True

    def has_run(self):
        return self._ran


def test_what_fits_together_runs_together(seat, holder):
    holder(6 * GIGABYTE)
    told: list[bool] = []
    with seat.turn(model(4), told.append):
        assert not told


@pytest.mark.parametrize(("theirs", "ours"), [(6 * GIGABYTE, 5), (6 * GIGABYTE, None), (0, 1)])
def test_what_does_not_fit_waits_until_the_other_is_done(seat, holder, theirs, ours):
    other = holder(theirs)
    turn = Turn(seat, model(ours))
    turn.start()
    wait_until(lambda: turn.told == [True], what="The wait for the card")
    assert not turn.has_run()
    other.stdin.close()
    turn.join(60.0)
    assert turn.has_run()
    assert turn.told == [True, False]
    assert other.poll() is None


def test_a_process_that_is_killed_gives_its_share_back(seat, holder):
    other = holder(0)
    turn = Turn(seat, model(None))
    turn.start()
    wait_until(lambda: turn.told == [True], what="The wait for the card")
    os.kill(other.pid, signal.SIGKILL)
    turn.join(60.0)
    assert turn.has_run()


def test_a_model_larger_than_the_card_is_refused_and_never_tried(seat):
    with pytest.raises(GpuTooSmall) as refused, seat.turn(model(12), print):
        pytest.fail("It ran.")
    assert refused.value.what == (
        "m needs 12.0 GB of memory on the graphics card, which has 10.0 GB."
    )
    assert refused.value.do
    assert not refused.value.retry


def test_a_model_that_needs_no_card_waits_for_none(seat, holder):
    holder(0)
    told: list[bool] = []
    with seat.turn(model(0), told.append):
        assert not told


def test_processes_sit_down_at_different_cards(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    two = [CARD, Gpu("GPU-2", GIGABYTE)]
    seats = [Seat(tmp_path, two) for _ in range(4)]
    assert sorted(one.gpu.uuid for one in seats) == ["GPU-1", "GPU-1", "GPU-2", "GPU-2"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seats[-1].gpu.uuid


@pytest.mark.parametrize(
    ("visible", "expected"),
    [(None, ["GPU-a", "GPU-b"]), ("1", ["GPU-b"]), ("GPU-a", ["GPU-a"]), ("", [])],
)
def test_the_driver_is_asked_which_cards_there_are(tmp_path, monkeypatch, visible, expected):
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\nprintf '0, GPU-a, 81559\\n1, GPU-b, 24564\\n'\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [one.uuid for one in gpus()] == expected
    assert all(one.memory_bytes > 20 * GIGABYTE for one in gpus())


def test_a_host_without_a_driver_has_no_cards(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() == ()
