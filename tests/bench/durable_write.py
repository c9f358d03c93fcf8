"""The limit of the disk: write a file, fsync it, rename it, fsync its folder; no network, no rows.

As many threads as a receiver would have associations, each file in one folder of one process: the
kernel does all the work, and no interpreter lock is held meanwhile.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from typing import TYPE_CHECKING

from node.spool import fsync_directory

if TYPE_CHECKING:
    from pathlib import Path


def mb_per_s(folder: Path, content: bytes, threads: int, seconds: float) -> float:
    """Write files of ``content`` for some time, and return how fast; what was written is removed.

    Args:
        folder: A new folder is made in it.
        content: Of each file.
        threads: That write, each one file after another.
        seconds: No file is begun after that.
    """
    own = folder / f"bench-raw-{os.getpid()}"
    own.mkdir(parents=True)
    counts = [0] * threads
    ends = [0.0] * threads
    begun = time.perf_counter()

    def work(number: int) -> None:
        while time.perf_counter() < begun + seconds:
            _write_durably(own / f"{number}-{counts[number]}", content)
            counts[number] += 1
            ends[number] = time.perf_counter()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        shutil.rmtree(own)
    return sum(counts) * len(content) / (max(ends) - begun) / 1e6


def _write_durably(path: Path, content: bytes) -> None:
    part = path.with_suffix(".part")
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    part.rename(path)
    fsync_directory(path.parent)
