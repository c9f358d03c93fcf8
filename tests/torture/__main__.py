"""``make torture``: what is lost, doubled, let in or left hanging when everything goes wrong.

Each subject can be run alone: ``python -m tests.torture --only kills``. All figures go to
build/torture/torture.json; ``python -m tests.torture.document`` writes docs/reliability.md from
there. The exit status is 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tests.peers import REPOSITORY
from tests.torture import goals
from tests.torture.part import measured
from tests.torture.subject import Size

if TYPE_CHECKING:
    from collections.abc import Sequence

BESIDE = (
    "crash_points",
    "kills",
    "broker",
    "poison",
    "watchdog",
    "naive_control",
    "zombies",
    "stateful",
    "hostile_names",
    "audit_tampering",
    "fsync_order",
    "aborts",
    "disk_full",
    "pacs_faults",
    "pacs_away",
    "partitions",
)
"""These bear company: they wait for most of their time, or count and do not time."""
ALONE = ("hostile_sockets", "pdu_fuzz", "data_set_fuzz", "soak")
SUBJECTS = (*BESIDE, *ALONE)
AT_ONCE = 2
JSON = REPOSITORY / "build" / "torture" / "torture.json"


def main() -> int:
    """Torture, print, and write; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description="What is lost when everything goes wrong.")
    parser.add_argument(
        "--only",
        type=lambda given: given.split(","),
        default=SUBJECTS,
        metavar="SUBJECT,...",
        help=f"of {', '.join(SUBJECTS)}; what else torture.json holds stays",
    )
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_const", dest="size", const=Size.QUICK)
    size.add_argument("--long", action="store_const", dest="size", const=Size.LONG)
    given = parser.parse_args()
    if unknown := set(given.only) - set(SUBJECTS):
        parser.error(f"no subject is called {', '.join(sorted(unknown))}")
    torture = _Torture(given.seed, given.size or Size.SUBMISSION)
    torture.run([name for name in BESIDE if name in given.only], at_once=AT_ONCE)
    torture.run([name for name in ALONE if name in given.only], at_once=1)
    return 0 if torture.met else 1


class _Torture:
    """Subjects as they are measured.

    Attributes:
        met: Whether all goals were, until now.
    """

    def __init__(self, seed: int, size: Size) -> None:
        self.met = True
        self._seed, self._size = seed, size
        self._console = Console(width=goals.WIDTH)
        self._console.print(f"Seed {seed}")
        self._writing = threading.Lock()
        JSON.parent.mkdir(parents=True, exist_ok=True)

    def run(self, names: Sequence[str], *, at_once: int) -> None:
        """Measure subjects, some at once; each in a process of its own."""
        lanes: SimpleQueue[int] = SimpleQueue()
        for lane in range(at_once):
            lanes.put(lane)

        def one(name: str) -> None:
            lane = lanes.get()
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                result = pool.submit(measured, name, self._seed, self._size, lane).result()
            lanes.put(lane)
            self._note(name, result)

        with ThreadPoolExecutor(at_once) as pool:
            for done in [pool.submit(one, name) for name in names]:
                done.result()

    def _note(self, name: str, result: dict[str, Any]) -> None:
        """Print and write one result; what else the file holds stays."""
        with self._writing:
            subjects: dict[str, Any] = json.loads(JSON.read_text()) if JSON.exists() else {}
            subjects[name] = result
            JSON.write_text(json.dumps(subjects, indent=2) + "\n")
            self.met = self.met and result["met"]
            title = f"{name.replace('_', ' ')}, {result['took_s']:.0f} s"
            self._console.print(goals.table(title, result["figures"]))
            if result["failed"]:
                self._console.print(f"failed: {result['failed']}", style="bold red", markup=False)
            if result["folder"]:
                self._console.print(f"What it wrote is in {result['folder']}.", markup=False)


if __name__ == "__main__":
    sys.exit(main())
