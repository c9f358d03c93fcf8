"""A pipeline that does harm when its images ask for it, and images that ask.

Honest images hold a bright cube; the pipeline outlines it, in a moment. The first voxel of every
slice says what else it does (``Harm``): so a harmful input looks like any other until it is read.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from tests.peers.bright_spot import ct_series

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydicom import Dataset

    Study = Sequence[Dataset]

NAME = "harmed-ct"
DEADLINE_S, SHORT_DEADLINE_S = 60.0, 12.0
"""Of the pipeline; and where it hangs on purpose. The start of its process counts."""
SLICES = 4


class Harm(IntEnum):
    """What the first voxel asks for, in HU."""

    NONE = 0
    SEGFAULT = -1
    ABORT = -2
    KILL = -3
    EXIT = -4
    SLEEP = -5
    """For ever."""
    SPIN = -6
    """For ever, holding the interpreter lock."""
    MEMORY = -7
    RECURSION = -8
    CLOSE = -9
    """Every descriptor it has."""
    SLOW = -20
    """Half a second, and then an honest result."""


SOURCE = '''\
"""Anything brighter than 300 HU; and harm."""

import ctypes
import os
import re
import signal
import time

from pipelines.codes import ANATOMICAL_STRUCTURE, BRAIN, VOLUME
from pipelines.contract import Finding, Measurement, Model, Result, Segment


def nested(depth):
    return nested(depth + 1) + 1


def fill():
    held = []
    while True:
        held.append(bytearray(1 << 26))


def sleep():
    while True:
        time.sleep(60.0)


HARMS = {
    -1: lambda: ctypes.string_at(0),
    -2: os.abort,
    -3: lambda: os.kill(os.getpid(), signal.SIGKILL),
    -4: lambda: os._exit(3),
    -5: sleep,
    -6: lambda: re.match("(a+)+$", "a" * 60 + "b"),
    -7: fill,
    -8: lambda: nested(0),
    -9: lambda: (os.closerange(0, 256), sleep()),
    -20: lambda: time.sleep(0.5),
}


class HarmedCt:
    name = "harmed-ct"
    version = "1.0.0"
    title = "Bright spot"
    input = {"Modality": "CT", "ImageType": "ORIGINAL"}
    report = "measurement_report"
    model = Model("threshold", "1", "radnode tests", "0" * 64, "nothing: a fixed threshold")
    parameters = {"threshold_hu": "300"}
    deadline_s = 0.0  # as installed

    def warm_up(self):
        pass

    def run(self, ct):
        harm = HARMS.get(round(float(ct.voxels[0, 0, 0])))
        if harm is not None:
            harm()
        mask = ct.voxels > 300.0
        volume = Measurement(VOLUME, float(mask.sum()) * ct.grid.voxel_volume_ml, "mL")
        finding = Finding(BRAIN, segment="bright spot", measurements=(volume,))
        return Result((finding,), (Segment("bright spot", ANATOMICAL_STRUCTURE, BRAIN, mask),))
'''


def install(folder: Path, *, deadline_s: float = DEADLINE_S) -> dict[str, str]:
    """Install the pipeline into ``folder`` as ``pip`` would; the environment to find it in."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "harmed_ct.py").write_text(
        SOURCE.replace("deadline_s = 0.0", f"deadline_s = {deadline_s}")
    )
    record = folder / "harmed_ct-1.0.0.dist-info"
    record.mkdir(exist_ok=True)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: harmed-ct\nVersion: 1.0.0\n")
    (record / "entry_points.txt").write_text(f"[radnode.pipelines]\n{NAME} = harmed_ct:HarmedCt\n")
    return {"PYTHONPATH": str(folder)}


def study(root: str, harm: Harm = Harm.NONE, *, slices: int = SLICES) -> list[Dataset]:
    """Return a CT of one series, all of whose UIDs derive from ``root``."""
    images = ct_series(root, slices)
    for image in images:
        pixels = np.frombuffer(image.PixelData, "<i2").copy()
        pixels[0] = harm
        image.PixelData = pixels.tobytes()
    return images
